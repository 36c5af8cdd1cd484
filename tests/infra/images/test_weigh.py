"""What an image weighs, read from archives as each generation of tools writes them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudexec.infra.images.weigh import Layer, Weight, advice, megabytes, weigh

SITE = "opt/worker/lib/python3.13/site-packages/"


def layer(**files):
    """A layer's tar: `numpy__a` is SITE/numpy/a, others lie at the root."""
    return tar({(SITE + name.replace("__", "/") if "__" in name else name): data for name, data in files.items()})


def tar(files):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


HISTORY = [
    {"created_by": "/bin/sh -c #(nop) ADD file:" + "ab" * 32 + " in / "},
    {"created_by": "/bin/sh -c #(nop) ENV A=1", "empty_layer": True},
    {"created_by": "|1 A=b /bin/sh -c pip install\n   numpy"},
]
ONE, TWO = layer(hostname=b"x" * 1000), layer(numpy__a=random.Random(1).randbytes(50_000), numpy__b=b"0" * 50_000)


def archive_of_podman():
    """Layers as files, papers last."""
    config = json.dumps({"history": HISTORY}).encode()
    manifest = [{"Config": "c.json", "Layers": ["one.tar", "two.tar"]}]
    return tar({"two.tar": TWO, "one.tar": ONE, "c.json": config, "manifest.json": json.dumps(manifest).encode()})


def archive_of_old_docker():
    """A folder for each layer, papers between them."""
    config = json.dumps({"history": HISTORY}).encode()
    manifest = [{"Config": "c.json", "Layers": ["1/layer.tar", "2/layer.tar"]}]
    files = {"1/VERSION": b"1.0", "1/json": b"{}", "1/layer.tar": ONE, "c.json": config, "2/layer.tar": TWO}
    return tar({**files, "manifest.json": json.dumps(manifest).encode(), "repositories": b"{}"})


def archive_of_new_docker():
    """The OCI layout: everything by its digest, layers compressed."""
    blobs = [json.dumps({"history": HISTORY}).encode(), gzip.compress(ONE), gzip.compress(TWO)]
    names = [f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}" for blob in blobs]
    manifest = [{"Config": names[0], "Layers": names[1:]}]
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": b'{"manifests": []}'}
    return tar({**files, **dict(zip(names, blobs, strict=True)), "manifest.json": json.dumps(manifest).encode()})


@pytest.fixture(
    params=[archive_of_podman, archive_of_old_docker, archive_of_new_docker], ids=lambda make: make.__name__
)
def weight(request):
    return weigh(io.BytesIO(request.param()))


def test_layers_are_told_in_the_images_order_with_what_made_them(weight):
    assert [layer.made_by for layer in weight.layers] == ["ADD /", "pip install numpy"]
    assert [layer.unpacked for layer in weight.layers] == [len(ONE), len(TWO)]
    assert weight.unpacked == len(ONE) + len(TWO)


def test_the_compressed_size_is_what_gzip_makes_of_it(weight):
    for layer, data in zip(weight.layers, (ONE, TWO), strict=True):
        assert layer.compressed == pytest.approx(len(gzip.compress(data, 6)), abs=100)


def test_of_a_large_layer_a_part_is_compressed_and_the_rest_estimated():
    random_bytes = random.Random(2).randbytes(1 << 20)
    data = tar({str(number): random_bytes if number % 3 else bytes(1 << 20) for number in range(17)})
    (found,) = weigh(io.BytesIO(tar({"a.tar": data}))).layers
    assert found.unpacked == len(data)
    assert found.compressed == pytest.approx(len(gzip.compress(data, 6)), rel=0.15)


def test_packages_weigh_what_their_folders_hold(weight):
    assert weight.packages == {"numpy": 100_000}


def test_the_largest_layer_is_the_one_that_takes_longest_to_pull(weight):
    assert [layer.made_by for layer in weight.largest(1)] == ["pip install numpy"]


def test_a_layer_that_this_python_cannot_unpack_keeps_its_size():
    packed = b"\x28\xb5\x2f\xfd" + bytes(10_000)
    found = weigh(io.BytesIO(tar({"a.tar": packed})))
    assert [(layer.unpacked, layer.compressed) for layer in found.layers] == [(10_004, 10_004)]


def test_compilers_and_cuda_are_seen_wherever_they_lie():
    files = {"./usr/bin/x86_64-linux-gnu-gcc-12": b"x", SITE + "torch/lib/libtorch_cuda.so": b"y" * 9}
    found = weigh(io.BytesIO(tar({"a.tar": tar(files)})))
    assert (found.compilers, found.cuda, found.packages) == (("x86_64-linux-gnu-gcc-12",), 9, {"torch": 9})


class Pipe(io.RawIOBase):
    """Gives what it has, never all that it is asked for."""

    def __init__(self, data, seed):
        self._data, self._random = io.BytesIO(data), random.Random(seed)

    def readable(self):
        return True

    def readinto(self, buffer):
        data = self._data.read(min(len(buffer), self._random.randint(1, 5000)))
        buffer[: len(data)] = data
        return len(data)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from([archive_of_podman, archive_of_new_docker]))
def test_however_a_pipe_cuts_the_stream_the_weight_is_the_same(seed, make):
    whole = weigh(io.BytesIO(make()))
    pieces = weigh(io.BufferedReader(Pipe(make(), seed)))
    assert pieces == whole


# --- judging -------------------------------------------------------------------------------------

MB = 10**6


def of(compressed=50 * MB, unpacked=100 * MB, **more):
    return Weight(layers=(Layer(unpacked=unpacked, compressed=compressed),), **more)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        pytest.param(of(), [], id="small: nothing to say"),
        pytest.param(of(compressed=151 * MB), ["layers of zstd"], id="middling"),
        pytest.param(of(compressed=251 * MB), ["a SOCI index"], id="large"),
        pytest.param(of(unpacked=11 * 1024**3), ["larger than Lambda takes"], id="too large for Lambda"),
        pytest.param(of(cuda=2000 * MB), ["2000 MB of CUDA libraries"], id="no GPU there"),
        pytest.param(of(packages={"jupyterlab": 1}), ["jupyterlab: workers have no use"], id="nobody looks"),
        pytest.param(of(compilers=("gcc-12",)), ["compilers (gcc-12) are left in"], id="nothing to compile"),
        pytest.param(of(packages={"scipy": 90 * MB, "six": 1}), ["largest packages: scipy 90 MB"], id="by name"),
        pytest.param(of(packages={"botocore": 23 * MB}), [], id="what cloudexec itself needs"),
    ],
)
def test_what_slows_a_start(weight, words):
    said = advice(weight)
    assert len(said) == len(words)
    for sentence, word in zip(said, words, strict=True):
        assert word in sentence


@pytest.mark.parametrize(("size", "text"), [(241_300_000, "241 MB"), (1_250_000, "1.2 MB"), (0, "0.0 MB")])
def test_sizes_as_people_read_them(size, text):
    assert megabytes(size) == text
