"""The nouns that every room shares; the words are those of GLOSSARY.md."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

Instant = NewType("Instant", int)
"""A moment: milliseconds since the Unix epoch, UTC."""

Digest = NewType("Digest", str)
"""A SHA-256 digest, written `sha256:` and 64 lower-case hexadecimal digits."""

NEVER = Instant(0)
"""The moment before every logged moment, where there is none yet."""

NO_DIGEST = Digest("")
"""Where a digest will stand once there is something to name."""


class Gate(StrEnum):
    """A hold point: a named action that waits for people."""

    TRAIN = "train"
    RELEASE = "release"
    REPLICATE = "replicate"
    PUBLISH = "publish"
    TUNE = "tune"
    RESUME = "resume"
    AMEND = "amend"


class Verdict(StrEnum):
    """What a trial has shown about one threshold so far; UNDECIDED never clears."""

    CLEAR = "CLEAR"
    TRIP = "TRIP"
    UNDECIDED = "UNDECIDED"


class Tier(StrEnum):
    """How tight a sandbox is, weakest first; compare with `rank`."""

    T0 = "T0"
    T1 = "T1"
    T2 = "T2"
    T3 = "T3"
    T4 = "T4"

    @property
    def rank(self) -> int:
        """The tier as a number, so that a least tier can be required."""
        return int(self.value[1:])


class Custody(StrEnum):
    """Where a person's key lies, weakest first."""

    SHARED_ACCOUNT = "shared-account"
    HOST = "host"
    SEPARATE = "separate"
    HARDWARE = "hardware"
