"""`up` writes its settings into the user's file, `down` takes them out; everything else stays, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.backends.aws_config import from_file
from cloudexec.errors import SettingsError
from cloudexec.infra import settings_file
from cloudexec.infra.stack.look import StackState

OUTPUTS = {
    "Bucket": "cloudexec-1-eu-west-1",
    "Cluster": "cloudexec",
    "Worker": "arn:aws:ecs:eu-west-1:1:task-definition/cloudexec-worker:7",
    "Function": "cloudexec-worker",
    "Subnets": "subnet-1,subnet-2",
    "SecurityGroup": "sg-1",
    "Log": "/cloudexec/cloudexec",
    "ClientPolicy": "arn:aws:iam::1:policy/x",
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def file_of(environ: dict[str, str]) -> Path:
    path = settings_file.path_of(environ)
    assert path is not None
    return path


def settings(name: str = "cloudexec", **more: Any) -> dict[str, Any]:
    return settings_file.settings_of(StackState(name=name, outputs=OUTPUTS), region="eu-west-1", is_public=True, **more)


def test_executors_read_what_is_written(environ: dict[str, str]):
    settings_file.write(settings(), {}, "cloudexec", environ)
    found = {key: each.value for key, each in from_file(environ).items()}
    assert found == {
        "region": "eu-west-1",
        "bucket": "cloudexec-1-eu-west-1",
        "cluster": "cloudexec",
        "task_definition": "cloudexec-worker",  # without a revision: the newest
        "function": "cloudexec-worker",
        "subnets": ("subnet-1", "subnet-2"),
        "security_groups": ("sg-1",),
        "assign_public_ip": True,
        "log_group": "/cloudexec/cloudexec",
    }


def test_a_stack_of_another_name_gets_a_table(environ: dict[str, str]):
    settings_file.write(settings(), {}, "cloudexec", environ)
    written = settings_file.write(settings("alice"), {}, "alice", environ)
    assert written.table == "alice"
    assert "stack" not in from_file(environ)
    assert from_file({**environ, "CLOUDEXEC_PROFILE": "alice"})["stack"].value == "alice"

    settings_file.remove(settings("alice"), "alice", environ)
    assert "[alice]" not in file_of(environ).read_text()
    assert from_file(environ)["bucket"].value == "cloudexec-1-eu-west-1"


OF_A_USER = """\
# My own remarks stay.
memory_mib = 4096   # enough
vcpu = 2

