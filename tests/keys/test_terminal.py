"""On a terminal the person sees what the message itself says, and what they type does not show."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from keyturn.keys.keyfile import path_of
from keyturn.keys.showing import describe_message, safe_line, screen
from tests.keys.conftest import PASSPHRASE

GOVERNOR = """
    import fcntl, os, sys, termios
    os.setsid()
    fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
    from pathlib import Path
    from keyturn.core.errors import KeyturnError
    from keyturn.core.terms import Instant
    from keyturn.keys.keyfile import KeyKind
    from keyturn.keys.signing import create_in_child, sign_in_child
    try:
        if sys.argv[2] == "sign":
            sign_in_child(Path(sys.argv[3]), os.fsencode(sys.argv[4]), show=["release c1\\x1b[2J"])
        else:
            create_in_child(Path(sys.argv[3]), "ada", KeyKind.ED25519, created_at=Instant(1))
        print("done")
    except KeyturnError as error:
        print(error.message)
"""


def statement(**predicate: object) -> bytes:
    """A message M: an in-toto statement in DSSE's pre-authentication encoding."""
    body = json.dumps({"predicateType": "urn:keyturn:approval:v1", "predicate": predicate}).encode()
    kind = b"application/vnd.in-toto+json"
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def converse(arguments: list[str], answers: list[str]) -> tuple[str, str]:
    """Run the governor on a terminal of its own and type the answers; return the screen and its last word."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", textwrap.dedent(GOVERNOR), str(theirs), *arguments]
    governor = subprocess.Popen(
        command, pass_fds=(theirs,), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    shown = ""
    for answer, prompt in zip(answers, ("passphrase: ", "again: "), strict=False):
        shown += read_until(ours, prompt)
        os.write(ours, f"{answer}\n".encode())
    said = governor.communicate(timeout=30)[0]
    os.set_blocking(ours, False)
    try:
        shown += os.read(ours, 65_536).decode()
    except BlockingIOError:
        pass
    os.close(theirs)
    os.close(ours)
    return shown, said.strip()


def read_until(handle: int, prompt: str) -> str:
    """Read the terminal until the prompt stands there."""
    shown, end = "", time.monotonic() + 20
    while not shown.endswith(prompt) and time.monotonic() < end:
        shown += os.read(handle, 65_536).decode()
    return shown


def test_the_person_sees_the_message_itself_and_not_what_they_type(ada: Path) -> None:
    message = statement(decision="approve", gate="release", lineage="connect4")
    shown, said = converse(["sign", str(ada), os.fsdecode(message)], [PASSPHRASE])
    assert said == "done"
    assert "decision   approve" in shown
    assert "gate       release" in shown
    assert "governor says: release c1\\u001b[2J" in shown
    assert "\x1b" not in shown
    assert PASSPHRASE not in shown


def test_a_wrong_passphrase_on_the_terminal_is_told_plainly(ada: Path) -> None:
    shown, said = converse(["sign", str(ada), "m"], ["wrong horse"])
    assert said == "the passphrase does not open the key of `ada`, or the key file was altered"
    assert "wrong horse" not in shown


def test_a_new_key_asks_its_passphrase_twice(folder: Path) -> None:
    shown, said = converse(["create", str(folder)], [PASSPHRASE, PASSPHRASE])
    assert said == "done"
    assert "nobody can recover it" in shown
    assert PASSPHRASE not in shown
    assert path_of(folder, "ada").exists()


def test_two_different_passphrases_make_no_key(folder: Path) -> None:
    _, said = converse(["create", str(folder)], [PASSPHRASE, "another"])
    assert said == "the two passphrases differ"
    assert not path_of(folder, "ada").exists()


def test_without_a_terminal_nothing_is_asked_on_standard_input(ada: Path) -> None:
    script = (
        "import os, sys; os.setsid(); from pathlib import Path; from keyturn.core.errors import Unavailable;"
        "from keyturn.keys.signing import sign_in_child\n"
        "try: sign_in_child(Path(sys.argv[1]), b'm')\n"
        "except Unavailable as error: print(error.message)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(ada)], input=PASSPHRASE, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "there is no terminal to ask for the passphrase on"


def test_the_digest_shown_is_of_the_bytes_that_are_signed() -> None:
    expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert describe_message(b"abc")[0] == f"message    {expected}"


@pytest.mark.parametrize(
    "message",
    [
        b"abc",
        b"DSSEv1 ",
        b"DSSEv1 3 abc 5 {}",
        b"DSSEv1 3 abc 2 {} ",
        b"DSSEv1 3 abc2 {}",
        b"DSSEv1 -1 abc 2 {}",
        b"DSSEv1 3 abc 2 []",
        b'DSSEv1 3 abc 19 {"gate":1,"gate":2}',
        b"DSSEv1 999999999999 abc 2 {}",
        b"DSSEv1 3 abc 50000 " + b"[" * 50_000,
    ],
)
def test_attack_a_message_that_only_looks_like_a_statement_is_not_described_as_one(message: bytes) -> None:
    assert "not a statement that this program can read" in describe_message(message)[1]


@pytest.mark.parametrize("hostile", ["\x1b[2K", "\r", "\n", "\u202e", "\u200b", "\x9b", "\x00", "\ud800"])
def test_attack_a_line_cannot_steer_the_terminal(hostile: str) -> None:
    shown = safe_line(f"approve{hostile}refuse")
    assert shown.isprintable()
    assert "\\u" in shown


def test_attack_a_flood_of_fields_cannot_push_the_decision_off_the_screen() -> None:
    flood: dict[str, object] = {f"a{n:05}": n for n in range(10_000)}
    lines = screen(person="ada", message=statement(**flood, decision="approve"), said=["x"] * 10_000)
    assert len(lines) <= 2 + 61 + 60
    assert any("more fields" in line for line in lines)
    assert lines[2] == "decision   approve"


def test_attack_a_predicate_cannot_hide_what_the_statement_says_about_its_subject() -> None:
    body = json.dumps({"subject": "the real one", "predicate": {"subject": "another"}}).encode()
    lines = describe_message(b"DSSEv1 3 abc %d %s" % (len(body), body))
    assert lines[1:] == ("subject    another", "subject    the real one")
