"""`cloudexec doctor` as it is typed, against an account on loopback."""

import json

import pytest

from cloudexec.cli.doctor import wrapped
from cloudexec.cli.main import run
from tests.specs.executors import pocket


@pytest.fixture(scope="module")
def aws():
    """The pocket AWS that other tests use, too; programs are pointed at it."""
    found = pocket()
    found.faults.clear()
    with found.activated():
        yield found
    found.faults.clear()


@pytest.fixture
def faults(aws):
    yield aws.faults
    aws.faults.clear()


@pytest.fixture
def doctor(aws, capsys, monkeypatch):
    """Runs it; (exit code, stdout)."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", aws.env_of("doctor")["AWS_ACCESS_KEY_ID"])

    def go(*words):
        capsys.readouterr()
        code = run(["doctor", *words])
        told = capsys.readouterr()
        assert told.err == ""
        return code, told.out

    return go


def test_a_screen_of_80_columns(doctor):
    code, screen = doctor()
    assert code == 0
    lines = screen.splitlines()
    wide = [line for line in lines[:-1] if len(line) > 80]
    assert all(len(line.removeprefix(" " * 24).split()) == 1 for line in wide)  # a word that is to be copied
    assert lines[0].startswith("ok       python         Python 3.")
    assert lines[-1].startswith("`cloudexec doctor --run`")
    assert "CLOUDEXEC_CLUSTER" not in screen


def test_more_is_told_with_v(doctor, aws):
    _, screen = doctor("-v", "--only", "lambda")
    assert "CLOUDEXEC_FUNCTION" in screen
    assert aws.setup["bucket"] in screen


def test_each_finding_that_is_not_well_is_followed_by_what_to_do(doctor, faults):
    faults.error("AccessDenied", "no", status=403, service="s3", operation="PutObject")
    code, screen = doctor("--only", "lambda")
    assert code == 1
    (line,) = [number for number, line in enumerate(screen.splitlines()) if line.startswith("failed   bucket")]
    below = " ".join(" ".join(screen.splitlines()[line : line + 5]).split())
    assert "s3:PutObject is missing" in below
    assert "-> attach the rights of `cloudexec policy client`" in below


def test_who_has_fewer_rights_is_told_so_once(doctor, faults):
    for service, operation in (("iam", "GetRole"), ("cloudformation", "DescribeStacks")):
        faults.error("AccessDenied", "no", status=403, service=service, operation=operation)
    code, screen = doctor("--only", "lambda")
    assert code == 0
    assert screen.count("nothing need be wrong") == 1
    assert "cloudformation:DescribeStacks is not allowed" in " ".join(screen.split())
    assert "iam:GetRole is not allowed" in " ".join(screen.split())


def test_programs_get_one_document_and_the_same_exit_code(doctor, faults):
    code, text = doctor("--json", "--max-workers", "5000")
    told = json.loads(text)
    assert code == 0
    assert told["summary"]["failed"] == 0
    assert told["summary"]["ok"] == sum(one["level"] == "ok" for one in told["findings"])
    (width,) = [one for one in told["findings"] if one["subject"] == "width" and "workers" in one["facts"]]
    assert (width["level"], width["facts"]["workers"]) == ("warning", 5000)
    assert width["facts"]["fit"] == width["facts"]["vcpus_quota"] < 5000
    faults.error("ExpiredToken", "over", status=403, service="sts")
    code, text = doctor("--json")
    assert code == 1
    assert json.loads(text)["summary"]["failed"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [pytest.param("region =", "TOML", id="no TOML"), pytest.param("regoin = 'x'", "regoin", id="no such setting")],
)
def test_a_configuration_file_that_cannot_be_read_is_a_finding(doctor, aws, tmp_path, monkeypatch, text, words):
    path = tmp_path / "config.toml"
    path.write_text(text)
    monkeypatch.setenv("CLOUDEXEC_CONFIG", str(path))
    aws.forget_requests()
    code, told = doctor("--json")
    (finding,) = [one for one in json.loads(told)["findings"] if one["level"] == "failed"]
    assert (code, finding["subject"]) == (1, "settings")
    assert words in finding["text"]
    assert finding["remedy"]
    assert aws.requests() == {}


@pytest.mark.parametrize("words", [["--max-workers", "0"], ["--only", "ec2"], ["--nothing"]])
def test_wrong_usage(aws, words):
    assert run(["doctor", *words]) == 2


def test_what_is_to_be_copied_is_not_broken():
    arn = "arn:aws:ecs:eu-west-1:123456789012:task-definition/cloudexec-worker-of-somebody:1"
    assert arn in wrapped(f"the definition {arn} is there", 40)


# --- --run ----------------------------------------------------------------------------------------------


def test_one_call_runs_on_each_backend_and_leaves_nothing(doctor, aws):
    code, text = doctor("--run", "--json")
    found = {one["subject"]: one for one in json.loads(text)["findings"] if one["facts"].get("first_s")}
    assert code == 0
    assert set(found) == {"run on ecs", "run on lambda"}
    for one in found.values():
        assert one["facts"]["python"].startswith("3.")
        assert one["facts"]["usd"] < 0.01
    assert [left for left in aws.leftovers() if "/summaries/" not in left] == []


def test_a_call_that_fails_is_told_in_the_executors_words(doctor, faults):
    faults.error("AccessDeniedException", "not authorized", status=403, service="lambda", operation="Invoke")
    code, text = doctor("--run", "--only", "lambda", "--json")
    (finding,) = [one for one in json.loads(text)["findings"] if one["subject"] == "run on lambda"]
    assert (code, finding["level"]) == (1, "failed")
    assert finding["text"].startswith("FunctionDenied: ")
    assert finding["remedy"]


def test_no_call_is_run_where_it_could_not_succeed(doctor, monkeypatch):
    monkeypatch.setenv("CLOUDEXEC_FUNCTION", "nobodys")
    code, text = doctor("--run", "--only", "lambda", "--json")
    last = json.loads(text)["findings"][-1]
    assert code == 1
    assert (last["subject"], last["level"]) == ("run on lambda", "unknown")
