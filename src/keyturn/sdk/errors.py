"""What can go wrong for a loop, by who is at fault: the program, its end, the rules, or the end of all leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from keyturn.core.errors import KeyturnError
from keyturn.core.finding import Finding


class Refused(KeyturnError):
    """The governor gives no leave for what was asked; `findings` holds every reason, `step` what must come first."""

    def __init__(self, what: str, findings: Sequence[Finding], *, step: str = "") -> None:
        reasons = "; ".join(finding.message for finding in findings) or "no reason was given"
        remedies = dict.fromkeys(finding.help for finding in findings if finding.help)
        super().__init__(f"{what}: {reasons}", help="; ".join(remedies) or "see `keyturn status`")
        self.findings, self.step = tuple(findings), step


class ProgramRefused(Refused):
    """This program was refused before anything of it ran, so it cannot be called."""

    program: object = None
    """Which one it was."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("the program was refused and did not run", findings)


class ProgramFailed(KeyturnError):
    """The program raised an exception, or has not what was asked for; `type` and `text` are its own words."""

    program: object = None
    """Whose words they are."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(f"{type}: {message}" if message else type, help="the program is at fault, not its caller")
        self.type, self.text = type, message


class ProgramEnded(KeyturnError):
    """The program's sandbox is gone or no longer answers; `how` says what is known of it from here."""

    program: object = None
    """Which one it was."""

    def __init__(self, how: str) -> None:
        super().__init__(f"the program has ended: {how}", help="`admit` says how it ended, and why it is refused")
        self.how = how


class Stopped(KeyturnError):
    """The loop must stop: a halt, the end of the warrant, bounds that are used up, or a governor that is gone."""

    def __init__(self, why: str, *, halted: bool = False) -> None:
        super().__init__(f"the loop must stop: {why}", help="see `keyturn status`")
        self.why, self.halted = why, halted
        self.exit_code = 6 if halted else 1


_LIKE: Final[tuple[type[Exception], ...]] = (
    ArithmeticError, AssertionError, AttributeError, FloatingPointError, IndexError, KeyError, LookupError, NameError,
    NotImplementedError, OverflowError, RecursionError, RuntimeError, TypeError, ValueError, ZeroDivisionError,
)  # fmt: skip  # a list reads best as a block
_FAILED: Final[dict[str, type[ProgramFailed]]] = {
    kind.__name__: type(f"ProgramFailed{kind.__name__}", (ProgramFailed, kind), {"__doc__": kind.__doc__})
    for kind in _LIKE
}
"""A program's ordinary exceptions are also of their usual type, so that an evaluator's `except ValueError` holds."""


def failed(told: str) -> ProgramFailed:
    """The error for what a runner told in one line: a type's name, a colon, a message."""
    name, _, message = told.partition(": ")
    return _FAILED.get(name, ProgramFailed)(name[:200], message)
