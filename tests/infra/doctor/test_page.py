"""docs/doctor.md tells of every subject, and of no other."""

import re
from pathlib import Path

from cloudexec.infra.doctor import identity, network, reach, settings, software, trial
from cloudexec.infra.doctor.examine import CHECKS, LIMIT_S

PAGE = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text(encoding="utf-8")


def test_each_subject_has_a_heading():
    local = [software.SUBJECT, settings.SUBJECT, identity.SUBJECT, identity.CLOCK, reach.SUBJECT, network.SUBJECT]
    subjects = {*local, *(check.subject for check in CHECKS), *trial.SUBJECTS.values()}
    assert set(re.findall(r"^## (.+)$", PAGE, re.MULTILINE)) == subjects


def test_numbers_are_those_of_the_code():
    assert f"after {LIMIT_S:g} seconds" in PAGE
    assert f"above {identity.SKEW_WARNING_S:g} seconds" in PAGE
    assert f"above {identity.SKEW_FAILED_S / 60:g} minutes" in PAGE
    assert f"within {identity.SOON_S / 60:g} minutes" in PAGE
