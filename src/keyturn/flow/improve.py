"""Let a generation make a candidate, sealed, and bring out exactly the declared files or the reason why not."""

from __future__ import annotations

import json
import re

from keyturn.core import events as ev
from keyturn.core.agenda import Improve
from keyturn.core.errors import Unavailable
from keyturn.core.terms import Digest, Tier
from keyturn.flow.governor import Governor
from keyturn.flow.halt import record_or_trip
from keyturn.flow.incident import alarm_facts
from keyturn.flow.log import Fact, Stamp
from keyturn.flow.permit import load_generation
from keyturn.flow.ports import Attested, Improved
from keyturn.wire import artifact
from keyturn.wire.digest import sha256

CLAIM_FIGURES_MAX = 32
FIGURE = re.compile(r"[a-z][a-z0-9_]{0,40}")


def improve(governor: Governor, step: Improve) -> None:
    """One improve step. A crash before the intent leaves nothing; after it, the same step is done again, fresh."""
    parent = load_generation(governor, step.parent)  # through its permit, like everybody
    if not step.resumed:
        governor.log.append(lambda stamp: _started(governor, step, stamp))
    result = governor.improver.improve(
        governor.policy,
        parent,
        seed=step.seed,
        generation=step.generation,
        on_attested=lambda attested: record_attested(governor, f"improve:{step.attempt}", attested),
    )
    facts = _outcome(governor, step, result)
    record_or_trip(governor, facts, result.alarms)


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
        what = "; ".join(attested.problems) or "it is weaker than the policy allows"
        raise Unavailable(
            f"the sandbox for `{purpose}` reached tier {attested.tier}, at least {least} is required: {what}",
            help="`keyturn doctor` says what this machine lacks; nothing of the subject was run",
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
    facts: list[Fact] = [
        lambda stamp: ev.ImprovementEnded(
            **stamp,
            attempt=step.attempt,
            outcome=result.outcome,
            detail=result.detail[:1000],
            cpu_seconds=round(result.cpu_seconds, 3),
            wall_seconds=round(result.wall_seconds, 3),
            processes_left=result.processes_left,
            diagnostics=sha256(result.diagnostics) if result.diagnostics else "",
        )
    ]
    name = ""
    if result.outcome == "produced":
        files = [artifact.File(name, sha256(data), len(data)) for name, data in sorted(result.files.items())]
        root = artifact.root(files)
        name = f"c{step.attempt}-{root[7:11]}"
        # Stored before it is logged: a crash here leaves files that nothing names, and the step is done again.
        governor.artifacts.put(root, result.files)
        facts.append(_proposal(governor, step, name, root, files, claim_of(result.claim)))
    facts += alarm_facts(governor, result.alarms, attempt=step.attempt, candidate=name)
    return facts


def _proposal(
    governor: Governor, step: Improve, name: str, root: Digest, files: list[artifact.File], claim: ev.Document
) -> Fact:
    lineage = governor.lineage.id
    return lambda stamp: ev.CandidateProposed(
        **stamp,
        candidate=name,
        attempt=step.attempt,
        lineage=lineage,
        parent=step.parent,
        root=root,
        files=tuple({"name": f.name, "digest": f.digest, "bytes": f.bytes} for f in files),
        claim=claim,
    )


def claim_of(data: bytes) -> ev.Document:
    """The figures in a subject's `claim.json`; its prose is not copied into the log, where people and models read."""
    try:
        said = json.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError):
        return {}
    if not isinstance(said, dict):
        return {}
    figures = [(key, value) for key, value in said.items() if FIGURE.fullmatch(key) and _is_figure(value)]
    return dict(figures[:CLAIM_FIGURES_MAX])


def _is_figure(value: object) -> bool:
    """Whether this is a number that canonical JSON can carry; not-a-number and infinity are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -(2**53) < value < 2**53
