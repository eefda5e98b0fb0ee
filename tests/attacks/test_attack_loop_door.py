"""Attack the loop's door and the governor behind it: by floods, by silence, by what cannot be read, and by texts."""

from __future__ import annotations

import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from keyturn.core.events import ProgramsJudged
from keyturn.wire.frames import encode_frame
from tests.loop.scene import PARENT, Client, Scene, digest_of, eventually, evolved, make

SQUARE = evolved("def solve(n):\n    return n * n\n")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, Client]]:
    """One loop that runs through all of it, and at whose end the log is replayed."""
    made = make(tmp_path_factory.mktemp("loop"))
    made.warrant(100)
    with made.serving():
        run, answer = made.loop()
        assert answer["type"] == "leave"
        yield made, run
        assert run.ask({"type": "end", "why": "a test"})["candidate"] == ""
        run.close()
    assert made.project.replay(lambda _: None).problems == ()


def works(made: Scene) -> None:
    """Somebody else's program runs and is judged, in good time."""
    began = time.monotonic()
    with made.client(10) as honest:
        assert honest.program(SQUARE)["type"] == "running"
        calls = honest.calls()
        assert calls.call("solve", 3) == 9
        calls.close()
        assert honest.judge(1.0)["admitted"] is True
    assert time.monotonic() - began < 10


def test_only_the_governors_account_may_knock(served: tuple[Scene, Client]) -> None:
    made, _ = served
    assert stat.S_IMODE((made.project.home / "loop.sock").stat().st_mode) == 0o600


UNREADABLE = [
    b"GET / HTTP/1.1\r\n\r\n",
    struct.pack(">I", 0),
    struct.pack(">I", 2**31) + b"x",
    struct.pack(">I", 9) + b'{"a":1, }',
    struct.pack(">I", 4) + b"[42]",
    encode_frame({"type": "delete everything"}),
    encode_frame({"type": "program", "bytes": 1 << 40}),
    encode_frame({"type": "program", "bytes": -1}),
    encode_frame({"type": "judge", "metrics": {}}),
    encode_frame({"type": "usage", "requests": -5, "tokens": 0, "usd": 0}),
    encode_frame({"type": "usage", "requests": 0, "tokens": 0, "usd": -1.5}),
    encode_frame({"type": "program", "bytes": 0, "too_long": 5, "digest": "sha256:short"}),
    encode_frame({"type": "propose", "program": digest_of(SQUARE), "claim": {}}),
    encode_frame({"type": "verdict", "program": digest_of(SQUARE)}),
    encode_frame({"type": "end", "why": "not mine to end"}),
]


def test_what_cannot_be_read_or_asked_for_ends_its_own_connection_alone(served: tuple[Scene, Client]) -> None:
    made, run = served
    for data in UNREADABLE:
        with made.client() as bad:
            bad.channel.sendall(data)
            answer = bad.answer()
            assert (answer["type"], answer["halted"]) == ("stop", False), data
            with pytest.raises((EOFError, ConnectionError)):
                bad.answer()
    assert run.ask({"type": "verdict", "program": digest_of("never seen")})["known"] is False


def test_who_floods_or_falls_silent_holds_nobody_up(served: tuple[Scene, Client]) -> None:
    made, _ = served
    silent = [made.client() for _ in range(40)]
    for number, client in enumerate(silent):
        client.channel.sendall(struct.pack(">I", 60_000)[: 1 + number % 4])
    half = made.client()
    half.channel.sendall(encode_frame({"type": "program", "bytes": 50_000, "seconds": 1}) + b"x" * 10_000)
    flood = made.client()
    flood.channel.setblocking(False)
    one = encode_frame({"type": "request"}) * 2000
    for _ in range(200):
        try:
            flood.channel.send(one)
        except BlockingIOError:
            break
    works(made)
    for client in (*silent, half, flood):
        client.close()


def test_more_clients_than_there_may_be_are_turned_away(served: tuple[Scene, Client]) -> None:
    made, run = served
    crowd = []
    for _ in range(300):
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        channel.connect(str(made.project.home / "loop.sock"))
        crowd.append(channel)
    last = Client(crowd[-1])
    last.channel.settimeout(10)
    with pytest.raises((EOFError, ConnectionError)):
        last.ask({"type": "request"})
    assert run.ask({"type": "verdict", "program": digest_of(SQUARE)})["type"] == "verdict"
    for channel in crowd:
        channel.close()


