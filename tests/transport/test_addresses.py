"""Names are looked up once for all connections of a burst."""

import asyncio
import socket
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from cloudexec.errors import ConnectionLost
from cloudexec.transport import lambdas
from cloudexec.transport.account import Account
from cloudexec.transport.addresses import Addresses
from cloudexec.transport.aio import AsyncClient
from cloudexec.transport.credentials import fixed
from cloudexec.transport.retrying import RetryPolicy
from tests.transport.scripted import after, answer

INVOKE = lambdas.invoke("f", b"{}", wait_s=5)


class NameService(ThreadPoolExecutor):
    """Where the event loop looks names up: says what it is told to, and counts."""

    def __init__(self, *answers):
        super().__init__(1)
        self.answers = list(answers)
        self.asked = 0

    def submit(self, function, /, *arguments, **more):
        if function is not socket.getaddrinfo:
            return super().submit(function, *arguments, **more)
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return super().submit(say, found)


def say(found):
    if isinstance(found, Exception):
        raise found
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]


def in_a_loop(service, main):
    async def run():
        asyncio.get_running_loop().set_default_executor(service)
        return await main()

    return asyncio.run(run())


def account_of(server):
    return Account("eu-west-1", fixed("A", "S"), endpoints={"lambda": f"http://lambda.example:{server.port}"})


def test_a_burst_asks_once(serve):
    server, service = serve(after(0.05, answer(200, b"1"))), NameService(["127.0.0.1"])

    async def burst():
        async with AsyncClient(account_of(server)) as client:
            await asyncio.gather(*[client.call(INVOKE) for _ in range(20)])

    in_a_loop(service, burst)
    assert {request.connection for request in server.requests} == set(range(20))
    assert {request.headers["host"] for request in server.requests} == {f"lambda.example:{server.port}"}
    assert service.asked == 1


def test_an_address_where_nobody_is_in_does_not_stop_it(serve):
    server, service = serve(answer(200, b"1")), NameService(["127.0.0.2", "127.0.0.1"])

    async def ask():
        async with AsyncClient(account_of(server), policy=RetryPolicy(attempts=1)) as client:
            await asyncio.gather(*[client.call(INVOKE) for _ in range(4)])

    in_a_loop(service, ask)
    assert len(server.requests) == 4


def test_a_name_that_was_not_found_is_asked_for_again(serve):
    server = serve(answer(200, b"1"))
    service = NameService(socket.gaierror("unknown host"), ["127.0.0.1"])

    async def ask():
        async with AsyncClient(account_of(server), policy=RetryPolicy(attempts=1)) as client:
            with pytest.raises(ConnectionLost, match=r"cannot connect to lambda\.example.*unknown host") as caught:
                await client.call(INVOKE)
            assert not caught.value.ambiguous
            await client.call(INVOKE)

    in_a_loop(service, ask)
    assert service.asked == 2


def test_connections_take_turns_among_the_addresses():
    async def ask():
        addresses = Addresses()
        found = [await addresses.of("lambda.example", 443) for _ in range(4)]
        assert [names[0] for names in found] == ["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2"]
        assert {frozenset(names) for names in found} == {frozenset(["10.0.0.1", "10.0.0.2"])}

    in_a_loop(NameService(["10.0.0.1", "10.0.0.2", "10.0.0.1"]), ask)


def test_what_is_an_address_is_not_looked_up():
    service = NameService(["10.0.0.1"])

    async def ask():
        assert await Addresses().of("127.0.0.1", 80) == ["127.0.0.1"]
        assert await Addresses().of("::1", 80) == ["::1"]

    in_a_loop(service, ask)
    assert service.asked == 0


class Silent(ThreadPoolExecutor):
    """A name service that does not answer."""

    def submit(self, function, /, *arguments, **more):
        if function is not socket.getaddrinfo:
            return super().submit(function, *arguments, **more)
        return Future()


@pytest.mark.parametrize("n_turns", [*range(6), 100])
def test_closing_the_client_ends_a_lookup_and_begins_none(serve, n_turns):
    """n_turns: of the loop, between a call and the end: some end it on the way to its lookup."""

    async def close():
        client = AsyncClient(account_of(serve(answer())))
        parked = asyncio.create_task(client.call(INVOKE))
        for _ in range(n_turns):
            await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(ConnectionLost, match="closed"):
            await asyncio.wait_for(parked, 2)

    in_a_loop(Silent(1), close)


def test_who_is_cancelled_does_not_take_the_lookup_along():
    async def cancel():
        service = Silent(1)
        asyncio.get_running_loop().set_default_executor(service)
        addresses = Addresses()
        first, second = (asyncio.create_task(addresses.of("lambda.example", 443)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not second.done()
        addresses.close()
        with pytest.raises(OSError, match="closed"):
            await second

    asyncio.run(cancel())
