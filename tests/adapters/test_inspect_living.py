"""The talk with the agent of a sandbox: what is not what was asked for is never handed on, and stops the sandbox."""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from keyturn.adapters.inspect import living as talk
from keyturn.adapters.inspect.living import BODY_BYTES_MAX, HEAD_BYTES_MAX, Living
from keyturn.core.errors import Unavailable
from keyturn.core.terms import Instant
from keyturn.sandbox.port import Exit, Receipt


def said(head: Any, body: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack(">II", len(text), len(body)) + text + body


class Sandbox:
    """A running sandbox as far as the talk needs one; its agent is the test."""

    id = "answer-test"

    def __init__(self) -> None:
        self.input, self.stdin_fd = os.pipe()
        self.stdout_fd, self.output = os.pipe()
        self.wake_fd, self._waker = os.pipe()
        for fd in (self.stdin_fd, self.stdout_fd):
            os.set_blocking(fd, False)
        self.halts: list[str] = []
        self.ended = threading.Event()

    def say(self, data: bytes) -> None:
        os.write(self.output, data)

    def tick(self) -> bool:
        return not self.halts

    def seen(self) -> Exit:
        return Exit("lost", None, None, 0.0, 0.0, 0, (), b"")

    def halt(self, why: str) -> Receipt:
        self.halts.append(why)
        os.write(self._waker, b"x")
        return Receipt("sandbox", why, Instant(0), 0.1, 0.2, 0.3, 2, 0, "STOPPED")

    def close(self) -> None:
        self.ended.set()

    def give_back(self) -> None:
        for fd in (self.input, self.stdin_fd, self.stdout_fd, self.output, self.wake_fd, self._waker):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def agent() -> Iterator[Sandbox]:
    made = Sandbox()
    yield made
    made.give_back()


@pytest.fixture
def living(agent: Sandbox) -> Iterator[Living]:
    made = Living(agent, 3.0)  # type: ignore[arg-type]  # as far as the talk needs one
    agent.say(said({"pong": True}))
    made.wait_ready()
    yield made
    made.close("test")


def test_an_answer_comes_back_whole(agent: Sandbox, living: Living) -> None:
    call = living.start({"do": "execute"}, None, 100)
    agent.say(said({"id": 1, "stream": 1}, b"out") + said({"id": 1, "stream": 2}, b"err")[:10])
    agent.say(said({"id": 1, "stream": 2}, b"err")[10:] + said({"id": 1, "code": 0}))
    assert living.answer(call) == {"id": 1, "code": 0}
    assert (call.streams[1], call.streams[2]) == (b"out", b"err")


@pytest.mark.parametrize(
    "words",
    [
        said({"id": 2, "code": 0}),
        said({"id": 1, "stream": 1}, b"x" * 101),
        said({"id": 1, "stream": 3}, b"x"),
        said({"id": 1, "stream": "1"}, b"x"),
        said({"id": "1", "code": 0}),
        said({"id": [1], "code": 0}),
        said({"code": 0}),
        said([1]),
        said(b"{"),
        said(b"\xff"),
        said(b"[" * 60000),
        struct.pack(">II", HEAD_BYTES_MAX + 1, 0),
        struct.pack(">II", 2, BODY_BYTES_MAX + 1),
        said({"pong": True}, b"x") + said({"id": 1, "code": 0}),
    ],
)
def test_what_an_agent_never_says_loses_the_sandbox_and_is_not_heard(
    agent: Sandbox, living: Living, words: bytes
) -> None:
    call = living.start({"do": "execute"}, None, 100)
    agent.say(words)
    with pytest.raises(Unavailable, match="is lost: its agent spoke out of turn"):
        living.answer(call)
    assert agent.halts
    assert agent.ended.wait(5)
    with pytest.raises(Unavailable):
        living.start({"do": "execute"}, None, 100)


def test_an_agent_that_is_held_still_by_a_command_lets_none_escape_its_time_out(
    agent: Sandbox, living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let go for a moment at a time it says that it is there, and never comes to the end of the command."""
    monkeypatch.setattr(talk, "OVERDUE_SECONDS_MAX", 0.1)
    call, endless = living.start({"do": "execute", "seconds": 1}, None, 100), living.start({"do": "execute"}, None, 1)
    over = threading.Event()

    def pulse() -> None:
        while not over.wait(0.1):
            agent.say(said({"pong": True}))

    pulsing = threading.Thread(target=pulse)
    pulsing.start()
    with pytest.raises(Unavailable, match="outlived its time-out"):
        living.answer(call)
    over.set()
    pulsing.join()
    assert endless.answer is None
    assert agent.halts


def test_an_answer_that_is_cut_off_is_none(agent: Sandbox, living: Living) -> None:
    call = living.start({"do": "execute"}, None, 100)
    agent.say(said({"id": 1, "stream": 1}, b"half") + said({"id": 1, "code": 0})[:-1])
    os.close(agent.output)
    agent.output = -1
    with pytest.raises(Unavailable, match="its agent has ended"):
        living.answer(call)


def test_a_second_answer_to_one_call_loses_the_sandbox(agent: Sandbox, living: Living) -> None:
    call = living.start({"do": "execute"}, None, 100)
    agent.say(said({"id": 1, "code": 0}) + said({"id": 1, "code": 1}))
    assert living.answer(call) == {"id": 1, "code": 0}
    assert agent.ended.wait(5)
    assert "nobody asked for" in living.lost


def test_whoever_closes_wakes_all_who_wait(agent: Sandbox, living: Living) -> None:
    call = living.start({"do": "execute"}, None, 100)
    receipt = living.close("the sample is over")
    assert (receipt.state, receipt.why) == ("STOPPED", "the sample is over")
    assert agent.halts == ["the sample is over"]
    with pytest.raises(Unavailable, match="it was stopped"):
        living.answer(call)
    assert living.close("again") == receipt
