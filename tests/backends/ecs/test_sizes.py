"""Fargate rents sizes from a table; whoever asks for another one is told the next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.backends.ecs.sizes import (
    FARGATE_MEMORY_MIB,
    FARGATE_SIZES,
    Size,
    check_fargate_size,
    check_growing,
    next_size,
)
from cloudexec.errors import SettingsError


@pytest.mark.parametrize(
    ("vcpu", "memory_mib"),
    [
        pytest.param(0.25, 512, id="the smallest"),
        pytest.param(0.25, 2048, id="0.25 vCPU has steps of its own"),
        pytest.param(1, 2048, id="the default"),
        pytest.param(4, 30 * 1024, id="4 vCPU end at 30 GiB"),
        pytest.param(8, 20 * 1024, id="8 vCPU in steps of 4 GiB"),
        pytest.param(16, 120 * 1024, id="16 vCPU in steps of 8 GiB"),
        pytest.param(32, 244 * 1024, id="the largest"),
    ],
)
def test_these_sizes_exist(vcpu, memory_mib):
    check_fargate_size(vcpu, memory_mib)


@pytest.mark.parametrize(
    ("vcpu", "memory_mib", "next_one"),
    [
        pytest.param(1, 1024, "vcpu=1, memory_mib=2048", id="too little memory for its CPUs"),
        pytest.param(1, 2500, "vcpu=1, memory_mib=3072", id="between two steps"),
        pytest.param(1, 9000, "vcpu=2, memory_mib=9216", id="more memory than its CPUs can have"),
        pytest.param(3, 4096, "vcpu=4, memory_mib=8192", id="no such number of CPUs"),
        pytest.param(8, 17 * 1024, "vcpu=8, memory_mib=20480", id="steps of 4 GiB"),
        pytest.param(32, 64 * 1024, "vcpu=32, memory_mib=122880", id="32 vCPU have three sizes"),
    ],
)
def test_another_size_is_refused_and_the_next_one_named(vcpu, memory_mib, next_one):
    with pytest.raises(SettingsError) as caught:
        check_fargate_size(vcpu, memory_mib)
    assert f"vcpu={vcpu:g}, memory_mib={memory_mib}" in caught.value.what
    assert next_one in caught.value.remedy


def test_beyond_the_largest_the_remedy_is_capacity_of_your_own():
    with pytest.raises(SettingsError, match="launch_type='EC2'"):
        check_fargate_size(64, 262144)


@given(vcpu=st.floats(0.1, 40), memory_mib=st.integers(1, 260_000))
def test_the_next_size_is_the_smallest_that_has_both(vcpu, memory_mib):
    size = next_size(vcpu, memory_mib)
    enough = [each for each in FARGATE_SIZES if each.vcpu >= vcpu and each.memory_mib >= memory_mib]
    assert size == min(enough, default=None)


def test_the_table_has_whole_gibibytes_but_for_the_smallest():
    assert {mib for memory in FARGATE_MEMORY_MIB.values() for mib in memory if mib % 1024} == {512}


@pytest.mark.parametrize(
    ("first", "sizes", "on_fargate"),
    [
        pytest.param(Size(1, 2048), [Size(1, 4096), Size(4, 8192)], True, id="more memory, then more of both"),
        pytest.param(None, [Size(1, 2048)], True, id="the task definition's own size is not known yet"),
        pytest.param(Size(1, 2000), [Size(1, 3000)], False, id="machines of one's own have any size"),
        pytest.param(Size(1, 2048), [], True, id="none"),
    ],
)
def test_sizes_that_grow(first, sizes, on_fargate):
    check_growing(first, sizes, on_fargate=on_fargate)


@pytest.mark.parametrize(
    ("first", "sizes", "what"),
    [
        pytest.param(Size(1, 2048), [Size(1, 2048)], "1 vCPU and 2048 MiB is not larger", id="the same"),
        pytest.param(Size(2, 4096), [Size(1, 8192)], "1 vCPU and 8192 MiB is not larger", id="fewer CPUs"),
        pytest.param(None, [Size(1, 4096), Size(1, 3072)], "1 vCPU and 3072 MiB is not larger", id="one that shrinks"),
        pytest.param(Size(1, 2048), [Size(1, 5000)], "Fargate has no size", id="not for rent"),
    ],
)
def test_sizes_that_do_not_grow(first, sizes, what):
    with pytest.raises(SettingsError, match=what):
        check_growing(first, sizes, on_fargate=True)
