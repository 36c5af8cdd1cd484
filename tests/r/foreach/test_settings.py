"""What the R user writes becomes executors and options; what cannot be is refused, with what can."""

from __future__ import annotations

import json

import pytest

from cloudexec import LocalExecutor, Retry
from cloudexec.adapters.foreach.settings import loop_options, open_executor
from cloudexec.errors import SettingsError


def test_settings_are_keyword_arguments_of_the_executor() -> None:
    settings = {"max_workers": 3, "timeout_s": 5, "env": {"A": "1"}, "retries": {"crash": 2}}
    with open_executor("local", json.dumps(settings)) as executor:
        assert isinstance(executor, LocalExecutor)
        assert executor.max_workers == 3
        assert executor._options.timeout_s == 5
        assert executor._options.env == {"A": "1"}
        assert executor._options.retry == Retry(crash=2)


def test_no_settings_come_as_an_empty_array() -> None:
    with open_executor("local", "[]") as executor:
        assert executor.max_workers >= 1


def test_one_value_stands_for_a_vector_of_one() -> None:
    with pytest.raises(SettingsError, match="subnet") as caught:
        open_executor("ecs", json.dumps({"subnets": 7, "cluster": "c"}))
    assert "[7]" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        pytest.param("sky", {}, ['"sky"', '"local", "ecs", "lambda"'], id="an executor that does not exist"),
        pytest.param("local", {"workers": 2}, ["'workers'", "max_workers"], id="a setting that does not exist"),
        pytest.param("local", {"max_workers": 0}, ["max_workers=0"], id="a value that cannot be"),
        pytest.param("local", {"initializer": "f"}, ["'initializer'"], id="a setting that only Python can write"),
        pytest.param("local", {"retries": {"often": 1}}, ["'often'", "crash"], id="a cause that does not exist"),
        pytest.param("local", [2], ["no names"], id="a setting without a name"),
    ],
)
def test_settings_that_cannot_be(kind: str, settings: object, words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        open_executor(kind, json.dumps(settings))
    for word in words:
        assert word in str(caught.value)


def test_options_of_a_loop() -> None:
    assert loop_options('{"timeout_s": 2.5, "retries": 1, "seed": 42}') == {"timeout_s": 2.5, "retries": 1, "seed": 42}
    assert loop_options('{"retries": {"error": 1}}') == {"retries": Retry(error=1)}
    assert loop_options("[]") == {}


@pytest.mark.parametrize("options", [{"chunk": 1}, {"seed": 1.5}, {"seed": True}, {"retries": {"all": 1}}])
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        loop_options(json.dumps(options))
