"""What an auditor says to a head that a log signed: nothing, or why it must not be cosigned.

Three words, never mixed: `illegal` stays until a person removes the mark, `not yet` passes by itself, and `not this
log` is the fault of whoever serves the files, of the auditor's own disk, or of a log with two histories.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.core.errors import Conflict, KeyturnError, Unavailable
from keyturn.ledger.auditing.marks import Mark
from keyturn.ledger.auditing.mirror import Mirror

NAMED_MAX = 3
"""How many marks a refusal names; `keyturn auditor show` names all."""


def judge(mirror: Mirror, note: bytes) -> str | None:
    """Why the head in this note must not be cosigned, or None: its entries are fetched, compared, decided again.

    A mark that stands is the answer whatever else goes wrong, and it does not keep the mirror from going on.
    """
    said = _advanced(mirror, note)
    try:
        standing = mirror.marks.standing()
    except KeyturnError as fault:
        return f"not yet: {fault.message}"
    return illegal(standing) if standing else said


def illegal(standing: Sequence[Mark]) -> str:
    """The refusal for marks that stand."""
    named = "; ".join(f"entry {mark.entry}: {mark.rule}: {mark.message}" for mark in standing[:NAMED_MAX])
    more = f" (and {len(standing) - NAMED_MAX} more)" if len(standing) > NAMED_MAX else ""
    return f"illegal: {named}{more}; this auditor does not cosign this log"


def _advanced(mirror: Mirror, note: bytes) -> str | None:
    try:
        mirror.advance(note)
    except (Unavailable, Conflict) as fault:
        return f"not yet: {fault.message}"
    except KeyturnError as fault:
        return f"not this log: {fault.message}"
    if not mirror.decided:  # whatever was pardoned: nobody vouches for what was not decided
        return "illegal: an entry cannot stand in this log, and nothing after it can be decided again"
    return None
