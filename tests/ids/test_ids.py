"""Names of runs and of what belongs to them."""

import hashlib
import re

import pytest

from cloudexec.ids import BlobRef, attempt_id, call_id, digest_in, new_run_id, slot_id
from cloudexec.store import directory


def test_a_run_id_starts_with_utc_time_and_ends_with_random_bits():
    assert re.fullmatch(r"r20261121-052301-[0-9a-f]{6}", new_run_id(now_s=1795238581.9))


def test_a_run_id_is_of_now_by_default():
    assert re.fullmatch(r"r\d{8}-\d{6}-[0-9a-f]{6}", new_run_id())


def test_run_ids_sort_by_age():
    times = [0, 59, 60, 86_399, 86_400, 951_782_400, 1_000_000_000, 4_102_444_800]
    ids = [new_run_id(now_s=now_s) for now_s in times]
    assert sorted(ids) == ids


def test_runs_of_the_same_second_have_different_ids():
    assert len({new_run_id(now_s=0) for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("made", "text"),
    [
        pytest.param(call_id("r1", 17), "r1/17", id="call"),
        pytest.param(attempt_id("r1", 17, 2), "r1/17#2", id="attempt"),
        pytest.param(slot_id("w1", 0), "w1.0", id="slot"),
    ],
)
def test_an_id_reads_as(made, text):
    assert made == text


def test_a_blob_is_named_by_its_hash():
    digest = hashlib.sha256(b"content").digest()
    assert BlobRef(digest, 7).name == f"blobs/{digest.hex()}"


def test_a_blobs_name_is_a_store_name(tmp_path):
    store = directory.DirectoryStore([tmp_path])
    store.put(BlobRef(bytes(32), 0).name, [b""])
    assert list(store.names()) == [f"blobs/{'00' * 32}"]


HASHED = BlobRef(hashlib.sha256(b"content").digest(), 7)


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        pytest.param(HASHED.name, HASHED.digest, id="a blob under its hash"),
        pytest.param(BlobRef.unhashed(7).name, None, id="a blob under a random name"),
        pytest.param("blobs/a", None, id="too short"),
        pytest.param(HASHED.name + "00", None, id="too long"),
        pytest.param(HASHED.name.upper(), None, id="upper case"),
        pytest.param(HASHED.name.replace("/", "-"), None, id="not among the blobs"),
        pytest.param("blobs/" + "x" * 64, None, id="no digits"),
        pytest.param("journal/00000001", None, id="something else"),
    ],
)
def test_a_name_promises_a_hash_or_none(name, digest):
    assert digest_in(name) == digest


def test_random_names_are_different_each_time():
    assert len({BlobRef.unhashed(7).name for _ in range(100)}) == 100
