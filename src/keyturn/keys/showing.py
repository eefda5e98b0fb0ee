"""What a person is about to sign, read from the message itself and made safe for a terminal.

Never takes the governor's word for the content: its own lines are shown apart, marked as its words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Final

from keyturn.core.errors import TamperDetected, UntrustedInput
from keyturn.wire.blobs.blob import decode, referred

LINES_MAX: Final = 60
LINE_CHARACTERS_MAX: Final = 240
WORDS_MAX: Final = 4000
"""How long a reason may be that a person is asked to sign."""

PIECE: Final = 200
FIRST: Final = ("decision", "gate", "lineage", "subject", "scope", "person", "role", "not_before", "not_after")


def safe_line(text: str) -> str:
    r"""Make a text harmless on a terminal: one line, printable characters only, bounded in length.

    Control characters, escape sequences and marks that reverse the reading order become `\u` escapes.
    """
    shown = _printable(text)
    if len(shown) <= LINE_CHARACTERS_MAX:
        return shown
    return f"{shown[:LINE_CHARACTERS_MAX]} … ({len(shown)} characters)"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def words_of(message: bytes, encoded: bytes) -> str | None:
    """The words of the reason that a message refers to, out of the blob that came with it; None without a reference.

    The commitment is computed again from salt and words. Raises UntrustedInput for a blob that the message does not
    refer to, and for a reference without its blob: what cannot be shown is not signed.
    """
    said = _parsed(message) or {}
    predicate = said.get("predicate")
    digest = referred(predicate.get("reason")) if isinstance(predicate, dict) else None
    if digest is None and not encoded:
        return None
    try:
        if digest is None:
            raise UntrustedInput("words came with a message that refers to none", help="do not sign it")
        words = decode(encoded, digest).data.decode("utf-8")
    except (TamperDetected, UnicodeDecodeError):
        raise UntrustedInput(
            "the reason that the message refers to is not the one that came with it",
            help="do not sign: the machine that asks for this would show other words than it logs",
        ) from None
    if not words.strip() or len(words) > WORDS_MAX:
        raise UntrustedInput(
            f"the reason has {len(words)} characters; 1 to {WORDS_MAX} are expected", help="shorten it"
        )
    return words


def describe_message(message: bytes, words: str | None = None) -> tuple[str, ...]:
    """Say what a message M is: its own digest, and its statement field by field when it is one we can read.

    `words` are those of the reason that it refers to; they are shown in full, and after them what they are behind.
    """
    digest = f"message    sha256:{hashlib.sha256(message).hexdigest()}"
    fields = _statement(message, words)
    if fields is None:
        return (
            digest,
            "content    not a statement that this program can read: check the digest before you sign",
        )
    return (digest, *fields)


def screen(*, person: str, message: bytes, said: Sequence[str], words: str | None = None) -> tuple[str, ...]:
    """All lines to show before the passphrase is asked for; the caller's own words come last and are marked."""
    head = (f"Key of {safe_line(person)}: you are asked to sign", *describe_message(message, words))
    tail = tuple(f"governor says: {safe_line(line)}" for line in said[:LINES_MAX])
    return tuple(safe_line(line) for line in head) + tail


def _parsed(message: bytes) -> dict[str, object] | None:
    """The statement inside DSSE's pre-authentication encoding; None when there is none."""
    body = _unwrap(message)
    try:
        data = json.loads(body, object_pairs_hook=_no_duplicates) if body is not None else None
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _statement(message: bytes, words: str | None) -> tuple[str, ...] | None:
    """The fields of an in-toto statement, then the reason's own words where it only refers to them."""
    data = _parsed(message)
    if data is None:
        return None
    predicate = data.pop("predicate", None)
    fields = [*_ordered(predicate if isinstance(predicate, dict) else {}), *_ordered(data)]
    hidden = len(fields) - LINES_MAX
    more = [f"and {hidden} more fields, not shown"] if hidden > 0 else []
    return (*fields[:LINES_MAX], *more, *([] if words is None else _told(words)))


def _told(words: str) -> list[str]:
    """The words in as many lines as they need; none of them is left out."""
    text = _printable(words)
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    return [f"{'you say' if at == 0 else '':<10} {piece}" for at, piece in enumerate(pieces)]


def _ordered(fields: dict[str, object]) -> list[str]:
    """One line per field: what decides comes first, so that no number of other fields can push it away."""
    order = {name: place for place, name in enumerate(FIRST)}
    names = sorted(fields, key=lambda name: (order.get(name, len(FIRST)), name))
    return [f"{name:<10} {_plain(fields[name])}" for name in names]


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Two readers may each see another one of two fields of one name, so such a message is not readable."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field occurs twice")
    return found


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _unwrap(message: bytes) -> bytes | None:
    """The body of `DSSEv1 LEN TYPE LEN BODY`, or None when the lengths do not add up exactly."""
    if not message.startswith(b"DSSEv1 "):
        return None
    kind = _take(message[7:])
    body = _take(kind[1][1:]) if kind is not None and kind[1].startswith(b" ") else None
    return body[0] if body is not None and not body[1] else None


def _take(rest: bytes) -> tuple[bytes, bytes] | None:
    length, space, rest = rest.partition(b" ")
    if not space or not length.isdigit() or len(length) > 9 or int(length) > len(rest):
        return None
    return rest[: int(length)], rest[int(length) :]
