"""Environment variables and the configuration file: what they say, and what is wrong with them by name."""

import pytest

from cloudexec.backends.aws_config import KEYS, Found, config_path, from_arguments, from_environment, from_file
from cloudexec.errors import SettingsError

FILE = """
cluster = "ml"
subnets = ["subnet-1", "subnet-2"]
spot = true
tags = { team = "x" }

[big]
cluster = "huge"
vcpu = 4
memory_mib = 8192
"""


@pytest.fixture
def environ(tmp_path):
    (tmp_path / "cloudexec").mkdir()
    return {"XDG_CONFIG_HOME": str(tmp_path), "HOME": "/nonexistent"}


def write(environ, text):
    path = config_path(environ)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        pytest.param("CLOUDEXEC_CLUSTER", "ml", "cluster", "ml", id="text"),
        pytest.param("CLOUDEXEC_SUBNETS", "a, b,", "subnets", ("a", "b"), id="list"),
        pytest.param("CLOUDEXEC_SPOT", "Yes", "spot", True, id="yes"),
        pytest.param("CLOUDEXEC_ASSIGN_PUBLIC_IP", "0", "assign_public_ip", False, id="no"),
        pytest.param("CLOUDEXEC_VCPU", "0.5", "vcpu", 0.5, id="number"),
        pytest.param("CLOUDEXEC_MEMORY_MIB", "2048", "memory_mib", 2048, id="whole number"),
        pytest.param("CLOUDEXEC_OOM_SIZES", "2:8192,4:16384", "oom_sizes", ((2, 8192), (4, 16384)), id="sizes"),
        pytest.param("CLOUDEXEC_TAGS", "team=x,cost=a=b", "tags", {"team": "x", "cost": "a=b"}, id="table"),
    ],
)
def test_a_variable_says(variable, text, key, value):
    assert from_environment({variable: text}) == {key: Found(value, f"environment variable {variable}")}


def test_an_empty_variable_and_somebody_elses_say_nothing():
    assert from_environment({"CLOUDEXEC_CLUSTER": "", "CLOUDEXEC_WORKER": "{}", "AWS_REGION": "x"}) == {}


@pytest.mark.parametrize(
    ("variable", "text", "what"),
    [
        ("CLOUDEXEC_SPOT", "perhaps", "is not true or false"),
        ("CLOUDEXEC_VCPU", "many", "is not a number"),
        ("CLOUDEXEC_SLOTS", "1.5", "is not a whole number"),
        ("CLOUDEXEC_SUBNETS", ",", "is not a list of texts"),
        ("CLOUDEXEC_OOM_SIZES", "8192", "is not a list of (vcpu, memory_mib)"),
        ("CLOUDEXEC_TAGS", "team", "is not a table of texts"),
        ("CLOUDEXEC_ENDPOINT_URL", "127.0.0.1:4566", "is not a URL that begins with https:// or http://"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(variable, text, what):
    with pytest.raises(SettingsError) as caught:
        from_environment({variable: text})
    assert caught.value.what.startswith(f"{variable}: ")
    assert what in caught.value.what


def test_the_top_of_the_file_holds_always_and_a_table_when_it_is_named(environ):
    path = write(environ, FILE)
    plain = from_file(environ)
    assert plain["cluster"] == Found("ml", str(path))
    assert plain["subnets"].value == ("subnet-1", "subnet-2")
    assert plain["tags"].value == {"team": "x"}
    assert "vcpu" not in plain
    big = from_file({**environ, "CLOUDEXEC_PROFILE": "big"})
    assert big["cluster"] == Found("huge", f"{path}, table [big]")
    assert (big["vcpu"].value, big["memory_mib"].value, big["spot"].value) == (4.0, 8192, True)


def test_no_file_says_nothing(environ):
    assert from_file(environ) == {}


def test_the_file_may_lie_elsewhere(environ, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text('bucket = "b"')
    assert from_file({**environ, "CLOUDEXEC_CONFIG": str(other)})["bucket"].value == "b"


@pytest.mark.parametrize(
    ("text", "more", "what", "remedy"),
    [
        pytest.param('clusster = "x"', {}, "'clusster' is unknown", "did you mean 'cluster'?", id="a slip"),
        pytest.param('[big]\nsubnet = ["x"]', {}, "table [big]: 'subnet' is unknown", "'subnets'", id="in a table"),
        pytest.param("xyzzy = 1", {}, "'xyzzy' is unknown", "keys are arch,", id="nothing like it"),
        pytest.param("cluster = 3", {}, "cluster=3 is not a text", "correct its value", id="of another type"),
        pytest.param("slots = true", {}, "slots=True is not a whole number", "correct", id="a truth is no number"),
        pytest.param("subnets = [1]", {}, "subnets=[1] is not a list of texts", "correct", id="a list of others"),
        pytest.param("cluster = ", {}, "is not valid TOML", "correct the line", id="broken"),
        pytest.param(FILE, {"CLOUDEXEC_PROFILE": "small"}, "no table [small]", "tables are big", id="no such table"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(environ, text, more, what, remedy):
    path = write(environ, text)
    with pytest.raises(SettingsError) as caught:
        from_file({**environ, **more})
    assert str(path) in caught.value.what
    assert what in caught.value.what
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("more", "what"),
    [
        pytest.param({"CLOUDEXEC_CONFIG": "/nonexistent/x.toml"}, "no such file", id="a file that was named"),
        pytest.param({"CLOUDEXEC_PROFILE": "big"}, "there is no file", id="a table of no file"),
    ],
)
def test_a_file_that_somebody_counts_on_must_be_there(environ, more, what):
    with pytest.raises(SettingsError, match=what):
        from_file({**environ, **more})


def test_arguments_are_read_like_the_file_and_none_says_nothing():
    given = from_arguments({"subnets": ["a"], "cluster": None, "spot": False})
    assert given == {"subnets": Found(("a",), "argument"), "spot": Found(False, "argument")}
    with pytest.raises(SettingsError, match="did you mean 'cluster'"):
        from_arguments({"cluter": "x"})


def test_no_key_is_also_the_name_of_a_variable_with_another_meaning():
    assert not {"config", "profile", "worker", "key"} & set(KEYS)
