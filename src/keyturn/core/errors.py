"""Exceptions that say who is at fault, and the invariant that stops the process.

A refusal is never an exception: it is a `Decision` with findings. These are for what cannot be decided at all.
"""

from __future__ import annotations


class KeyturnError(Exception):
    """The root of every error that Keyturn raises on purpose.

    `message` says in one lower-case sentence what was found and what was expected; `help` says what to do next.
    """

    exit_code = 1

    def __init__(self, message: str, *, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.help = help


class MalformedInput(KeyturnError):
    """The caller handed in something that is not well formed: a file, an argument, a configuration."""

    exit_code = 2


class UntrustedInput(KeyturnError):
    """The input is well formed, but nothing that we trust vouches for it."""

    exit_code = 3


class TamperDetected(KeyturnError):
    """Bytes differ from what was committed to; `proof` holds what shows it to a stranger."""

    exit_code = 3

    def __init__(self, message: str, *, help: str = "", proof: str = "") -> None:
        super().__init__(message, help=help)
        self.proof = proof


class Unavailable(KeyturnError):
    """Something that we need cannot be had now (disk, lock, sandbox); never evidence about a candidate."""

    exit_code = 4


class Conflict(KeyturnError):
    """The log moved between reading and writing: read again, decide again."""

    exit_code = 5


class InvariantBroken(KeyturnError):
    """Our own code is wrong; nothing may continue on a state that cannot exist."""

    exit_code = 70


def invariant(holds: bool, message: str) -> None:
    """Stop when `holds` is false; unlike `assert` it also does so under `python -O`."""
    if not holds:
        raise InvariantBroken(message, help="this is a defect in Keyturn; please report it with the log")
