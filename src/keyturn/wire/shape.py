"""Plain data of exactly one shape: members by name, text, whole numbers, hashes; anything else is refused.

What a member means is for its reader to know; here only its kind is looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Json
from keyturn.wire import base64

HASH_BYTES = 32


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
