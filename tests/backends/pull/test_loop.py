"""The engine's asyncio loop: what was begun on it ends."""

from __future__ import annotations

import asyncio

import pytest

from cloudexec.backends.pull.loop import EngineLoop


@pytest.fixture
def loop():
    made = EngineLoop()
    yield made
    made.close()


async def beat(changed: asyncio.Event, every_s: float) -> None:
    """Works whenever something changes, and every so often, as the writer of a run's control object does."""
    while True:
        try:
            await asyncio.wait_for(changed.wait(), every_s)
        except asyncio.TimeoutError:
            pass
        changed.clear()


async def deaf_once() -> None:
    """Loses its first cancellation, as `wait_for` does before Python 3.12 when it comes with what is waited for."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(3600)


def test_a_task_that_loses_a_cancellation_gets_another_one(loop):
    task = loop.begin(deaf_once())
    loop.run_for(0.0)
    loop.complete(loop.cancel_all())
    assert task.cancelled()


def test_a_cancellation_that_comes_with_an_event_ends_the_task(loop):
    changed = asyncio.Event()
    tasks = [loop.begin(beat(changed, 3600)) for _ in range(20)]

    async def change_and_end() -> None:
        await asyncio.sleep(0)
        changed.set()
        await loop.cancel_all()

    loop.complete(change_and_end())
    assert all(task.done() for task in tasks)


def test_nothing_to_end_is_nothing_to_wait_for(loop):
    loop.complete(loop.cancel_all())
