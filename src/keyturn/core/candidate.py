"""What a candidate must be before anything about it is weighed, and which level applies to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keyturn.core.events import Document
from keyturn.core.finding import Finding, Request
from keyturn.core.state import Attempt, Candidate, State
from keyturn.core.terms import Digest, Instant, Tier, Verdict

OPENED_BY_EVIDENCE = frozenset({"drift-beyond-limit", "forged-claim"})
"""Incidents that restate what a threshold has refused already; the rules on evidence speak for them."""


def level_of(state: State, candidate: str) -> int:
    """The level whose duties apply: the lineage's, or higher where this candidate was not shown to be below a line.

    It follows from the evidence itself: a `LevelRaised` that was never logged lowers nothing.
    """
    reached = state.lineage.level if state.lineage else 0
    known = state.candidates.get(candidate)
    if known is None:
        return reached
    thresholds = state.current.policy.thresholds if state.current else ()
    seen = {id: evidence.verdict for id, evidence in known.evidence.items()}
    shown = [t.raises_to for t in thresholds if seen.get(t.id, Verdict.CLEAR) is not Verdict.CLEAR]
    return max(reached, *known.raises.values(), *shown, 0)


def lineage_must_be_complete(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """The candidate is known, undecided, made by a warranted attempt from the generation that is the parent now."""
    rule = "lineage_must_be_complete"
    candidate = state.candidates.get(request.candidate)
    if state.lineage is None or candidate is None:
        yield Finding(rule, f"`{request.candidate}` is not a candidate of a founded lineage", "propose it first")
        return
    if candidate.status != "proposed":
        yield Finding(rule, f"`{candidate.name}` is {candidate.status} already", "only a proposed one can be released")
    elif candidate.parent != state.lineage.parent.root:
        message = f"`{candidate.name}` was made by {candidate.parent[:15]}…, which is not the present parent"
        yield Finding(rule, message, "make a candidate from the present parent")
    elif state.lineage.member(candidate.root) is not None:
        yield Finding(rule, f"`{candidate.name}` is byte for byte a generation already", "make a different candidate")
    yield from _files(state, candidate)
    stray = strayed(state, state.attempts.get(candidate.attempt), candidate.parent, candidate.files)
    if stray:
        yield Finding(rule, f"`{candidate.name}`: {stray}", "propose a program that this very step admitted")


def _files(state: State, candidate: Candidate) -> Iterator[Finding]:
    if state.current is None:
        return
    declared = sorted(rule.name for rule in state.current.policy.subject.files)
    found = sorted(str(file.get("name")) for file in candidate.files)
    if declared != found:
        message = f"`{candidate.name}` consists of {found}; the policy declares {declared}"
        yield Finding("lineage_must_be_complete", message, "make a candidate with exactly the declared files")


def strayed(state: State, attempt: Attempt | None, parent: Digest, files: Sequence[Document]) -> str:
    """What a loop hands in besides a program that its step admitted; empty when nothing, or when no loop made it."""
    loop = state.current.policy.loop if state.current else None
    if loop is None:
        return ""
    made, before = digests(files), digests(files_of(state, parent))
    if attempt is None or made.get(loop.program) not in attempt.admitted:
        return f"its `{loop.program}` is no program that its improve step admitted"
    odd = sorted(name for name in {*made, *before} - {loop.program} if made.get(name) != before.get(name))
    return f"`{odd[0]}` differs from the parent's; a loop makes `{loop.program}` only" if odd else ""


def digests(files: Sequence[Document]) -> dict[str, str]:
    """The digest of each file by its name."""
    return {str(file.get("name")): str(file.get("digest")) for file in files}


def files_of(state: State, root: Digest) -> tuple[Document, ...]:
    """The files of a generation, or of a candidate that shadow mode went on from."""
    member = state.lineage.member(root) if state.lineage else None
    if member is not None:
        return member.files
    return next((each.files for each in state.candidates.values() if each.root == root), ())


def warrant_must_cover(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """The attempt was made under a warrant that allows the level that the candidate has reached."""
    candidate = state.candidates.get(request.candidate)
    attempt = state.attempts.get(candidate.attempt) if candidate else None
    warrant = next((w for w in state.warrants if attempt and w.id == attempt.warrant), None)
    if candidate is None or warrant is None:
        yield Finding("warrant_must_cover", "no warrant covers this candidate", "`keyturn warrant give`")
        return
    level = level_of(state, candidate.name)
    if level > warrant.level_ceiling:
        message = f"level {level} is reached; the warrant ends at level {warrant.level_ceiling}"
        yield Finding("warrant_must_cover", message, "give a warrant with a higher ceiling, by quorum")


def sandbox_must_be_tight(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """Every sandbox that made or tried this candidate was attested at the tier of the level, or a higher one."""
    candidate = state.candidates.get(request.candidate)
    if candidate is None or state.current is None:
        return
    level = state.current.policy.level(level_of(state, candidate.name))
    least = level.sandbox if level else Tier.T4
    purposes = [f"improve:{candidate.attempt}", *(candidate.trial_purpose + id for id in candidate.evidence)]
    for purpose in purposes:
        attested = state.attested.get(purpose)
        tier = Tier(attested.tier) if attested else Tier.T0
        if tier.rank < least.rank:
            message = f"the sandbox of `{purpose}` was attested at {tier}; at least {least} is required"
            yield Finding("sandbox_must_be_tight", message, "see `keyturn doctor` for what this machine lacks")
        for problem in attested.problems if attested else ():
            message = f"the sandbox of `{purpose}` was not as required: {problem}"
            yield Finding("sandbox_must_be_tight", message, "see `keyturn doctor` for what this machine lacks")


def conduct_must_be_clean(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """No incident names the candidate, the attempt that made it or its very bytes, but for its evidence's own."""
    candidate = state.candidates.get(request.candidate)
    for incident in state.incidents.values():
        if candidate is None or incident.kind in OPENED_BY_EVIDENCE:
            continue
        programs = incident.facts.get("programs")
        shared = set(programs if isinstance(programs, list) else ()) & set(digests(candidate.files).values())
        if incident.candidate == candidate.name or incident.attempt == candidate.attempt or shared:
            message = f"incident `{incident.id}` ({incident.kind}) names it: {incident.summary}"
            yield Finding("conduct_must_be_clean", message, f"`keyturn incident show {incident.id}`")
