"""How wide runs may be, how soon workers run, and what an hour of them costs.

Called by: examine.py.   Calls: Service Quotas, Lambda's account settings; observe's prices and ramps.
Source:    facts of AWS's documentation: launch rates and quota codes of Fargate, growth of Lambda.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.backends.ecs.target import Capacity
from cloudexec.errors import AwsError
from cloudexec.infra.doctor.findings import Finding, failed, of_error, ok, warning
from cloudexec.infra.doctor.scene import ECS_WORKERS, Scene
from cloudexec.observe.estimates import FargateShape, LambdaShape, Ramp
from cloudexec.observe.prices import US_EAST_1, Prices

SUBJECT: Final = "width"
FARGATE: Final = "fargate"
ON_DEMAND_VCPUS: Final = "L-3032A538"
SPOT_VCPUS: Final = "L-36FBB829"
LAUNCH_RATE: Final = "L-551A4E9D"
LAMBDA_CONCURRENCY: Final = "L-B99A9384"
_BURST_A_RATE: Final = 5  # 100 at once for 20 a second; 25 for 5 in younger regions


@dataclass(frozen=True, kw_only=True)
class FargateRoom:
    """What Fargate would start for a run. n_vcpus: the applied quota, None where nobody could look.

    code: of the quota that counts. per_s: tasks launched a second.
    """

    n_tasks: int
    vcpu: float
    memory_mib: int
    arch: str
    region: str
    spot: bool = False
    has_public_ip: bool = False
    n_vcpus: float | None = None
    per_s: float | None = None

    @property
    def code(self) -> str:
        """The quota of vCPUs that counts."""
        return SPOT_VCPUS if self.spot else ON_DEMAND_VCPUS


def check_fargate(scene: Scene) -> list[Finding]:
    """What the account may have at once."""
    target = scene.ecs.target
    if target.capacity is Capacity.OWN:
        text = f"{scene.n_tasks} workers on capacity of your own: its limits and prices are not known here"
        return [ok(SUBJECT, text, workers=scene.n_tasks, fit=scene.n_tasks, usd_h=0.0)]
    vcpu, memory_mib = scene.worker_size
    code = SPOT_VCPUS if target.spot else ON_DEMAND_VCPUS
    findings: list[Finding] = []
    applied: dict[str, float | None] = {}
    for each in (code, LAUNCH_RATE):
        try:
            applied[each] = quota(scene, FARGATE, each)
        except AwsError as error:
            applied[each] = None
            findings.append(of_error(SUBJECT, f"quota {each} of Fargate", error))
    arch = (scene.definition.get("runtimePlatform") or {}).get("cpuArchitecture") or target.architecture
    room = FargateRoom(
        n_tasks=scene.n_tasks,
        vcpu=vcpu,
        memory_mib=memory_mib,
        arch="arm64" if arch == "ARM64" else "x86_64",
        region=scene.place.region,
        spot=target.spot,
        has_public_ip=bool(target.assign_public_ip),
        n_vcpus=applied[code],
        per_s=applied[LAUNCH_RATE],
    )
    return judge_fargate(room, scene.wanted.max_workers or ECS_WORKERS) + findings[:1]


def quota(scene: Scene, service: str, code: str) -> float | None:
    """The applied value; where none was ever changed, AWS may know the default alone. Errors: AwsError and its kin."""
    request = {"ServiceCode": service, "QuotaCode": code}
    said = scene.ask_or_none("service-quotas", "get_service_quota", request, "NoSuchResourceException")
    if said is None:
        said = scene.ask_or_none("service-quotas", "get_aws_default_service_quota", request, "NoSuchResourceException")
    value = (said or {}).get("Quota", {}).get("Value")
    return None if value is None else float(value)


def judge_fargate(room: FargateRoom, n_workers: int, prices: Prices = US_EAST_1) -> list[Finding]:
    """How wide, how soon, how dear. Pure."""
    fits = room.n_tasks if room.n_vcpus is None else min(room.n_tasks, int(room.n_vcpus / room.vcpu + 1e-9))
    soon_s = seconds_until(fits, room.per_s)
    usd_h = fits * hourly(room, prices)
    facts = {
        "workers": room.n_tasks,
        "fit": fits,
        "vcpus_quota": room.n_vcpus,
        "all_run_s": round(soon_s),
        "usd_h": round(usd_h, 4),
    }
    kind = "Fargate Spot" if room.spot else "Fargate"
    size = f"{room.vcpu:g} vCPU, {room.memory_mib / 1024:g} GiB"
    wanted = f"max_workers={n_workers} on {kind}: {room.n_tasks} workers ({size})"
    price = f"${usd_h:.2f} an hour{price_note(room.region, prices)}{', if Spot is 67 % off' if room.spot else ''}"
    if fits < room.n_tasks:
        text = f"{wanted}, and the quota of {room.n_vcpus:g} vCPU lets {fits} run at once: {price}"
        remedy = raise_quota(FARGATE, room.code, math.ceil(room.n_tasks * room.vcpu), room.region)
        return [(warning if fits else failed)(SUBJECT, text, remedy, **facts)]
    unseen = "" if room.n_vcpus is not None else ", if the quota of vCPUs, which nobody could look at, allows it"
    text = f"{wanted}, all running after about {soon_s:.0f} s{unseen}; {price}"
    return [ok(SUBJECT, text, **facts)]


def seconds_until(n_tasks: int, per_s: float | None) -> float:
    """Until the last of them takes calls. Pure."""
    usual = FargateShape()
    ramp = usual.ramp if per_s is None else Ramp(burst=max(1, int(_BURST_A_RATE * per_s)), per_s=max(1, int(per_s)))
    return usual.start_s + (ramp.waves(n_tasks)[-1][0] if n_tasks else 0.0)


def hourly(room: FargateRoom, prices: Prices) -> float:
    """Dollars for one task. Pure."""
    usd = prices.task_h(room.vcpu, room.memory_mib, room.arch, spot=room.spot)
    return usd + (prices.public_ipv4_h if room.has_public_ip else 0.0)


def price_note(region: str, prices: Prices) -> str:
    """Which prices these are. Pure."""
    where = "" if region == prices.region else f", and {region} differs"
    return f" (list prices of {prices.region}, {prices.listed}{where})"


def raise_quota(service: str, code: str, value: int, region: str) -> str:
    """The command that asks for more."""
    return (
        f"aws service-quotas request-service-quota-increase --service-code {service} --quota-code {code} "
        f"--desired-value {value} --region {region}"
    )


# --- Lambda -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LambdaRoom:
    """What Lambda would start for a run. n_places: environments that a run may fill by default, of all its functions.

    reserved: for the function and its shards together, None if one of them has nothing reserved.
    account, unreserved: the account's concurrency, and what no function has reserved; None where nobody could look.
    """

    memory_mib: int
    slots: int
    arch: str
    region: str
    n_places: int
    n_workers: int | None = None
    reserved: int | None = None
    account: int | None = None
    unreserved: int | None = None


def check_lambda(scene: Scene) -> list[Finding]:
    """What the account and the functions may have at once."""
    place, facts = scene.function
    findings: list[Finding] = []
    reserved: int | None = None
    limit: Mapping[str, Any] = {}
    try:
        reserved = _reserved(scene, (place.function, *place.shards))
    except AwsError as error:
        findings.append(of_error(SUBJECT, "what is reserved for the function", error))
    try:
        limit = scene.ask("lambda", "get_account_settings").get("AccountLimit") or {}
    except AwsError as error:
        findings.append(of_error(SUBJECT, "the account's concurrency", error))
    room = LambdaRoom(
        memory_mib=facts.memory_mib,
        slots=place.slots or facts.n_vcpus,
        arch=facts.arch,
        region=scene.place.region,
        n_places=facts.n_concurrent,
        n_workers=scene.wanted.max_workers,
        reserved=reserved,
        account=limit.get("ConcurrentExecutions"),
        unreserved=limit.get("UnreservedConcurrentExecutions"),
    )
    return judge_lambda(room) + findings


def _reserved(scene: Scene, functions: Iterable[str]) -> int | None:
    """What is reserved for all of them, None if it is not for each. Errors: AwsError and its kin."""
    total = 0
    for function in functions:
        said = scene.ask("lambda", "get_function_concurrency", {"FunctionName": function})
        own = said.get("ReservedConcurrentExecutions")
        if own is None:
            return None
        total += int(own)
    return total


def judge_lambda(room: LambdaRoom, prices: Prices = US_EAST_1) -> list[Finding]:
    """How wide, how soon, how dear. Pure."""
    n_wanted = -(-room.n_workers // room.slots) if room.n_workers else room.n_places
    most = room.reserved if room.reserved is not None else room.unreserved
    fits = n_wanted if most is None else min(n_wanted, most)
    shape = LambdaShape()
    soon_s = shape.cold_s + (shape.ramp.waves(fits)[-1][0] if fits else 0.0)
    usd_h = fits * room.memory_mib / 1024 * 3600 * prices.lambda_gb_s[room.arch]
    facts = {"environments": n_wanted, "fit": fits, "all_run_s": round(soon_s), "usd_h": round(usd_h, 4)}
    n_workers = room.n_workers or room.n_places * room.slots
    default = "" if room.n_workers else ", which is the default,"
    wanted = f"max_workers={n_workers}{default} on Lambda: {n_wanted} environments of {room.memory_mib} MiB"
    price = f"${usd_h:.2f} an hour of work{price_note(room.region, prices)}"
    if fits < n_wanted:
        what = f"{most} are reserved" if room.reserved is not None else f"{most} that nobody has reserved"
        text = f"{wanted}, and the concurrency lets {fits} run at once ({what}): {price}"
        if room.reserved is not None:
            remedy = "reserve more (aws lambda put-function-concurrency), or nothing: delete-function-concurrency"
        else:
            remedy = raise_quota("lambda", LAMBDA_CONCURRENCY, n_wanted + (room.account or 0) - fits, room.region)
        return [(warning if fits else failed)(SUBJECT, text, remedy, **facts)]
    return [ok(SUBJECT, f"{wanted}, all running after about {soon_s:.0f} s; {price}", **facts)]
