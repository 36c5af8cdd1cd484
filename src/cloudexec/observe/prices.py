"""List prices of what executors use, in one region.

Called by: estimates.py; infra's runs and doctor.
Source:    AWS's public price pages and price list files for us-east-1, as each field says. They are list prices: no
           free tier, no savings plan, no tax. Spot has no list price; what stands here is an assumption.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

ARCHITECTURES: Final = ("x86_64", "arm64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars for one unit of each thing. Mappings are by architecture; a GB is 1024 MiB in all of them."""

    region: str
    listed: str  # the month in which most of them were read
    lambda_gb_s: Mapping[str, float]
    lambda_request: float
    fargate_vcpu_h: Mapping[str, float]
    fargate_gb_h: Mapping[str, float]
    spot_discount: float  # 0.67: Fargate Spot costs 67 % less
    sqs_request: float
    s3_write: float  # PUT, COPY, POST, LIST
    s3_read: float
    logs_gb: float  # taken in by CloudWatch Logs
    public_ipv4_h: float  # of a task in a public subnet
    s3_gb_month: float
    ecr_gb_month: float
    logs_gb_month: float

    def task_h(self, vcpu: float, memory_mib: int, arch: str, *, spot: bool = False) -> float:
        """An hour of one task on Fargate."""
        usd = vcpu * self.fargate_vcpu_h[arch] + memory_mib / 1024 * self.fargate_gb_h[arch]
        return usd * (1 - self.spot_discount) if spot else usd


US_EAST_1: Final = Prices(
    region="us-east-1",
    listed="2026-09",
    lambda_gb_s=MappingProxyType({"x86_64": 0.0000166667, "arm64": 0.0000133334}),  # x86: 2026-05, first tier
    lambda_request=0.20e-6,
    fargate_vcpu_h=MappingProxyType({"x86_64": 0.04048, "arm64": 0.03238}),
    fargate_gb_h=MappingProxyType({"x86_64": 0.004445, "arm64": 0.00356}),
    spot_discount=0.67,  # assumed: AWS says "up to 70 %", and changes it with supply and demand
    sqs_request=0.40e-6,  # 2026-06; each 64 KiB of a request counts
    s3_write=0.005e-3,
    s3_read=0.0004e-3,
    logs_gb=0.50,
    public_ipv4_h=0.005,
    s3_gb_month=0.023,  # first tier
    ecr_gb_month=0.10,
    logs_gb_month=0.03,
)
