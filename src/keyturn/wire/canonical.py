"""Canonical JSON: one value, one sequence of bytes (RFC 8785, with the limits of I-JSON, RFC 7493).

It encodes and strictly decodes; it never repairs what it reads, and never looks at what a value means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import rfc8785

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Json
from keyturn.wire import base64

HASH_BYTES = 32
INTEGER_MAX = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 8785 section 3.2.2.3)."""

DEPTH_MAX = 32
"""How many arrays and objects may lie inside one another, unless the caller says less."""

_HELP_PLAIN = "use null, booleans, integers, finite numbers, Unicode text, lists and objects with text keys"
_HELP_TEXT = "send it as text"
_HELP_FLAT = "flatten the value"
_HELP_READ = "write the bytes again with canonical JSON (RFC 8785)"
# An unterminated string runs to the end, so that one pass over hostile bytes stays linear.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def encode(value: Json) -> bytes:
    """Return the one canonical form of `value`; what it returns always reads back as an equal value.

    Raises MalformedInput for what JSON cannot carry exactly: NaN, infinity, an integer (or a number that
    would be written as one) beyond +-(2^53 - 1), a lone surrogate, a key that is not text, another type,
    nesting deeper than `DEPTH_MAX`.
    """
    try:
        _require_plain(value, DEPTH_MAX)
        return rfc8785.dumps(cast("Any", value))
    except rfc8785.CanonicalizationError as error:
        raise MalformedInput(f"the value has no canonical JSON: {error}", help=_HELP_PLAIN) from error
    except UnicodeEncodeError as error:
        raise MalformedInput("found a lone surrogate in a key; text is expected", help=_HELP_PLAIN) from error


def _require_plain(value: object, depth_left: int) -> None:
    """Refuse what would be written but not read back: RFC 8785 writes 1e20 as an integer."""
    if isinstance(value, float) and INTEGER_MAX < abs(value) < 1e21:
        raise MalformedInput(f"found the number {value!r}; +-(2^53 - 1) is the limit", help=_HELP_PLAIN)
    if not isinstance(value, (dict, list, tuple)):
        return
    if depth_left == 0:
        raise MalformedInput(f"found a value nested deeper than {DEPTH_MAX} levels", help=_HELP_FLAT)
    for item in value.values() if isinstance(value, dict) else value:
        _require_plain(item, depth_left - 1)


def decode(data: bytes, *, depth_max: int = DEPTH_MAX) -> Json:
    """Read one JSON value strictly; the bytes need not be canonical, but must mean one thing to every reader.

    Raises MalformedInput, naming what was found: not UTF-8, a key given twice, NaN or infinity, an integer
    beyond +-(2^53 - 1), a lone surrogate, bytes after the value, deeper nesting than `depth_max`.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedInput(f"found no UTF-8 at offset {error.start}", help=_HELP_READ) from error
    _require_depth(data, depth_max)
    try:
        value = _READER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise MalformedInput(f"found no JSON at character {error.pos}: {error.msg.lower()}", help=_HELP_READ) from error
    except UnicodeEncodeError as error:
        raise MalformedInput("found a lone surrogate; Unicode text is expected", help=_HELP_READ) from error
    return cast("Json", value)


def decode_canonical(data: bytes, *, depth_max: int = DEPTH_MAX) -> Json:
    """Read one JSON value whose bytes are already its canonical form.

    Raises MalformedInput as `decode` does, and when the same value would be written with other bytes.
    """
    value = decode(data, depth_max=depth_max)
    wanted = encode(value)
    if wanted != data:
        at = next((i for i, pair in enumerate(zip(data, wanted, strict=False)) if pair[0] != pair[1]), len(wanted))
        raise MalformedInput(f"found JSON that is not canonical from offset {at}", help=_HELP_READ)
    return value


def _require_depth(data: bytes, depth_max: int) -> None:
    if data.count(b"[") + data.count(b"{") <= depth_max:
        return
    depth = 0
    for byte in _STRING.sub(b"", data).translate(None, _NO_BRACKETS):
        if byte in b"[{":
            depth += 1
            if depth > depth_max:
                raise MalformedInput(f"found JSON nested deeper than {depth_max} levels", help=_HELP_FLAT)
        else:
            depth -= 1


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # add() is None
        raise MalformedInput(f"found the key `{twice[:80]}` twice in one object", help="give each key once")
    return found


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= 17 else INTEGER_MAX + 1
    if abs(value) > INTEGER_MAX:
        raise MalformedInput(f"found the integer {digits[:24]}; +-(2^53 - 1) is the limit", help=_HELP_TEXT)
    return value


def _number(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise MalformedInput(f"found the number {digits[:24]}, which is not finite", help=_HELP_PLAIN)
    return value


def _constant(name: str) -> NoReturn:
    raise MalformedInput(f"found `{name}`; JSON has finite numbers only", help=_HELP_PLAIN)


_READER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=_number, parse_constant=_constant)


@dataclass(frozen=True, slots=True)
class Shape:
    """Reads one kind of file; each method raises MalformedInput, naming the place `what` and with this `help`."""

    help: str

    def fields(self, value: Json, what: str, names: Collection[str] | None = None) -> dict[str, Json]:
        """Return an object that holds exactly these members; any members where `names` is None."""
        if not isinstance(value, dict) or (names is not None and set(value) != set(names)):
            raise self.refused(f"`{what}` does not hold exactly {', '.join(sorted(names or ())) or 'an object'}")
        return value

    def text(self, value: Json, what: str) -> str:
        """Return a text."""
        if not isinstance(value, str):
            raise self.refused(f"`{what}` is not text")
        return value

    def whole(self, value: Json, what: str) -> int:
        """Return a whole number from 0 on; `true` is none."""
        if type(value) is not int or value < 0:
            raise self.refused(f"`{what}` is not a whole number")
        return value

    def items(self, value: Json, what: str, most: int, *, noun: str = "items") -> list[Json]:
        """Return a list of at most so many items."""
        if not isinstance(value, list) or len(value) > most:
            raise self.refused(f"`{what}` is not a list of at most {most} {noun}")
        return value

    def hashes(self, value: Json, what: str, most: int) -> tuple[bytes, ...]:
        """Return a list of at most so many hashes, each of 32 bytes in base64."""
        found = tuple(base64.decode(each, what=what) for each in self.items(value, what, most, noun="hashes"))
        if any(len(each) != HASH_BYTES for each in found):
            raise self.refused(f"`{what}` holds something that is not {HASH_BYTES} bytes")
        return found

    def refused(self, message: str) -> MalformedInput:
        """Return the error that says so."""
        return MalformedInput(message, help=self.help)
