"""`R(...)` as a value: settings, copies, pickles; no R is needed for that."""

import pickle

import cloudpickle
import pytest

from cloudexec import R, RObject, errors
from cloudexec.r.robject import RFiles

ADD = R("function(x, y) x + y", packages=["stats"], env={"A": "1"}, timeout_s=5)


def test_it_is_a_plain_value():
    assert R("function(x, y) x + y", packages=["stats"], env={"A": "1"}, timeout_s=5) == ADD
    assert R("function(x, y) x - y") != ADD
    assert len({ADD, R("1"), R("1")}) == 2
    for dumps in (pickle.dumps, cloudpickle.dumps):
        assert pickle.loads(dumps(ADD)) == ADD


def test_a_pickle_of_one_needs_no_r_and_is_small():
    assert len(pickle.dumps(R("function(x) x"))) < 500


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        pytest.param({"code": ""}, "must be text", id="no code"),
        pytest.param({"code": None}, "must be text", id="no text"),
        pytest.param({"returns": "dict"}, "returns='dict'", id="unknown returns"),
        pytest.param({"isolation": "none"}, "isolation='none'", id="unknown isolation"),
        pytest.param({"engine": "reticulate"}, "engine='reticulate'", id="unknown engine"),
        pytest.param({"packages": ["a; quit()"]}, "no name of an R package", id="code as a package"),
        pytest.param({"timeout_s": 0}, "timeout_s=0", id="no time"),
        pytest.param({"timeout_s": "1"}, "timeout_s='1'", id="time as text"),
        pytest.param({"env": {"A": 1}}, "env", id="a number in the environment"),
        pytest.param({"outputs": ["/etc/passwd"]}, "outputs", id="an absolute path"),
        pytest.param({"outputs": ["../*.rds"]}, "outputs", id="a path that leads out"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings, named):
    with pytest.raises(errors.SettingsError, match=named):
        R(**{"code": "1", **settings})


def test_one_package_may_be_given_as_text():
    assert R("1", packages="lsmeans").packages == ("lsmeans",)


def test_a_file_is_read_when_the_value_is_made(tmp_path):
    script = tmp_path / "model.R"
    script.write_text('x <- "é"\n', encoding="utf-8")
    made = R.file(script, packages=["stats"])
    script.unlink()
    assert (made.code, made.name, made.packages) == ('x <- "é"\n', "model.R", ("stats",))


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "old.R").write_bytes(b"x <- '\xe9'")
    with pytest.raises(errors.SettingsError, match=r"old\.R is not UTF-8"):
        R.file(tmp_path / "old.R")


@pytest.mark.parametrize("name", ["lm", "stats::lm", "stats:::Pillai", "`my function`", "base::`+`", ".libPaths"])
def test_a_function_is_called_by_name(name):
    assert R.call(name).kind == "call"


@pytest.mark.parametrize("name", ["", "lm()", "stats::", "a b", "lm; quit()", 3])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(errors.SettingsError, match="no name of an R function"):
        R.call(name)


def test_with_env_adds_to_a_copy():
    more = ADD.with_env(MODEL_CONFIG="{}", A="2")
    assert (dict(ADD.env), dict(more.env)) == ({"A": "1"}, {"A": "2", "MODEL_CONFIG": "{}"})


def test_two_streams_are_one_too_many():
    streams = R.streams(1)
    with pytest.raises(errors.SettingsError, match="2 streams"):
        ADD(streams[0], streams[1])


@pytest.mark.parametrize(
    "error",
    [
        errors.RCrashed("gone", exit_code=3),
        errors.RPackageMissing("no such package", packages=("brms",)),
        errors.RConversionError("a set", "args[0]", remedy="make it a list"),
        errors.RTimeout("too long"),
        errors.RMissing("no R"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error):
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), twin.args, str(twin)) == (type(error), error.args, str(error))
    for name in ("exit_code", "packages", "path"):
        assert getattr(twin, name, None) == getattr(error, name, None)


def test_an_object_of_rs_shows_itself():
    made = RObject(data=b"X\n" + bytes(3000), r_class=("lm",), r_size=2000.0, head="Call:\nlm(y ~ x)")
    assert repr(made) == "<RObject lm, 3,002 bytes>\n  Call:\n  lm(y ~ x)"
    bulky = RObject(data=b"X\n" + bytes(300_000), r_class=("formula",), r_size=700.0)
    assert "of which R counts 700" in repr(bulky)


def test_an_object_of_rs_is_saved_and_loaded(tmp_path):
    made = RObject(data=b"X\n" + bytes(8))
    made.save(tmp_path / "a.rds")
    assert RObject.load(tmp_path / "a.rds") == made
    (tmp_path / "b.rds").write_bytes(b"no rds")
    with pytest.raises(errors.RConversionError, match="no RDS stream"):
        RObject.load(tmp_path / "b.rds")


def test_files_are_written_below_the_directory_only(tmp_path):
    made = RFiles(value=1, files={"plots/a.png": b"png", "m.rds": b"rds"})
    assert [path.relative_to(tmp_path).as_posix() for path in made.save(tmp_path)] == ["plots/a.png", "m.rds"]
    assert (tmp_path / "plots" / "a.png").read_bytes() == b"png"
    with pytest.raises(errors.RConversionError, match="outside"):
        RFiles(files={"../x": b""}).save(tmp_path)
