"""What is said where rpy2 does not start; none of it needs R."""

import re
import resource

import pytest

from cloudexec.r.rpy2.starting import remedy_for, stack_limit

OLD_PIN = "pip install 'rpy2==3.6.4' 'rpy2-rinterface==3.6.5'"
MISSING_SYMBOL = ImportError("/usr/lib/R/lib/libR.so: undefined symbol: R_getVar")


@pytest.mark.parametrize(
    ("error", "version", "what", "remedy"),
    [
        pytest.param(ModuleNotFoundError("No module named 'rpy2'", name="rpy2"), "4.2.2", "rpy2 is not installed",
                     "pip install 'cloudexec[rpy2]'", id="no rpy2"),
        pytest.param(ModuleNotFoundError("No module named 'rpy2.rinterface'", name="rpy2.rinterface"), "4.2.2",
                     "rpy2 is not installed", "pip install 'cloudexec[rpy2]'", id="a part of rpy2 is missing"),
        pytest.param(MISSING_SYMBOL, "4.2.2", "R 4.2.2: .*undefined symbol: R_getVar", OLD_PIN,
                     id="rpy2 is too new for this R"),
        pytest.param(MISSING_SYMBOL, "4.4.3", "R 4.4.3", OLD_PIN, id="R 4.4 is the last that is too old"),
        pytest.param(MISSING_SYMBOL, "4.5.0", "R 4.5.0", "pip install --upgrade", id="rpy2 is too old for this R"),
        pytest.param(MISSING_SYMBOL, "10.1.0", "R 10.1.0", "pip install --upgrade", id="numbers, not texts"),
        pytest.param(ValueError("openrlib.R_HOME cannot be None."), "", "R here: openrlib.R_HOME cannot be None",
                     "apt-get install r-base-core", id="no R"),
        pytest.param(ModuleNotFoundError("No module named 'cffi'", name="cffi"), "4.2.2", "No module named 'cffi'",
                     OLD_PIN, id="what rpy2 needs is missing"),
        pytest.param(AttributeError(), "4.2.2", "AttributeError", OLD_PIN, id="an error without words"),
        pytest.param(OSError("one\n\ttwo"), "4.6.0", "one two$", "pip install --upgrade", id="one line, no tabs"),
    ],
)  # fmt: skip
def test_the_remedy_fits_the_error_and_the_version_of_r(error, version, what, remedy):
    told, advised = remedy_for(error, version)
    assert re.search(what, told)
    assert remedy in advised
    assert "\n" not in told + advised
    assert "\t" not in told + advised


@pytest.mark.parametrize(
    ("soft", "expected"),
    [
        pytest.param(8 << 20, (8 << 20) - 1_000_000, id="as usual"),
        pytest.param(resource.RLIM_INFINITY, 15_000_000, id="unlimited"),
        pytest.param(1 << 30, 15_000_000, id="very large: the frames of endless recursion need memory, too"),
        pytest.param(1_000_000, 500_000, id="small"),
    ],
)
def test_r_leaves_room_on_the_stack_for_python(monkeypatch, soft, expected):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, soft))
    assert stack_limit() == expected
