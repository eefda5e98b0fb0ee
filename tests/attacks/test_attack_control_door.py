"""The control door under fire: a halt gets through whatever else knocks, and what nobody understands is a halt."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from keyturn.core.errors import Conflict
from keyturn.core.events import Document
from keyturn.flow import control
from keyturn.flow.control import ControlDoor, knock


class Asked:
    """A door whose halts are counted, with something slow beside them that may be asked for."""

    def __init__(self, path: Path) -> None:
        self.path, self.halts, self.go_on = path, [], threading.Event()
        self.slow_began = threading.Event()
        self.door = ControlDoor(path, self.halt, {"slow": self.slow, "no": self.no})
        self.halts: list[tuple[str, str]]

    def halt(self, by: str, reason: str) -> Document:
        self.halts.append((by, reason))
        return {"state": "STOPPED"}

    def slow(self, request: Mapping[str, object], connection: socket.socket) -> Document:
        self.slow_began.set()
        self.go_on.wait(20)
        return {"state": "done", "by": str(request["by"])}

    def no(self, request: Mapping[str, object], connection: socket.socket) -> Document:
        raise Conflict("not now", help="later")


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    made = Asked(tmp_path / "control.sock")
    with made.door:
        yield made
    made.go_on.set()


def connected(path: Path) -> socket.socket:
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.settimeout(10)
    door.connect(str(path))
    return door


def test_a_halt_waits_for_nothing_else_that_is_being_asked(asked: Asked) -> None:
    answers: list[Document | None] = []
    other = threading.Thread(target=lambda: answers.append(knock(asked.path, by="ada", reason="", do="slow")))
    other.start()
    assert asked.slow_began.wait(10)
    assert knock(asked.path, by="ben", reason="enough") == {"state": "STOPPED"}
    assert answers == []
    asked.go_on.set()
    other.join(10)
    assert answers == [{"state": "done", "by": "ada"}]


def test_connections_that_say_nothing_do_not_keep_a_halt_waiting(asked: Asked) -> None:
    idle = [connected(asked.path) for _ in range(8)]
    assert knock(asked.path, by="ben", reason="enough") == {"state": "STOPPED"}
    assert ("ben", "enough") in asked.halts
    for each in idle:
        each.close()


@pytest.mark.parametrize(
    "text", ["\x00", "[]", "{", '"halt"', '{"do": "dance"}', '{"do": null}', "{}", "3", '{"do": ["drill"]}', "[" * 4000]
)
def test_what_nobody_understands_is_a_halt(asked: Asked, text: str) -> None:
    with connected(asked.path) as door:
        door.sendall(text.encode())
        answer = b""
        while piece := door.recv(4096):
            answer += piece
    assert json.loads(answer) == {"state": "STOPPED"}
    assert len(asked.halts) == 1


def test_a_request_that_is_refused_halts_nothing_and_says_why(asked: Asked) -> None:
    said = knock(asked.path, by="ada", reason="", do="no")
    assert said == {"state": "refused", "why": "not now", "help": "later", "code": 5}
    assert asked.halts == []


def test_who_hears_nothing_at_the_door_turns_away_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A governor that hangs has a door too: the kernel lets people in and nobody comes."""
    monkeypatch.setattr(control, "HEARD_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen(8)
        began = time.monotonic()
        assert knock(tmp_path / "control.sock", by="ada", reason="enough") is None
        assert time.monotonic() - began < control.ANSWER_SECONDS / 2
