"""The parts of a served loop by themselves: what comes in, what is kept, what is charged, and who reads texts."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.app.loop import reader as reading
from keyturn.app.loop.books import Books, Verdict
from keyturn.app.loop.door import Door
from keyturn.app.loop.inbox import Inbox, Message
from keyturn.app.loop.reader import Reader
from keyturn.app.loop.seat import frames_in, seed_of
from keyturn.core.bounds import Bounds, Used
from keyturn.core.errors import MalformedInput
from keyturn.core.finding import Finding
from keyturn.core.policy import Loop
from keyturn.core.terms import Digest, Instant
from keyturn.flow.ports import Batch, Leave
from keyturn.ledger.shelf import Shelf
from keyturn.wire.digest import sha256
from keyturn.wire.frames import FrameReader, encode_frame
from tests.loop.scene import PARENT, evolved

FAR = Instant(2**50)
LOOP = Loop("program.py", "evolve-blocks", 3, 10)


def pulled(inbox: Inbox) -> list[Message]:
    found = []
    while (message := inbox.pull()) is not None:
        found.append(message)
    return found


@pytest.mark.parametrize("piece", [1, 3, 10_000])
def test_messages_come_out_whole_however_their_bytes_are_cut(piece: int) -> None:
    data = encode_frame({"type": "request"}) + encode_frame({"type": "program", "bytes": 5}) + b"hello"
    data += encode_frame({"type": "program", "bytes": 9}) + b"too long!" + encode_frame({"type": "request"})
    inbox, found = Inbox(6), list[Message]()
    for start in range(0, len(data), piece):
        inbox.feed(data[start : start + piece])
        found += pulled(inbox)
    assert [each.type for each in found] == ["request", "program", "program", "request"]
    assert (found[1].blob, found[1].digest) == (b"hello", sha256(b"hello"))
    assert (found[2].blob, found[2].blob_bytes, found[2].digest) == (b"", 9, sha256(b"too long!"))


def test_a_frame_that_is_none_is_refused_at_its_first_bytes() -> None:
    inbox = Inbox(10)
    inbox.feed(b"\xff\xff\xff\xff")
    with pytest.raises(MalformedInput):
        inbox.pull()


def test_what_lies_on_the_shelf_is_what_was_put_there_or_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "programs")
    digest = shelf.put(b"a program")
    assert (digest, shelf.put(b"a program"), shelf.get(digest)) == (sha256(b"a program"), digest, b"a program")
    shelf.sync()
    place = tmp_path / "programs" / digest.removeprefix("sha256:")
    place.write_bytes(b"another program")
    assert shelf.get(digest) is None
    assert shelf.get(sha256(b"never put")) is None


def test_the_frames_that_go_in_hold_the_seed_and_the_whole_text() -> None:
    text = "é\0\n" * 30_000
    reader = FrameReader(bytes_max_total=1 << 24, frames_max=1000)
    frames = reader.feed(frames_in(text, 42))
    reader.end()
    assert frames[0] == {"type": "seed", "seed": 42}
    assert "".join(str(frame["text"]) for frame in frames[1:]) == text
    assert {frame["of"] for frame in frames[1:]} == {len(frames) - 1}
    seeds = {seed_of(step, sha256(name)) for step in (1, 2) for name in (b"a", b"b")}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**32 for seed in seeds)


def books(
    tmp_path: Path, logged: list[Batch], *, spent: int = 0, resumed: bool = False, requests_max: int = 0
) -> Books:
    bounds = Bounds(10, 1000, requests_max, 100)
    leave = Leave(1, 0, 7, bounds, Used(programs=spent), frozenset(), resumed, FAR, resumed)
    return Books(LOOP, leave, Shelf(tmp_path / "programs"), logged.append, lambda _: None, lambda: 0)


def entered(made: Books, name: bytes, *rules: str) -> None:
    findings = tuple(Finding(rule, "", "") for rule in rules)
    made.enter(sha256(name), name, Verdict(not rules, findings, sha256(b"evidence"), "alive"), b"evidence")


def test_a_batch_is_logged_the_moment_it_is_full(tmp_path: Path) -> None:
    logged: list[Batch] = []
    made = books(tmp_path, logged)
    made.open()
    for number in range(7):
        entered(made, b"%d" % number)
    assert [len(batch.programs) for batch in logged] == [3, 3]
    made.flush(closing=True)
    assert [(len(batch.programs), batch.used.programs, batch.closing) for batch in logged[2:]] == [(1, 1, True)]
    assert made.used().programs == 7


def test_what_a_crash_may_have_lost_is_charged_but_never_beyond_the_bound(tmp_path: Path) -> None:
    for before, lost in ((0, 3), (8, 2), (10, 0)):
        logged: list[Batch] = []
        made = books(tmp_path, logged, spent=before, resumed=True)
        made.open()
        (batch,) = logged
        assert (batch.lost, batch.used.programs, batch.closing) == (lost, lost, False)
        assert bool(made.lacking()) is (before + lost == 10)


def test_a_request_that_was_granted_and_reported_is_charged_once(tmp_path: Path) -> None:
    made = books(tmp_path, [], requests_max=4)
    made.grant()
    made.use(Used(requests=1, tokens=50, usd=None))
    made.use(Used(requests=2, tokens=10, usd=0.5))
    assert (made.used().requests, made.used().tokens, made.used().usd) == (3, 60, None)
    assert made.lacking() == ()
    made.grant()
    assert [finding.rule for finding in made.lacking()] == ["warrant_must_cover"]


def test_a_refusal_for_conduct_is_never_taken_back(tmp_path: Path) -> None:
    made = books(tmp_path, [])
    entered(made, b"thief", "conduct_must_be_clean")
    entered(made, b"thief")
    entered(made, b"slow", "program_must_run")
    entered(made, b"slow")
    assert (made.admitted(sha256(b"thief")), made.admitted(sha256(b"slow"))) == (False, True)
    assert not made.admitted(Digest("sha256:" + "0" * 64))


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with Door.opened(tmp_path / "loop.sock", keep_bytes_max=100) as made:
        yield made


def said(door: Door, made: Reader, texts: list[str], seconds: float = 20.0) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for text in texts:
        made.ask(text.encode(), lambda findings: found.append(tuple(f.message for f in findings)))
    until = time.monotonic() + seconds
    while len(found) < len(texts) and time.monotonic() < until:
        door.turn(0.05)
        made.tick()
    return found


def test_texts_are_read_in_order_by_a_process_of_its_own(door: Door) -> None:
    made = Reader(door, LOOP, parent=PARENT.encode(), bytes_max=10_000)
    good, bad = evolved("def solve(n):\n    return 1\n"), PARENT.replace("10", "11")
    assert said(door, made, [good, bad, good]) == [(), ("what lies after block 1 differs from the parent",), ()]
    made.close()


def test_a_text_that_breaks_or_holds_up_its_reader_is_refused_and_the_next_one_read(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PATIENCE_SECONDS", 1.0)
    made = Reader(door, LOOP, parent=PARENT.encode(), bytes_max=10_000)
    good = evolved("def solve(n):\n    return 1\n")
    assert said(door, made, [good]) == [()]
    for word, why in ((signal.SIGSTOP, "reading it took too long"), (signal.SIGKILL, "reading it broke down")):
        process = made._process
        assert process is not None
        os.kill(process.pid, word)
        first, second = said(door, made, [good, good])
        assert first == (f"the program could not be compared: {why}",)
        assert second == ()
    made.close()