def test_a_text_made_to_keep_a_parser_busy_is_refused_in_good_time(served: tuple[Scene, Client]) -> None:
    made, _ = served
    bombs = [
        evolved("x = " + "(" * 190 + "1" + ")" * 190 + "\n"),
        evolved("x = " + "-" * 90_000 + "1\n"),
        evolved("x = " + "[" * 50_000 + "\n"),
        evolved("x = " + "lambda: " * 11_000 + "1\n"),
        evolved('f"' + '{f"' * 5_000 + "\n"),
    ]
    with made.client() as worker:
        for bomb in bombs:
            answer = worker.program(bomb)
            if answer["type"] == "running":
                worker.calls().close()
                worker.judge(1.0)
            else:
                assert answer["findings"][0]["rule"] == "protected_text_must_stand"
    works(made)


def test_a_long_program_is_hashed_and_named_and_never_kept(served: tuple[Scene, Client]) -> None:
    made, _ = served
    text = "#" * 10_000_000
    with made.client() as worker:
        answer = worker.program(text)
    assert (answer["type"], answer["program"]) == ("refused", digest_of(text))
    assert [finding["rule"] for finding in answer["findings"]] == ["size_must_fit"]
    folder = made.project.home / "programs"
    assert max(path.stat().st_size for path in folder.iterdir()) < 100_000


def test_a_program_that_talks_without_end_holds_nobody_up(served: tuple[Scene, Client]) -> None:
    made, _ = served
    text = evolved("import sys\ndef solve(n):\n    while True:\n        sys.stderr.write('x' * 65536)\n")
    with made.client() as worker:
        assert worker.program(text, seconds=4)["type"] == "running"
        calls = worker.calls()
        os.write(
            calls.write_fd,
            encode_frame({"type": "ask", "block": 1, "items": [{"call": "solve", "args": '[[1],{"dict":[]}]'}]}),
        )
        works(made)
        assert worker.judge(1.0)["ended"] in {"alive", "wall"}
        calls.close()


def test_a_report_that_is_none_ends_its_program(served: tuple[Scene, Client]) -> None:
    made, run = served
    reports: list[dict[str, Any]] = [
        {"metrics": [1, 2]},
        {"metrics": {str(n): n for n in range(300)}},
        {"metrics": {"score": {"deep": 1}}},
        {"metrics": {}, "reasons": "no list"},
        {"metrics": {}, "signals": [1]},
        {"metrics": {}, "fault": 7},
    ]
    for number, report in enumerate(reports):
        with made.client() as worker:
            text = evolved(f"def solve(n):\n    return {number}\n")
            assert worker.program(text)["type"] == "running"
            worker.calls().close()
            assert worker.ask({"type": "judge", **report})["type"] == "stop"
        while not (known := run.ask({"type": "verdict", "program": digest_of(text)}))["known"]:
            pass
        assert known["admitted"] is False
    works(made)


def test_nothing_that_was_refused_or_never_seen_can_leave_the_step(served: tuple[Scene, Client]) -> None:
    made, run = served
    bad = PARENT.replace("return 10", "return 11")
    with made.client() as worker:
        assert worker.program(bad)["type"] == "refused"
    for text in (bad, "never seen", PARENT):
        answer = run.ask({"type": "propose", "program": digest_of(text), "claim": {}})
        assert (answer["type"], answer["why"][0]["rule"]) == ("no", "program_must_be_admitted")


def test_a_text_that_is_tried_until_it_passes_shows_every_try(served: tuple[Scene, Client]) -> None:
    made, run = served
    flaky = evolved("def solve(n):\n    return n + 77\n")
    before = spent(run)
    with made.client() as worker:
        for score in ("nan", "nan", 1.0):
            assert worker.program(flaky)["type"] == "running"
            worker.calls().close()
            worker.judge(score)
    assert spent(run)["programs"] == before["programs"] + 3
    assert eventually(lambda: _rows(made, flaky) == ["refused", "refused", "admitted"])


def _rows(made: Scene, text: str) -> list[str]:
    entries = [event for _, event in made.project.entries(0, 1000)]
    rows = [row for event in entries if isinstance(event, ProgramsJudged) for row in event.programs]
    return [str(row["verdict"]) for row in rows if row["program"] == digest_of(text)]


def spent(run: Client) -> dict[str, Any]:
    return dict(run.ask({"type": "verdict", "program": digest_of("never seen")})["used"])


def test_figures_that_no_request_uses_neither_break_the_log_nor_wrap_around(served: tuple[Scene, Client]) -> None:
    """The warrant of this test bounds neither tokens nor money, so that nothing of it ends the step."""
    made, run = served
    for tokens in (2**53 - 1, 10**15 + 1):
        with made.client() as meter:
            assert meter.ask({"type": "usage", "requests": 0, "tokens": tokens, "usd": 0})["type"] == "stop"
    with made.client() as meter:
        for _ in range(3):
            said = {"type": "usage", "requests": 10**15, "tokens": 10**15, "usd": 1e15}
            assert meter.ask(said)["type"] == "noted"
    assert (spent(run)["tokens"], spent(run)["usd"]) == (10**15, 10**15)
    works(made)
