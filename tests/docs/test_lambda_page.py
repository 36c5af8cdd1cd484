"""What docs/lambda.md says in words alone, and no snippet shows."""

from __future__ import annotations

from typing import Any

import pytest

from cloudexec import LambdaExecutor, errors
from cloudexec.ids import new_run_id
from tests.specs.executors import pocket


@pytest.fixture
def narrow() -> dict[str, Any]:
    """A function that has room for one invocation, as settings of an executor."""
    aws = pocket()
    aws.faults.clear()
    name = f"narrow-{new_run_id()}"
    aws.make_function(
        name,
        handler="cloudexec.worker.awslambda.handler",
        files={"README": "cloudexec is imported from outside"},
        memory=1769,
        timeout=6,
        reserved=1,
    )
    return {**aws.lambda_setup(), "function": name, "max_workers": 1}


@pytest.mark.parametrize(
    ("throttle_timeout_s", "kind"),
    [
        pytest.param(1.0, errors.InvocationThrottled, id="the inner executor gives up"),
        pytest.param(900.0, errors.FunctionTimeout, id="the outer call's time is over"),
    ],
)
def test_calls_that_wait_for_each_other_under_one_concurrency_end(narrow, throttle_timeout_s, kind):
    function = narrow["function"]

    def outer() -> int:
        with LambdaExecutor(function, max_workers=1, throttle_timeout_s=throttle_timeout_s) as inner:
            return inner.submit(pow, 2, 3).result()

    with LambdaExecutor(**narrow) as executor:
        assert type(executor.submit(outer).exception(40)) is kind


def test_without_a_bucket_what_is_large_is_refused_by_name(narrow, monkeypatch):
    monkeypatch.delenv("CLOUDEXEC_BUCKET")
    with LambdaExecutor(**{name: value for name, value in narrow.items() if name != "bucket"}) as executor:
        assert executor.submit(len, bytes(200_000)).result(40) == 200_000
        assert "no bucket" in str(executor.submit(len, bytes(6_000_000)).exception(40))
        assert executor.submit(bytes, 3_000_000).result(40) == bytes(3_000_000)
        assert type(executor.submit(bytes, 5_000_000).exception(40)) is errors.PayloadTooLarge
