"""The role of ECS itself, without which the first cluster of an account fails.

Called by: deploy.py.   Calls: place.py.
Reason:    ECS makes the role when it is asked for a cluster, and cannot use it for seconds: CloudFormation fails with
           "Unable to assume the service linked role", and only the second attempt works. So it is made before.
           It costs nothing, belongs to the account and not to the stack, and `down` leaves it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from cloudexec.errors import AwsError
from cloudexec.infra.place import Place

SERVICE: Final = "ecs.amazonaws.com"
SPREADS_S: Final = 15.0  # until IAM has told everybody


def ensure(place: Place, say: Callable[[str], None], *, spreads_s: float = SPREADS_S) -> bool:
    """Make it, if the account has none, and wait until ECS can use it. Whether it was made."""
    try:
        place.ask("iam", "create_service_linked_role", {"AWSServiceName": SERVICE})
    except AwsError:  # it is there, or somebody else must make it: then the cluster's own error says so
        return False
    say(
        "This account is new to ECS: made its role AWSServiceRoleForECS, which stays when the stack goes. "
        f"It is ready in {spreads_s:.0f} s."
    )
    time.sleep(spreads_s)
    return True
