"""Requests of a worker, carried by threads: every end of one reaches the agent."""

from __future__ import annotations

import select

import pytest

from cloudexec.errors import NoSuchKey, SettingsError
from cloudexec.transport import sqs
from cloudexec.worker.agent.couriers import Courier, Inbox


class Script:
    """A client that answers, or raises, what it is told to."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def call(self, operation):
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def carried(client):
    """What reaches the agent of one request."""
    inbox, heard = Inbox(), []
    courier = Courier("courier", client, inbox)
    courier.carry(sqs.get_queue_attributes("url"), heard.append)
    assert select.select([inbox.fd], [], [], 10)[0]
    for handle in inbox.take():
        handle()
    return courier, heard


def test_an_answer_and_a_refusal_that_is_final_are_handed_over():
    assert carried(Script("answer"))[1] == ["answer"]
    refusal = NoSuchKey("it is not there")
    courier, heard = carried(Script(refusal))
    assert heard == [refusal]
    assert courier.n_open == 0


@pytest.mark.parametrize("crash", [SettingsError("a damaged URL of credentials"), ValueError("a defect of ours")])
def test_what_is_no_answer_at_all_ends_the_agent_instead_of_the_thread_alone(crash):
    """Else the worker would wait for ever for an answer that nobody brings, and would be paid for."""
    with pytest.raises(type(crash)):
        carried(Script(crash))
