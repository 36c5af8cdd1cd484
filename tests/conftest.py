"""What holds for every test: how hypothesis searches.

HYPOTHESIS_PROFILE chooses; without it, `ci` where CI is set (same examples on every run) and `dev` elsewhere
(new examples on every run).
"""

import os

from hypothesis import HealthCheck, settings

# A slow machine is not a bug of the code under test; pytest-timeout ends what hangs.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
