"""Judge policies by what parliament and policy_sentry know of AWS; a program of the environment that has them.

    python rights_lint.py <asked.json >findings.json

asked: {"policies": {name: document}, "actions": [every action that must exist]}; findings: sentences.
Called by: test_rights_lint.py, with .venv/tool-rights/bin/python.   Calls: nothing of cloudexec, which is not there.
"""

from __future__ import annotations

import json
import re
import sys
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of pkg_resources
    import parliament
from policy_sentry.querying.actions import get_action_data


def rows_of(action):
    """What policy_sentry knows of an action: a row for each type of resource, and one for `*`."""
    service, _, name = action.partition(":")
    return (get_action_data(service, name) or {}).get(service, [])


def listed(value):
    return [value] if isinstance(value, str) else list(value)


def keys_of(statement):
    return {key for operator in statement.get("Condition", {}).values() for key in operator}


def knows(known, key):
    """`aws:ResourceTag/${TagKey}` stands for every tag."""
    return known == key or (known.endswith("/${TagKey}") and key.startswith(known.removesuffix("${TagKey}")))


def acts_on(form, arn):
    """Whether an ARN, maybe with a `*` in it, can be one of this form."""
    kind = "bucket" if form.endswith(":::${BucketName}") else "other"  # a bucket's name has no slash
    return parliament.is_arn_match(kind, re.sub(r"\$\{\w+\}", "*", form), arn)


def about_action(action, statement):
    """What is wrong with one action of a statement."""
    rows = rows_of(action)
    if not rows:
        return ["there is no such action"]
    found, resources = [], listed(statement["Resource"])
    kinds = [row for row in rows if row["resource_arn_format"] != "*"]
    everywhere = [row for row in rows if row["resource_arn_format"] == "*"]
    fitting = [row for row in kinds if any(acts_on(row["resource_arn_format"], one) for one in resources)]
    if resources == ["*"]:
        fitting = rows
        if kinds and not statement.get("Condition"):
            found.append(
                "on *, though it can be restricted to " + ", ".join(row["resource_arn_format"] for row in kinds)
            )
    elif not fitting:
        found.append(f"none of {', '.join(resources)} is what it acts on")
    for key in keys_of(statement):
        known = {one for row in fitting + everywhere for one in row["condition_keys"]}
        if key != "aws:CalledVia" and not any(knows(one, key) for one in known):
            found.append(f"it knows no condition {key}")
    return found


def about_policy(document):
    """All findings on one policy."""
    for finding in parliament.analyze_policy_string(json.dumps(document)).findings:
        yield f"parliament {finding.issue}: {json.dumps(finding.detail, default=str)}"
    for statement in document["Statement"]:
        for action in listed(statement["Action"]):
            for what in about_action(action, statement):
                yield f"{action}: {what}"


def main():
    asked = json.load(sys.stdin)
    found = [f"{action}: there is no such action" for action in asked["actions"] if not rows_of(action)]
    for name, document in asked["policies"].items():
        found += [f"{name}: {what}" for what in about_policy(document)]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
