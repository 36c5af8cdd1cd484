"""How many invocations may be in flight, as Lambda takes and refuses them."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from cloudexec.backends.awslambda.admission import NEVER, RAMP_PER_S, Admission


def test_at_first_all_that_was_asked_for():
    assert Admission(1000).allowed(0.0) == 1000


def test_after_a_volley_of_refusals_what_is_left_in_flight():
    admission = Admission(1000)
    for left in range(999, 299, -1):
        admission.refused(left, None, 0.0)
    assert admission.allowed(0.05) == 0  # a moment's pause
    assert 300 <= admission.allowed(0.2) < 320


def test_then_it_grows_at_lambdas_own_rate_while_nothing_is_refused():
    admission = Admission(5000)
    admission.refused(1000, None, 0.0)
    now_s, widths = 0.0, []
    for second in range(1, 21):
        now_s = float(second)
        widths.append(admission.allowed(now_s))
    assert widths[-1] - widths[-2] == RAMP_PER_S
    assert all(later > earlier for earlier, later in itertools.pairwise(widths))


def test_several_functions_have_a_ramp_each():
    one, four = Admission(10_000), Admission(10_000, n_functions=4)
    for admission in (one, four):
        admission.refused(1000, None, 0.0)
    assert (four.allowed(10.0) - 1000) > 3 * (one.allowed(10.0) - 1000)


def test_refusals_again_and_again_slow_it_down():
    admission = Admission(1000)
    now_s = 0.0
    for _ in range(10):
        admission.refused(500, None, now_s)
        now_s += 1.0
    before = admission.allowed(now_s)
    assert admission.allowed(now_s + 0.5) - before < 10


def test_it_waits_as_long_as_lambda_says():
    admission = Admission(10)
    admission.refused(4, 3.0, 100.0)
    assert admission.allowed(102.9) == 0
    assert admission.allowed(103.0) == 4
    assert admission.next_s(4, 103.0) > 103.0


def test_when_nothing_is_in_flight_pauses_grow_and_one_is_tried():
    admission = Admission(10)
    pauses, now_s = [], 0.0
    for _ in range(8):
        admission.refused(0, None, now_s)
        then_s = admission.next_s(0, now_s)
        pauses.append(then_s - now_s)
        now_s = then_s
        assert admission.allowed(now_s) >= 1
    assert pauses == sorted(pauses)
    assert pauses[-1] <= 5.0
    assert admission.refused_since_s == 0.0
    admission.accepted(now_s)
    assert admission.refused_since_s is None


@given(
    st.integers(1, 2000),
    st.lists(st.tuples(st.floats(0, 10), st.sampled_from(["refused", "accepted", "ask"]), st.integers(0, 2000))),
)
def test_it_never_allows_more_than_the_most_and_never_stops_for_good(most, story):
    admission, now_s = Admission(most), 0.0
    for passed_s, what, n_lanes in story:
        now_s += passed_s
        if what == "refused":
            admission.refused(min(n_lanes, most - 1), None, now_s)
        elif what == "accepted":
            admission.accepted(now_s)
        assert 0 <= admission.allowed(now_s) <= most
    later_s = admission.next_s(0, now_s)
    assert later_s < NEVER
    assert admission.allowed(later_s) >= 1
    assert admission.next_s(most, now_s) == NEVER
