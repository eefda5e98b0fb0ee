"""A loop's programs as the log tells of them: the rows of one entry, and what they come to in an improve step."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from keyturn.core import events as ev
from keyturn.core.bounds import Used
from keyturn.core.errors import MalformedInput
from keyturn.core.state import Attempt, State
from keyturn.core.terms import Digest, Json

ADMITTED, REFUSED = "admitted", "refused"

ROWS_MAX = 100
"""How many programs one entry of the log may hold, so that it stays below the size of a leaf."""

RULES_MAX = 7
MISCONDUCT = "conduct_must_be_clean"
"""The rule whose refusal is never taken back, however the program is judged later."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_RULE = re.compile(r"[a-z_]{1,30}_must_[a-z_]{1,30}")
_HELP = "do not trust this log"


@dataclass(frozen=True, slots=True)
class Judged:
    """One row of a batch: a program, its verdict, the rules that refused it, and the digest of the evidence."""

    program: Digest
    verdict: str
    rules: tuple[str, ...]
    evidence: str

    def to_json(self) -> dict[str, Json]:
        """The row as plain data, for the log."""
        rules: list[Json] = [*self.rules]
        return {"program": self.program, "verdict": self.verdict, "rules": rules, "evidence": self.evidence}


def rows(programs: Sequence[Mapping[str, Json]]) -> tuple[Judged, ...]:
    """The rows of one entry, each well formed and each program once. Raises `MalformedInput`."""
    if len(programs) > ROWS_MAX:
        raise MalformedInput(f"{len(programs)} programs in one entry; {ROWS_MAX} is the most", help=_HELP)
    found = tuple(_row(body) for body in programs)
    if len({row.program for row in found}) != len(found):
        raise MalformedInput("a program has two verdicts in one entry", help=_HELP)
    return found


def _row(body: Mapping[str, Json]) -> Judged:
    """Admitted against no rule, or refused by one at least: anything else is no verdict."""
    said = body.get("rules")
    rules = tuple(str(rule) for rule in said) if isinstance(said, list) else ()
    row = Judged(Digest(str(body.get("program"))), str(body.get("verdict")), rules, str(body.get("evidence")))
    holds = (
        row.to_json() == body
        and row.verdict == (REFUSED if rules else ADMITTED)
        and len(rules) <= RULES_MAX
        and all(_RULE.fullmatch(rule) for rule in rules)
        and _DIGEST.fullmatch(row.program) is not None
        and (not row.evidence or _DIGEST.fullmatch(row.evidence) is not None)
    )
    if not holds:
        raise MalformedInput(f"`{str(body)[:80]}` is not a verdict on a program", help=_HELP)
    return row


def charged(event: ev.ProgramsJudged) -> Used:
    """What an entry charges to the warrant, the programs among it that a crash may have kept from the log included."""
    used = Used.from_json(event.used)
    if not 0 <= event.lost <= used.programs:
        raise MalformedInput(f"{event.lost} programs lost of {used.programs} used", help=_HELP)
    return used


def summary(state: State, attempt: Attempt) -> ev.Document:
    """What a dossier says of the run that its candidate came from, and of the warrant's bounds what it has spent."""
    warrant = next((each for each in state.warrants if each.id == attempt.warrant), None)
    return {
        "batches": attempt.batches,
        "judged": attempt.judged,
        "admitted": len(attempt.admitted),
        "refused": dict(attempt.refused),
        "lost": attempt.lost,
        "used": attempt.spent.to_json(),
        "spent": warrant.spent.to_json() if warrant else attempt.spent.to_json(),
        "bounds": warrant.bounds.to_json() if warrant else {},
    }


def tallied(attempt: Attempt, event: ev.ProgramsJudged) -> Attempt:
    """The improve step after this entry. Raises `MalformedInput`.

    The last verdict on a program counts, but one that was refused for its conduct is barred from then on.
    """
    if event.batch != attempt.batches + 1:
        raise MalformedInput(f"it is batch {event.batch}; {attempt.batches + 1} is next", help=_HELP)
    judged = rows(event.programs)
    refused = [row for row in judged if row.verdict == REFUSED]
    admitted = attempt.admitted.union(row.program for row in judged if row.verdict == ADMITTED)
    barred = attempt.barred.union(row.program for row in refused if MISCONDUCT in row.rules)
    return replace(
        attempt,
        batches=event.batch,
        batch_open=not event.closing,
        admitted=admitted.difference(barred, (row.program for row in refused)),
        barred=barred,
        judged=attempt.judged + len(judged),
        refused=dict(Counter(attempt.refused) + Counter(row.rules[0] for row in refused)),
        lost=attempt.lost + event.lost,
        spent=attempt.spent + charged(event),
    )
