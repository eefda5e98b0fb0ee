"""What you see is what you sign, also where the message only refers to your words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keyturn.core.errors import UntrustedInput
from keyturn.keys.keyfile import KeyKind, create, path_of
from keyturn.keys.showing import describe_message, screen, words_of
from keyturn.keys.signing import sign_in_child
from keyturn.wire.blobs.blob import Blob
from keyturn.wire.dsse import pae
from tests.keys.conftest import AT

SAID = Blob(b"s" * 32, b"I read it; ada's mother is ill")
OTHER = Blob(b"s" * 32, b"I read nothing")


def message(reason: str = SAID.reference) -> bytes:
    body = {"predicate": {"decision": "approve", "person": "ada", "reason": reason}}
    return pae("application/vnd.in-toto+json", json.dumps(body).encode())


def test_the_words_are_shown_and_what_they_are_behind() -> None:
    words = words_of(message(), SAID.encoded)
    shown = screen(person="ada", message=message(), said=(), words=words)
    assert "you say    I read it; ada's mother is ill" in shown
    assert f"reason     {SAID.reference}" in shown


def test_a_long_reason_is_shown_to_its_end_and_cannot_push_the_decision_away() -> None:
    text = "a" * 1500 + "\x1b[31m" * 400 + "THE END"
    lines = describe_message(message(), text)
    assert "".join(line[11:] for line in lines if line[:7] in ("you say", "       ")).endswith("THE END")
    assert any(line.startswith("decision") for line in lines[:3])
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(
    ("reason", "encoded"),
    [
        (SAID.reference, OTHER.encoded),
        (SAID.reference, b""),
        (SAID.reference, SAID.encoded + b" and more"),
        ("plain words", SAID.encoded),
        (Blob(b"s" * 32, b"\xff").reference, Blob(b"s" * 32, b"\xff").encoded),
        (Blob(b"s" * 32, b" ").reference, Blob(b"s" * 32, b" ").encoded),
    ],
    ids=["other words", "no words", "more words", "words for a message that has its own", "no text", "nothing said"],
)
def test_attack_words_that_are_not_those_of_the_message_are_not_signed(reason: str, encoded: bytes) -> None:
    with pytest.raises(UntrustedInput):
        words_of(message(reason), encoded)


def test_a_message_with_plain_words_needs_no_blob() -> None:
    assert words_of(message("plain words"), b"") is None
    assert words_of(b"no statement at all", b"") is None


def test_attack_the_signing_process_itself_refuses_other_words(tmp_path: Path) -> None:
    """A governor that shows one reason and logs another gets no signature, not even of a key that asks nobody."""
    create(tmp_path / "keys", "ada", KeyKind.SIMULATED, created_at=AT)
    key = path_of(tmp_path / "keys", "ada")
    assert sign_in_child(key, message(), blob=SAID)
    with pytest.raises(UntrustedInput, match="not the one that came with it"):
        sign_in_child(key, message(), blob=OTHER)
    with pytest.raises(UntrustedInput, match="not the one that came with it"):
        sign_in_child(key, message())
