"""Functions from images: the pocket's settings say what an image's ENTRYPOINT is; ImageConfig may override it."""

import platform

import pytest

SOURCE = "import os\ndef handler(e, c): return [os.getcwd(), os.environ.get('AWS_EXECUTION_ENV'), os.environ['A']]\n"


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "main.py").write_text(SOURCE)
    return tmp_path


@pytest.mark.parametrize(
    ("image", "config"),
    [
        pytest.param("of/lambda", {"Command": ["main.handler"]}, id="the image's entrypoint, the function's command"),
        pytest.param(
            "unknown",
            {"EntryPoint": ["python", "-m", "awslambdaric"], "Command": ["main.handler"]},
            id="an entrypoint of the function",
        ),
    ],
)
def test_an_image_runs_what_its_entrypoint_and_command_say(functions, directory, image, config):
    config = {**config, "WorkingDirectory": str(directory)}
    functions.aws.make_function("f", image=image, ImageConfig=config, env={"A": "a"})
    assert functions.invoke().payload == [str(directory), None, "a"]


@pytest.mark.parametrize(
    ("image", "more", "words"),
    [
        pytest.param("unknown", {}, "has no entrypoint", id="an image that the pocket does not know"),
        pytest.param(
            "unknown",
            {"ImageConfig": {"EntryPoint": ["/not/there"]}},
            "fork/exec /not/there: no such file or directory",
            id="an entrypoint that is not there",
        ),
        pytest.param(
            "of/lambda",
            {"ImageConfig": {"WorkingDirectory": "/not/there"}},
            "no such file or directory",
            id="a directory that is not there",
        ),
        pytest.param(
            "of/lambda",
            {"Architectures": ["arm64" if platform.machine() in ("x86_64", "amd64") else "x86_64"]},
            "exec format error",
            id="another architecture",
        ),
    ],
)
def test_an_image_that_cannot_be_started_here(functions, image, more, words):
    functions.aws.make_function("f", image=image, **more)
    told = functions.invoke()
    assert (told.error, told.kind) == ("Unhandled", "Runtime.InvalidEntrypoint")
    assert words in told.message
    assert functions.aws.environments() == []


def test_a_runtime_that_knows_nothing_of_lambda_runs_into_the_init_limit_or_ends(functions):
    config = {"EntryPoint": ["python", "-c", "print('not a runtime')"]}
    functions.aws.make_function("f", image="of/lambda", ImageConfig=config)
    told = functions.invoke()
    assert told.message.endswith("Runtime exited without providing a reason")
    assert "not a runtime" in told.log
