"""Let a generation make a candidate, sealed, and bring out exactly the declared files or the reason why not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from keyturn.core import bounds as limits
from keyturn.core import events as ev
from keyturn.core.agenda import Improve
from keyturn.core.bounds import Used
from keyturn.core.candidate import strayed
from keyturn.core.errors import MalformedInput, Unavailable, invariant
from keyturn.core.lawful.gates import SHADOW
from keyturn.core.programs import ADMITTED, MISCONDUCT, REFUSED
from keyturn.core.state import Attempt, Warrant
from keyturn.core.terms import Digest, Tier
from keyturn.flow.governor import Governor
from keyturn.flow.halt import record_or_trip
from keyturn.flow.incident import alarm_facts, programs_facts
from keyturn.flow.log import Fact, Stamp
from keyturn.flow.permit import load_generation
from keyturn.flow.ports import Attested, Batch, Improved, Interrupted, Judged, Leave
from keyturn.wire import artifact, canonical
from keyturn.wire.digest import sha256

CLAIM_FIGURES_MAX = 32
DIAGNOSTICS_BYTES_MAX = 1 << 20
"""How much is kept of what a subject printed: the end of it."""
FIGURE = re.compile(r"[a-z][a-z0-9_]{0,40}")


def improve(governor: Governor, step: Improve) -> None:
    """One improve step. A crash before the intent leaves nothing; after it, the same step is done again, fresh."""
    parent = load_generation(governor, step.parent)  # through its permit, like everybody
    if not step.resumed:
        governor.log.append(lambda stamp: _started(governor, step, stamp))
    result = governor.improver.improve(
        governor.policy,
        parent,
        leave=leave(governor, step),
        on_attested=lambda attested: record_attested(governor, f"improve:{step.attempt}", attested),
        on_programs=lambda batch: record_programs(governor, step, batch),
    )
    facts = _outcome(governor, step, result)
    record_or_trip(governor, facts, result.alarms)


def leave_shadow(governor: Governor, step: Improve) -> None:
    """End a step that shadow mode left open: outside of shadow mode nothing goes on that no warrant bounds."""
    result = Improved("ended", "shadow mode was left before the step had ended", 0.0, 0.0, 0, b"")
    governor.log.record(*_outcome(governor, step, result))


def leave(governor: Governor, step: Improve) -> Leave:
    """What the step may do, as the log has it once the step was started."""
    attempt, warrant = _attempt(governor, step), _warrant(governor, step)
    return Leave(
        attempt=step.attempt,
        generation=step.generation,
        seed=step.seed,
        bounds=warrant.bounds if warrant else None,
        used=warrant.spent if warrant else attempt.spent,
        admitted=attempt.admitted,
        open_batch=step.resumed and attempt.batch_open,
        resumed=step.resumed,
        **({"expires_at": warrant.expires_at} if warrant else {}),
    )


def _attempt(governor: Governor, step: Improve) -> Attempt:
    return governor.state.attempts[step.attempt]


def _warrant(governor: Governor, step: Improve) -> Warrant | None:
    """The warrant of this step; none in shadow mode, where nothing is bounded."""
    return next((warrant for warrant in governor.state.warrants if warrant.id == step.warrant), None)


def record_programs(governor: Governor, step: Improve, batch: Batch) -> None:
    """Log a batch with the incidents that its alarms open, in one append, and halt where the policy says so.

    A crash before it leaves the batch open, and the next run charges it as lost. Raises `Interrupted` after a halt.
    """
    kept = _kept(batch)
    facts: list[Fact] = [lambda stamp: _judged(governor, step, kept, stamp)]
    if record_or_trip(governor, [*facts, *programs_facts(governor, batch.alarms, attempt=step.attempt)], batch.alarms):
        raise Interrupted


def _kept(batch: Batch) -> Batch:
    """The batch with one row for each program, and none admitted that raised an alarm: doubt holds.

    Of two verdicts on one program the later counts, unless the earlier refused its conduct.
    """
    alarmed = {alarm.program for alarm in batch.alarms}
    found: dict[Digest, Judged] = {}
    for row in batch.programs:
        known = found.get(row.program)
        if row.verdict == ADMITTED and row.program in alarmed:
            found[row.program] = replace(row, verdict=REFUSED, rules=(MISCONDUCT,))
        elif known is None or MISCONDUCT not in known.rules:
            found[row.program] = row
    return replace(batch, programs=tuple(found.values()))


def _judged(governor: Governor, step: Improve, batch: Batch, stamp: Stamp) -> ev.Event:
    """The entry of a batch; it closes where the warrant leaves nothing more to run, whatever the loop had in mind."""
    attempt, warrant = _attempt(governor, step), _warrant(governor, step)
    over = False
    if warrant is not None:
        spent = warrant.spent + batch.used
        invariant(spent.programs <= warrant.bounds.programs_max, "a loop ran more programs than its warrant allows")
        over = bool(limits.beyond(warrant.bounds, spent)) or stamp["at"] >= warrant.expires_at
    over = over or governor.state.halt is not None
    return ev.ProgramsJudged(
        **stamp,
        attempt=step.attempt,
        batch=attempt.batches + 1,
        programs=tuple(row.to_json() for row in batch.programs),
        used=batch.used.to_json(),
        lost=batch.lost,
        closing=batch.closing or over,
    )


def record_attested(governor: Governor, purpose: str, attested: Attested) -> None:
    """Log what the kernel enforces before anything runs; an equal attestation for the same purpose stands already.

    Raises `Unavailable` when it is less than the policy requires: then nothing runs.
    """
    known = governor.state.attested.get(purpose)
    if known is None or (known.tier, known.facts) != (attested.tier, attested.facts):
        governor.log.record(
            lambda stamp: ev.SandboxAttested(
                **stamp, purpose=purpose, tier=attested.tier, facts=attested.facts, problems=attested.problems
            )
        )
    level = governor.policy.level(governor.lineage.level)
    least = level.sandbox if level else Tier.T4
    if attested.problems or Tier(attested.tier).rank < least.rank:
        weaker = attested.facts.get("weaker")
        lacks = ", ".join(map(str, weaker)) if isinstance(weaker, list) and weaker else "it is weaker"
        what = "; ".join(attested.problems) or f"the policy allows no less ({lacks})"
        raise Unavailable(
            f"the sandbox for `{purpose}` reached tier {attested.tier}, at least {least} is required: {what}",
            help="`keyturn doctor` says what this machine lacks, `keyturn sandbox check` what a sandbox holds here; "
            "nothing of the subject was run",
        )


def _started(governor: Governor, step: Improve, stamp: Stamp) -> ev.Event:
    return ev.ImprovementStarted(
        **stamp,
        attempt=step.attempt,
        lineage=governor.lineage.id,
        warrant=step.warrant,
        parent=step.parent,
        generation=step.generation,
        seed=step.seed,
    )


def _outcome(governor: Governor, step: Improve, result: Improved) -> list[Fact]:
    """Everything that follows from one step, as facts for one append."""
    files = [artifact.File(name, sha256(data), len(data)) for name, data in sorted(result.files.items())]
    rows: tuple[ev.Document, ...] = tuple({"name": f.name, "digest": f.digest, "bytes": f.bytes} for f in files)
    stray = _strayed(governor, step, rows) if result.outcome == "produced" else ""
    if stray:
        result = replace(result, outcome="refused", detail=stray)
    # Kept before it is logged: a crash here leaves blobs and files that nothing names, and the step is done again.
    printed = governor.blobs.keep(result.diagnostics[-DIAGNOSTICS_BYTES_MAX:]) if result.diagnostics else ""
    facts: list[Fact] = [
        *_closing(governor, step),
        lambda stamp: ev.ImprovementEnded(
            **stamp,
            attempt=step.attempt,
            outcome=result.outcome,
            detail=result.detail[:1000],
            cpu_seconds=round(result.cpu_seconds, 3),
            wall_seconds=round(result.wall_seconds, 3),
            processes_left=result.processes_left,
            diagnostics=printed,
        ),
    ]
    name = ""
    if result.outcome == "produced":
        root = artifact.root(files)
        name = f"c{step.attempt}-{root[7:11]}"
        governor.artifacts.put(root, result.files)
        facts.append(_proposal(governor, step, name, root, rows, claim_of(result.claim)))
    facts += alarm_facts(governor, result.alarms, attempt=step.attempt, candidate=name)
    return facts


def _strayed(governor: Governor, step: Improve, files: Sequence[ev.Document]) -> str:
    """Why what a loop hands in is no candidate; in shadow mode the gate says so afterwards, and nothing is refused."""
    if step.warrant == SHADOW:
        return ""
    return strayed(governor.state, _attempt(governor, step), step.parent, files)


def _closing(governor: Governor, step: Improve) -> list[Fact]:
    """The end of a loop's last batch, where the loop did not say it: the step is over, and all of it is logged."""
    if governor.policy.loop is None or not _attempt(governor, step).batch_open:
        return []
    return [lambda stamp: _judged(governor, step, Batch((), Used(), closing=True), stamp)]


def _proposal(
    governor: Governor, step: Improve, name: str, root: Digest, files: tuple[ev.Document, ...], claim: ev.Document
) -> Fact:
    lineage = governor.lineage.id
    return lambda stamp: ev.CandidateProposed(
        **stamp,
        candidate=name,
        attempt=step.attempt,
        lineage=lineage,
        parent=step.parent,
        root=root,
        files=files,
        claim=claim,
    )


def claim_of(data: bytes) -> ev.Document:
    """The figures in a subject's `claim.json`; its prose is not copied into the log, where people and models read.

    A file that two readers could read differently claims nothing.
    """
    try:
        said = canonical.decode(data)
    except MalformedInput:
        return {}
    if not isinstance(said, dict):
        return {}
    figures = [(key, value) for key, value in said.items() if FIGURE.fullmatch(key) and _is_figure(value)]
    return dict(figures[:CLAIM_FIGURES_MAX])


def _is_figure(value: object) -> bool:
    """Whether this is a number that canonical JSON can carry; not-a-number and infinity are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -(2**53) < value < 2**53
