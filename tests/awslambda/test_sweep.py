"""What an event's future is told when no report comes, or one that is not its worker's: objects in a pocket bucket."""

from __future__ import annotations

import asyncio

import pytest

from cloudexec.backends.awslambda.discovery import FunctionFacts
from cloudexec.backends.awslambda.sweep import Sweep
from cloudexec.backends.pull.home import Home
from cloudexec.ids import new_run_id
from cloudexec.ledger.actions import LaneEnd
from cloudexec.transport.account import open_async_client, open_client
from cloudexec.transport.boto import account_of
from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.mail import Report, encode_report
from tests.awslambda.scene import left_of

SECONDS = 10.0


class Bench:
    """A sweep of a run's objects, and who writes them. `age_s`: how old an event may get before it has begun."""

    def __init__(self, aws, age_s):
        account = account_of(aws.session(), endpoints={"s3": aws.endpoint_url})
        self.client = open_client(account)
        self.home = Home(
            new_run_id(),
            bucket=aws.setup["bucket"],
            prefix="cloudexec",
            owner="123456789012",
            client=self.client,
            ask=None,
            tags={},
        )
        self.seal = Seal(new_key())
        self._aws, self._account, self._age_s = aws, account, age_s

    def put(self, name, body):
        s3 = self._aws.session().client("s3")
        s3.put_object(Bucket=self.home.bucket, Key=self.home.key(f"events/{name}"), Body=bytes(body))

    def run(self, scene):
        """What the scene makes of a sweep that looks meanwhile."""

        async def main():
            client = open_async_client(self._account, services=("s3",))
            sweep = Sweep(client, self.home, self.seal, beat_s=0.1)
            age_s = self._age_s - 30.0  # for so long a sweep is patient besides
            sweep.learn(FunctionFacts(timeout_s=3, memory_mib=128, n_concurrent=1, event_age_s=age_s))
            looking = asyncio.ensure_future(sweep.keep())
            try:
                return await asyncio.wait_for(scene(sweep), SECONDS)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
                await client.aclose()

        return asyncio.run(main())


def report_of(seal):
    return seal.close(Kind.REPORT, encode_report(Report("worker", 1)))


def test_an_event_that_nobody_has_begun_within_its_greatest_age_is_dropped_by_name(aws):
    bench = Bench(aws, age_s=0.3)

    async def scene(sweep):
        return await sweep.watch("e1")

    end = bench.run(scene)
    assert isinstance(end, LaneEnd)
    assert end.error == "EventDropped"
    assert "had not begun it" in end.detail


def test_an_event_that_has_begun_and_lives_is_waited_for_beyond_that_age(aws):
    bench = Bench(aws, age_s=0.3)

    async def scene(sweep):
        result = sweep.watch("e1")
        bench.put("e1.begun", b"claimed")
        await asyncio.sleep(1.0)
        assert not result.done()
        bench.put("e1.report", report_of(bench.seal))
        report = await result
        while len(left_of(aws, bench.home.run_id)) > 1:
            await asyncio.sleep(0.02)
        return report

    assert bench.run(scene).worker == "worker"
    assert [key.rpartition("/")[2] for key in left_of(aws, bench.home.run_id)] == ["e1.begun"], "a claim stays"


@pytest.mark.parametrize("content", ["a stranger's key", "garbage"])
def test_a_report_that_is_not_its_worker_s_is_not_believed(aws, content):
    bench = Bench(aws, age_s=60.0)

    async def scene(sweep):
        result = sweep.watch("e1")
        bench.put("e1.report", report_of(Seal(new_key())) if content == "a stranger's key" else b"\x80\x04.")
        return await result

    end = bench.run(scene)
    assert isinstance(end, LaneEnd)
    assert end.error == "EventDropped"
    assert "not its worker's" in end.detail


def test_an_early_report_that_is_not_its_worker_s_is_not_believed_and_hinders_no_other(aws):
    bench = Bench(aws, age_s=60.0)
    heard = []

    async def scene(sweep):
        has_come = asyncio.Event()

        async def hear(report):
            heard.append(report.worker)
            has_come.set()

        sweep.watch_early("b1", hear)
        bench.put("b1.1.early", report_of(Seal(new_key())))
        await asyncio.sleep(0.3)
        bench.put("b1.2.early", report_of(bench.seal))
        await has_come.wait()

    bench.run(scene)
    assert heard == ["worker"]