[big] # for the monthly report
memory_mib = 30720
"""


@pytest.mark.parametrize("name", ["cloudexec", "alice"])
def test_what_the_user_wrote_stays(environ: dict[str, str], name: str):
    path = file_of(environ)
    path.parent.mkdir()
    path.write_text(OF_A_USER)
    settings_file.write(settings(name), {}, name, environ)
    text = path.read_text()
    assert all(line in text for line in OF_A_USER.splitlines())
    assert from_file({**environ, "CLOUDEXEC_PROFILE": "big"})["memory_mib"].value == 30720
    assert "bucket" not in from_file({**environ, "CLOUDEXEC_PROFILE": "big"}) or name == "cloudexec"

    settings_file.remove(settings(name), name, environ)
    assert path.read_text().split() == OF_A_USER.split()


def test_what_the_user_has_changed_is_not_taken_back(environ: dict[str, str]):
    settings_file.write(settings(), {}, "cloudexec", environ)
    path = file_of(environ)
    path.write_text(path.read_text().replace('cluster = "cloudexec"', 'cluster = "mine"'))
    settings_file.remove(settings(), "cloudexec", environ)
    assert {key: each.value for key, each in from_file(environ).items()} == {"cluster": "mine"}


def test_a_file_that_holds_nothing_else_goes(environ: dict[str, str]):
    settings_file.write(settings(), {}, "cloudexec", environ)
    settings_file.remove(settings(), "cloudexec", environ)
    assert not file_of(environ).exists()


def test_a_file_that_a_variable_names_stays(tmp_path: Path):
    """Without it, every command and executor would say that the variable is wrong."""
    environ = {"CLOUDEXEC_CONFIG": str(tmp_path / "mine.toml")}
    settings_file.write(settings(), {}, "cloudexec", environ)
    settings_file.remove(settings(), "cloudexec", environ)
    assert from_file(environ) == {}


@pytest.mark.parametrize(
    "line",
    [
        pytest.param('region = "eu-west-1"  # where we are\n', id="the same"),
        pytest.param('bucket = "mine"\n', id="another value"),
        pytest.param('cluster = "mine" # "the" big one\n', id="another value with a comment"),
        pytest.param('subnets = ["subnet-7", "subnet-8"]\n', id="a list"),
        pytest.param("assign_public_ip = false # in our own network\nvcpu = 2\n", id="between others"),
    ],
)
@pytest.mark.parametrize("n_ups", [1, 2])
def test_a_line_of_the_user_comes_back(environ: dict[str, str], line: str, n_ups: int):
    path = file_of(environ)
    path.parent.mkdir()
    path.write_text(line)
    for n in range(n_ups):
        changed = {**settings(), "bucket": f"bucket-{n}", "subnets": [f"subnet-{n}"]}
        settings_file.write(changed, {}, "cloudexec", environ)
        assert from_file(environ)["bucket"].value == f"bucket-{n}"
    settings_file.remove(changed, "cloudexec", environ)
    assert path.read_text().split() == line.split()


def test_what_the_stack_has_no_more_goes(environ: dict[str, str]):
    settings_file.write(settings(), {}, "cloudexec", environ)
    less = {key: value for key, value in settings().items() if key != "function"}
    written = settings_file.write(less, settings(), "cloudexec", environ)
    assert written.removed == ("function",)
    assert "function" not in from_file(environ)


def test_profile_and_endpoint_go_only_if_up_wrote_them(environ: dict[str, str]):
    settings_file.write(settings(profile="work"), {}, "cloudexec", environ)
    assert from_file(environ)["aws_profile"].value == "work"
    settings_file.remove(settings(), "cloudexec", environ)
    assert not file_of(environ).exists()

    file_of(environ).write_text('aws_profile = "mine"\n')
    settings_file.write(settings(), {}, "cloudexec", environ)
    settings_file.remove(settings(), "cloudexec", environ)
    assert file_of(environ).read_text() == 'aws_profile = "mine"\n'


def test_nothing_is_written_twice_nor_to_dev_null(environ: dict[str, str]):
    assert settings_file.write(settings(), {}, "cloudexec", environ).changed
    before = file_of(environ).stat()
    assert not settings_file.write(settings(), {}, "cloudexec", environ).changed
    assert file_of(environ).stat().st_mtime_ns == before.st_mtime_ns
    assert settings_file.write(settings(), {}, "cloudexec", {"CLOUDEXEC_CONFIG": "/dev/null"}).path is None


def test_the_mode_of_the_file_stays_and_a_link_stays_one(environ: dict[str, str], tmp_path: Path):
    real = tmp_path / "dotfiles.toml"
    real.write_text("vcpu = 2\n")
    real.chmod(0o600)
    path = file_of(environ)
    path.parent.mkdir()
    path.symlink_to(real)
    settings_file.write(settings(), {}, "cloudexec", environ)
    assert path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert 'bucket = "cloudexec-1-eu-west-1"' in real.read_text()


@pytest.mark.parametrize(
    ("variables", "overruled"),
    [
        pytest.param({"CLOUDEXEC_BUCKET": "other"}, ["CLOUDEXEC_BUCKET"], id="another value"),
        pytest.param({"CLOUDEXEC_BUCKET": OUTPUTS["Bucket"]}, [], id="the same value"),
        pytest.param({"CLOUDEXEC_SUBNETS": "subnet-1, subnet-2"}, [], id="the same list"),
        pytest.param({"CLOUDEXEC_SUBNETS": "subnet-2"}, ["CLOUDEXEC_SUBNETS"], id="another list"),
        pytest.param({"CLOUDEXEC_ASSIGN_PUBLIC_IP": "yes"}, [], id="the same in another word"),
        pytest.param({"CLOUDEXEC_AWS_PROFILE": "home"}, [], id="a variable that nobody reads"),
        pytest.param({"CLOUDEXEC_MEMORY_MIB": "4096"}, [], id="what up does not write"),
        pytest.param({"CLOUDEXEC_PROFILE": "big"}, [], id="a table that says something else"),
        pytest.param({"CLOUDEXEC_PROFILE": "other"}, ["CLOUDEXEC_PROFILE"], id="a table that says otherwise"),
        pytest.param({"CLOUDEXEC_PROFILE": "none"}, ["CLOUDEXEC_PROFILE"], id="a table that is not there"),
    ],
)
def test_variables_that_overrule_the_file_are_named(
    environ: dict[str, str], variables: dict[str, str], overruled: list[str]
):
    path = file_of(environ)
    path.parent.mkdir()
    path.write_text('[big]\nmemory_mib = 30720\nregion = "eu-west-1"\n[other]\nbucket = "other"\n')
    written = settings_file.write(settings(profile="work"), {}, "cloudexec", {**environ, **variables})
    assert list(written.overruled) == overruled


def test_a_variable_that_cannot_be_read_leaves_the_file_as_it_is(environ: dict[str, str]):
    with pytest.raises(SettingsError, match="CLOUDEXEC_ASSIGN_PUBLIC_IP"):
        settings_file.write(settings(), {}, "cloudexec", {**environ, "CLOUDEXEC_ASSIGN_PUBLIC_IP": "perhaps"})
    assert not file_of(environ).exists()


@pytest.mark.parametrize(
    ("text", "stack", "match"),
    [
        pytest.param("a = [", "cloudexec", "not valid TOML", id="broken"),
        pytest.param("alice = 1\n", "alice", "not a table", id="the name is taken by a value"),
        pytest.param("", "bucket", "the name of a setting", id="the name is that of a setting"),
    ],
)
def test_a_file_that_cannot_take_it_stays_as_it_is(environ: dict[str, str], text: str, stack: str, match: str):
    path = file_of(environ)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(SettingsError, match=match):
        settings_file.write(settings(stack), {}, stack, environ)
    assert path.read_text() == text


WORDS = st.text("abcdefgh #'\"\\é", max_size=12)
USERS = st.dictionaries(st.sampled_from(["image", "prefix", "fallback", "qualifier"]), WORDS.filter(bool), max_size=4)


@given(own=USERS, table=USERS, name=st.sampled_from(["cloudexec", "alice", "big"]))
def test_whatever_the_user_has_comes_out_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, own: dict[str, str], table: dict[str, str], name: str
):
    import tomlkit

    environ = {"CLOUDEXEC_CONFIG": str(tmp_path_factory.getbasetemp() / "c.toml")}
    path = Path(environ["CLOUDEXEC_CONFIG"])
    text = tomlkit.dumps({**own, "big": table})
    path.write_text(text, encoding="utf-8")
    settings_file.write(settings(name), {}, name, environ)
    read = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    assert all(read[key] == value for key, value in own.items())
    assert all(read["big"][key] == value for key, value in table.items())
    settings_file.remove(settings(name), name, environ)
    after = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap() if path.exists() else {}
    assert after == {**own, "big": table} or (name == "big" and not table and after == own)
