"""A pickle that lies in the store is unpickled only if it is the one that was sent."""

import numpy as np
import pytest

from cloudexec.errors import SignatureError
from cloudexec.ids import BlobRef
from cloudexec.serialization.blobs import BlobBook
from cloudexec.serialization.loading import load
from cloudexec.serialization.packer import Packer
from cloudexec.store.directory import DirectoryStore
from cloudexec.store.memory import address_of
from cloudexec.wire.parts import pack_parts


@pytest.fixture
def store(tmp_path):
    return DirectoryStore([tmp_path])


@pytest.fixture
def packer(store):
    return Packer(BlobBook(store, address_of), inline_bytes=10_000)


VALUE = {"text": "x" * 50_000, "array": np.arange(100_000), "small": np.arange(3_000)}


def test_a_large_pickle_with_buffers_comes_back_writable(packer, store):
    packed = packer.pack_arguments((VALUE,), {})
    assert len(packed.packed) < 2_000
    (value,), _ = load(packed.packed, lambda ref: store.get(ref.name))
    assert value["text"] == VALUE["text"]
    for name in ("array", "small"):
        assert (value[name] == VALUE[name]).all()
        value[name][0] = 7


def test_a_pickle_that_was_exchanged_in_the_store_is_refused(packer, store):
    packed = packer.pack_arguments((VALUE,), {})
    stream = packed.refs[0].name
    content = bytes(store.get(stream))
    store.put(stream, [content.replace(b"x", b"y")])
    with pytest.raises(SignatureError, match="not the one that was sent"):
        load(packed.packed, lambda ref: store.get(ref.name))


def test_a_pickle_that_lies_in_the_store_without_a_hash_of_its_own_is_refused(store):
    """Nobody writes such parts; whoever could have them read would only have to write into the store."""
    ref = BlobRef.unhashed(4)
    store.put(ref.name, [b"N."])
    with pytest.raises(SignatureError, match="nothing protects it"):
        load(pack_parts([ref]), lambda ref: store.get(ref.name))
