"""What a standing halt forbids, and what it takes to lift it."""

from __future__ import annotations

from collections.abc import Iterator

from keyturn.core.finding import Finding, Request
from keyturn.core.state import State
from keyturn.core.terms import Instant


def halt_must_be_lifted(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """Nothing starts and nothing is released while a halt stands."""
    halt = state.halt
    if halt is not None:
        message = f"the loop was halted by `{halt.by}`: {halt.reason[:200]}"
        yield Finding("halt_must_be_lifted", message, "`keyturn resume --as PERSON`, by quorum")


def halt_must_be_proven(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """Only a halt that stands, is named by the dossier, and was seen to be complete can be lifted."""
    halt, dossier = state.halt, state.dossiers.get(request.dossier)
    if halt is None:
        yield Finding("halt_must_be_proven", "no halt stands; there is nothing to resume", "`keyturn status`")
        return
    if not halt.proven:
        message = f"halt `{halt.id}` is UNPROVEN: something may still be alive"
        yield Finding("halt_must_be_proven", message, "`keyturn halt` again, on the machine that ran the subject")
    if dossier is not None and dossier.document.get("halt") != halt.id:
        yield Finding("halt_must_be_proven", "the dossier is about another halt", "ask for a decision on this one")
