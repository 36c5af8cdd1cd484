"""Every row of the conversion table holds, and R is the judge."""

from __future__ import annotations

import pytest

from cloudexec.errors import RConversionError
from cloudexec.r import rds
from tests.r.rds.cases import HERE, REFUSED, THERE, Here, Refused, There, evaluated
from tests.r.rds.conftest import Exchange
from tests.r.rds.sameness import assert_same

pytestmark = pytest.mark.r


@pytest.mark.parametrize("case", THERE, ids=lambda case: case.python)
def test_r_reads_what_python_means(exchange: Exchange, case: There) -> None:
    exchange.assert_r_reads(rds.dumps(evaluated(case.python)), case.r)


@pytest.mark.parametrize("case", THERE, ids=lambda case: case.python)
def test_python_gets_it_back(exchange: Exchange, case: There) -> None:
    assert_same(exchange.returned(evaluated(case.python)), evaluated(case.back or case.python))


@pytest.mark.parametrize("case", HERE, ids=lambda case: case.r)
def test_python_reads_what_r_means(exchange: Exchange, case: Here) -> None:
    assert_same(rds.loads(exchange.from_r(case.r)), evaluated(case.python))


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.python)
def test_what_has_no_counterpart_is_refused_with_its_place(case: Refused) -> None:
    with pytest.raises(RConversionError) as caught:
        rds.dumps(evaluated(case.python), path="args[0]")
    assert caught.value.path == "args[0]" + case.at
    assert case.says in caught.value.what
    assert case.remedy in caught.value.remedy
    with pytest.raises(RConversionError) as checked:
        rds.check(evaluated(case.python), "args[0]")
    assert checked.value.args == caught.value.args


@pytest.mark.parametrize("case", THERE, ids=lambda case: case.python)
def test_what_can_be_written_passes_the_check(case: There) -> None:
    rds.check(evaluated(case.python))
