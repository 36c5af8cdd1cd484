"""A function made from an image runs calls like one made from a zip: only its entry differs."""

from __future__ import annotations

import os

from tests.awslambda.scene import HANDLER, SOON, double


def where() -> tuple[str, str]:
    return os.environ["AWS_LAMBDA_FUNCTION_NAME"], os.environ.get("AWS_EXECUTION_ENV", "")


def test_a_function_from_an_image_runs_calls(new_function, new_executor):
    config = {"EntryPoint": ["python", "-m", "awslambdaric"], "Command": [HANDLER]}
    name = new_function(image="example.invalid/worker:1", handler="", files=None, ImageConfig=config)
    executor = new_executor(2, function=name)
    assert list(executor.map(double, range(20), timeout=SOON)) == [2 * x for x in range(20)]
    assert executor.submit(where).result(SOON) == (name, "")
