"""`cloudexec image push --use`: a stack that began without images gets to work with one, and goes back."""

from __future__ import annotations

from pathlib import Path

from tests.infra.images.programs import put_podman
from tests.infra.stack.scene import ACCOUNT, OTHER_PYTHON, REGION, Scene

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/cloudexec:0123456789abcdef"


def test_the_function_uses_a_pushed_image_and_goes_back_to_the_bundle(scene: Scene, tmp_path: Path):
    programs = str(put_podman(tmp_path))
    said = scene.run("up", "--yes", "--only", "lambda", "--python", OTHER_PYTHON, "--arch", "arm64")
    assert said.code == 0, said.err
    before = scene.resources()["Function"]

    said = scene.run("image", "push", "--use", "--yes", "--tag", "mine:1", PATH=programs)
    assert (said.code, said.out.splitlines()[0]) == (0, IMAGE), said.err
    after = scene.resources()["Function"]
    assert before != after, "a zip cannot become an image"
    function = scene.client("lambda").get_function(FunctionName=after)
    assert function["Configuration"]["PackageType"] == "Image"
    assert function["Code"]["ImageUri"] == IMAGE
    assert function["Configuration"]["Architectures"] == ["arm64"], "the image's"
    assert f'function = "{after}"' in scene.config.read_text(), "where executors look"

    said = scene.run("up", "--yes", "--parameters", "FunctionImage=")
    assert said.code == 0, said.err
    assert scene.resources()["Function"] == before
