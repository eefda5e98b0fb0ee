"""What a person is about to sign, read from the message itself and made safe for a terminal.

Never takes the governor's word for the content: its own lines are shown apart, marked as its words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Final

LINES_MAX: Final = 60
LINE_CHARACTERS_MAX: Final = 240
FIRST: Final = ("decision", "gate", "lineage", "subject", "scope", "person", "role", "not_before", "not_after")


def safe_line(text: str) -> str:
    r"""Make a text harmless on a terminal: one line, printable characters only, bounded in length.

    Control characters, escape sequences and marks that reverse the reading order become `\u` escapes.
    """
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    if len(shown) <= LINE_CHARACTERS_MAX:
        return shown
    return f"{shown[:LINE_CHARACTERS_MAX]} … ({len(shown)} characters)"


def describe_message(message: bytes) -> tuple[str, ...]:
    """Say what a message M is: its own digest, and its statement field by field when it is one we can read."""
    digest = f"message    sha256:{hashlib.sha256(message).hexdigest()}"
    fields = _statement(message)
    if fields is None:
        return (
            digest,
            "content    not a statement that this program can read: check the digest before you sign",
        )
    return (digest, *fields)


def screen(*, person: str, message: bytes, said: Sequence[str]) -> tuple[str, ...]:
    """All lines to show before the passphrase is asked for; the caller's own words come last and are marked."""
    head = (f"Key of {safe_line(person)}: you are asked to sign", *describe_message(message))
    tail = tuple(f"governor says: {safe_line(line)}" for line in said[:LINES_MAX])
    return tuple(safe_line(line) for line in head) + tail


def _statement(message: bytes) -> tuple[str, ...] | None:
    """The fields of an in-toto statement inside DSSE's pre-authentication encoding; None when it is not one."""
    body = _unwrap(message)
    try:
        data = json.loads(body, object_pairs_hook=_no_duplicates) if body is not None else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    predicate = data.pop("predicate", None)
    fields = [*_ordered(predicate if isinstance(predicate, dict) else {}), *_ordered(data)]
    hidden = len(fields) - LINES_MAX
    return (*fields[:LINES_MAX], *([f"and {hidden} more fields, not shown"] if hidden > 0 else []))


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
