"""The sample of the oldest Python."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.sampling import sample_of

NODES = st.lists(
    st.tuples(
        st.builds("tests/{}.py::test[{}]".format, st.sampled_from("abc"), st.integers(0, 60)),
        st.sampled_from(["", "ecs"]),
    ),
    unique_by=lambda test: test[0],
)


def groups(tests):
    return Counter((nodeid.partition("::")[0], kind) for nodeid, kind in tests)


@given(NODES)
def test_each_file_and_kind_is_represented_by_its_part(tests):
    chosen = sample_of(tests, one_in=5)
    assert groups(test for test in tests if test[0] in chosen) == {
        group: (count + 4) // 5 for group, count in groups(tests).items()
    }


@given(NODES, st.randoms())
def test_the_order_in_which_tests_were_found_changes_nothing(tests, random):
    shuffled = random.sample(tests, len(tests))
    assert sample_of(shuffled) == sample_of(tests)


@given(NODES)
def test_a_new_test_displaces_one_at_most(tests):
    before = sample_of(tests, one_in=5)
    assert len(before - sample_of([*tests, ("tests/a.py::new", "")], one_in=5)) <= 1
