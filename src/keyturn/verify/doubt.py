"""A reason not to act, as a value; and as an error where nothing that comes after could be believed."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.core.errors import KeyturnError, UntrustedInput

FRESH = "get a fresh bundle: `keyturn permit show ID --bundle FILE`"
"""What helps against a bundle that is old or incomplete."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """One reason not to act; `check` is the number of the check that found it, as `check.py` numbers them."""

    check: int
    message: str
    help: str


class Failed(UntrustedInput):
    """A check without which the later ones mean nothing."""

    def __init__(self, check: int, message: str, help: str = FRESH) -> None:
        super().__init__(message, help=help)
        self.check = check


def doubt_of(fault: KeyturnError) -> Doubt:
    """The doubt that a fault is; what has no number of its own could not be read as something signed: check 4."""
    return Doubt(fault.check if isinstance(fault, Failed) else 4, fault.message, fault.help)
