"""Random streams: the same numbers as R's, computed without R."""

import subprocess
from itertools import islice

import pytest

from cloudexec import R
from cloudexec.errors import SettingsError
from cloudexec.r.streams import RStream, RStreams, set_seed

# `RNGkind("L'Ecuyer-CMRG"); set.seed(42); .Random.seed` in R 4.2
SEED_42 = (10407, -2133391687, 507561766, 1260545903, 1362917092, -1772566379, -1344458670)


def test_a_seed_is_scrambled_as_r_does_it():
    assert set_seed(42).seed == SEED_42


def test_streams_one_by_one_are_the_same_as_streams_by_number():
    streams = R.streams(7)
    assert list(islice(streams, 20)) == [streams[k] for k in range(20)]
    assert len({streams[k] for k in (*range(50), 10**6, 10**12)}) == 52


@pytest.mark.parametrize("seed", [0, 1, 42, -5, 2**31 - 1, 1 - 2**31])
def test_streams_go_on_without_end_from_every_seed(seed):
    first = RStreams(seed)[10**9].seed
    assert len(first) == 7
    assert all(-(2**31) <= word < 2**31 for word in first)


@pytest.mark.parametrize("seed", ["42", 1.5, None, 2**31, -(2**31)], ids=repr)
def test_what_set_seed_would_not_take_is_refused(seed):
    with pytest.raises(SettingsError, match="seed="):
        R.streams(seed)


def test_there_is_no_stream_before_the_first():
    with pytest.raises(IndexError):
        R.streams(1)[-1]


def test_a_seed_of_another_generator_is_refused():
    with pytest.raises(SettingsError, match="L'Ecuyer"):
        RStream((10403, 1, 2, 3, 4, 5, 6))


@pytest.mark.r
def test_r_itself_has_the_same_streams():
    code = """
    RNGkind("L'Ecuyer-CMRG")
    for (seed in c(42L, 0L, -17L, .Machine$integer.max)) {
      set.seed(seed); cat(.Random.seed, "\\n")
      state <- .Random.seed
      for (i in 1:1000) state <- parallel::nextRNGStream(state)
      cat(parallel::nextRNGSubStream(state), "\\n")
    }
    suppressMessages(library(future.apply))
    x <- future_sapply(1:5, function(i) paste(get(".Random.seed", globalenv()), collapse = " "), future.seed = 42L)
    cat(x, sep = "\\n")
    """
    told = subprocess.run(["Rscript", "--vanilla", "-e", code], check=True, capture_output=True, text=True).stdout
    lines = [tuple(map(int, line.split())) for line in told.splitlines()]
    ours = []
    for seed in (42, 0, -17, 2**31 - 1):
        ours += [set_seed(seed).seed, R.streams(seed)[1000].seed]
    ours += [stream.seed for stream in islice(R.streams(42), 5)]
    assert lines == ours
