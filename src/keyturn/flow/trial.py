"""Plan a trial, run or go on with it block by block, and record what it showed."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from keyturn.core import betting
from keyturn.core import events as ev
from keyturn.core import trial as trials
from keyturn.core.agenda import Reject, Try
from keyturn.core.betting import Process
from keyturn.core.bounds import OUTPUT_BYTES_RESERVED, output_finding
from keyturn.core.dossier import claimed
from keyturn.core.errors import Unavailable
from keyturn.core.finding import Finding
from keyturn.core.lawful.trials import asked_otherwise
from keyturn.core.policy import Suite, Threshold
from keyturn.core.state import Candidate, Trial
from keyturn.core.terms import Digest, Verdict
from keyturn.core.trial import TrialPlan
from keyturn.flow.governor import Governor
from keyturn.flow.halt import record_or_trip
from keyturn.flow.improve import record_attested
from keyturn.flow.incident import alarm_facts, opened
from keyturn.flow.log import Fact
from keyturn.flow.permit import reject
from keyturn.flow.ports import Alarm, Alarmed, Attested, BlockRead, Interrupted, OutputSpent, TrialSession

CLAIM_LEAST, CLAIM_MOST = 0.02, 0.98
"""Where a claim less its margin may lie, so that it can be tested at all."""

POLICY_FIELDS = ("suite", "metric", "kind", "line", "margin", "error", "estimand", "items", "block_items", "reference")
"""What of a plan is the policy's word; the rest is the grader's and the bank's."""

SHOWN_ERROR = 0.05
"""The error of the interval that is displayed; it decides nothing."""


def try_(governor: Governor, step: Try) -> None:
    """One trial. A crash loses only items that were not logged; they are asked again, in the committed order."""
    candidate = governor.state.candidates[step.candidate]
    threshold = governor.policy.threshold(step.threshold)
    suite = governor.policy.suite(threshold.suite) if threshold else None
    if threshold is None or suite is None:
        raise Unavailable(f"the policy has no threshold `{step.threshold}`", help="`keyturn policy check`")
    seed = _hidden(governor, f"bank:{suite.id}").hex()
    with ExitStack() as stack:
        session = stack.enter_context(governor.trials.open(governor.policy, suite, seed=seed))
        planned = _planned(governor, session, candidate, threshold, suite)
        if isinstance(planned, Finding):
            reject(governor, Reject(candidate.name, (planned,)))
            return
        trial, order = planned
        alarms = _run(governor, session, candidate, trial, order)
    _conclude(governor, candidate, threshold, trial.id, alarms)


def _hidden(governor: Governor, purpose: str) -> bytes:
    return hmac.new(governor.bank_key, purpose.encode(), hashlib.sha256).digest()


def _planned(
    governor: Governor, session: TrialSession, candidate: Candidate, threshold: Threshold, suite: Suite
) -> tuple[Trial, tuple[int, ...]] | Finding:
    """The trial with its plan in the log and the order of items that the plan commits to, or why the candidate must go.

    It must when the policy asks otherwise than it did when the plan was logged: a plan is never changed.
    """
    name = f"{candidate.name}/{threshold.id}"
    bank = session.bank
    seed = _hidden(governor, f"order:{threshold.id}:{candidate.root}")
    order = trials.order(seed, bank_items=bank.items, clusters=bank.clusters)
    plan = TrialPlan(
        suite=suite.id,
        metric=threshold.metric,
        threshold=threshold.id,
        kind=threshold.kind,
        line=_line(threshold, candidate),
        margin=threshold.margin if threshold.kind != "claim" else 0.0,
        error=_charged(governor, candidate, threshold),
        bank=bank.digest,
        bank_items=bank.items,
        clusters=len(set(bank.clusters)) if bank.clusters else bank.items,
        estimand=suite.estimand,
        seed=trials.seed_digest(seed),
        order=trials.order_digest(order),
        items=min(suite.items_max, bank.items),
        block_items=suite.block,
        reference=threshold.reference,
    )
    other = asked_otherwise(governor.state, candidate, plan)
    if other:
        return Finding("evidence_must_cover_thresholds", other, "make a candidate of other bytes")
    known = governor.state.trials.get(name)
    if known is None:
        _require_room(governor, starting=True)
        governor.log.append(
            lambda stamp: ev.TrialPlanned(
                **stamp, trial=name, candidate=candidate.name, threshold=threshold.id, plan=plan.to_json()
            )
        )
    elif any(known.plan.get(field) != getattr(plan, field) for field in POLICY_FIELDS):
        message = f"the policy asks otherwise than when trial `{name}` was planned; a plan is never changed"
        return Finding("evidence_must_cover_thresholds", message, "make a fresh candidate under the policy of today")
    elif known.plan != plan.to_json():
        raise Unavailable(
            f"the plan of trial `{name}` can no longer be met: grader, bank or policy changed after it was logged",
            help="restore the grader and its bank, or refuse the candidate",
        )
    return governor.state.trials[name], order


def _line(threshold: Threshold, candidate: Candidate) -> float:
    """The line of a limit or capability is the policy's; that of a claim is what is claimed, less the margin."""
    if threshold.kind != "claim":
        return threshold.line
    return min(max(claimed(candidate, threshold.metric) - threshold.margin, CLAIM_LEAST), CLAIM_MOST)


def _charged(governor: Governor, candidate: Candidate, threshold: Threshold) -> float:
    """What this submission may spend: the k-th distinct digest of the lineage pays the k-th share."""
    charged = governor.lineage.charges.get(threshold.id, ())
    place = charged.index(candidate.root) if candidate.root in charged else len(charged)
    return betting.error_of_submission(lifetime_error=threshold.lifetime_error, submission=place + 1)


def _run(
    governor: Governor, session: TrialSession, candidate: Candidate, trial: Trial, order: tuple[int, ...]
) -> tuple[Alarm, ...]:
    plan = TrialPlan.from_json(trial.plan)
    process = Process.from_json(trial.process) if trial.process else trials.begin(plan)
    if trials.finished(plan, process):
        return ()
    purpose = f"trial:{trial.id.replace('/', ':')}"

    def on_attested(member: str, attested: Attested) -> None:
        record_attested(governor, purpose if member == "candidate" else f"{purpose}:{member}", attested)

    def on_block(block: BlockRead) -> None:
        _require_room(governor, starting=trial.id not in governor.state.output.reserved)
        facts: list[Fact] = [
            *_reservation(governor, trial.id, again=False),
            lambda stamp: ev.TrialAdvanced(
                **stamp,
                trial=trial.id,
                start=block.start,
                values=block.values,
                faults=block.faults,
                process=block.process.to_json(),
                output_bytes=block.output_bytes,
            ),
            # With the block, not at the end: a crash in between would lose them, for what is logged is not asked again.
            *alarm_facts(governor, block.alarms, attempt=candidate.attempt, candidate=candidate.name),
        ]
        halted = record_or_trip(governor, facts, block.alarms)
        governor.grown(trial.id, plan, block.process)
        if halted:
            raise Interrupted
        if not trials.finished(plan, block.process):
            _require_room(governor, starting=False)

    _require_room(governor, starting=True)
    reservation = _reservation(governor, trial.id, again=True)
    if reservation:
        governor.log.record(*reservation)
    try:
        return session.run(
            plan,
            order,
            process,
            _members(governor, candidate, plan),
            faults_before=trial.faulty_blocks,
            on_attested=on_attested,
            on_block=on_block,
            output_bytes_max=OUTPUT_BYTES_RESERVED if _output_most(governor) is not None else None,
        )
    except Alarmed as broken:
        facts = alarm_facts(governor, broken.alarms, attempt=candidate.attempt, candidate=candidate.name)
        if record_or_trip(governor, facts, broken.alarms):
            raise Interrupted from broken
        raise


def _output_most(governor: Governor) -> int | None:
    return governor.policy.sandbox.output_bytes_lineage_max


def _require_room(governor: Governor, *, starting: bool) -> None:
    """Raise `OutputSpent` where the policy lets answers say no more."""
    spent = output_finding(_output_most(governor), governor.state.output, starting=starting)
    if spent is not None:
        raise OutputSpent(spent)


def _reservation(governor: Governor, name: str, *, again: bool) -> list[Fact]:
    """What the trial's sandboxes may say before its next entry, where the policy bounds that and nothing is set aside.

    Each start of them sets it aside `again`: nobody knows what the last ones said when they broke off.
    """
    if _output_most(governor) is None or (name in governor.state.output.reserved and not again):
        return []
    return [lambda stamp: ev.AnswersReserved(**stamp, trial=name, output_bytes=OUTPUT_BYTES_RESERVED)]


def _members(governor: Governor, candidate: Candidate, plan: TrialPlan) -> Mapping[str, Mapping[str, bytes]]:
    """Who answers in this trial, each sealed: the files of the candidate and of the members it is compared with.

    Being asked in a sealed trial needs no permit: a founder whose permit ended long ago is still what drift is
    measured from. What each was is checked against the digests in the log.
    """
    members = {"candidate": governor.stored(candidate.root, candidate.files)}
    lineage = governor.lineage
    roots: dict[str, Digest] = {
        "parent": candidate.parent,
        "audited": lineage.audited.root,
        "founder": lineage.founder.root,
    }
    wanted = {plan.reference} if plan.reference else {"parent"} if plan.kind == "claim" else set()
    for name in wanted:
        members[name] = governor.stored(roots[name], _rows(governor, roots[name]))
    return members


def _rows(governor: Governor, root: Digest) -> Sequence[ev.Document]:
    """The files of this root as the log names them."""
    generation = governor.lineage.member(root)
    if generation is not None:
        return generation.files
    return next(candidate.files for candidate in governor.state.candidates.values() if candidate.root == root)


def _conclude(
    governor: Governor, candidate: Candidate, threshold: Threshold, name: str, alarms: tuple[Alarm, ...]
) -> None:
    """Verdict, evidence, level and incidents in one append: none of them stands without the others."""
    trial = governor.state.trials[name]
    process = Process.from_json(trial.process) if trial.process else trials.begin(TrialPlan.from_json(trial.plan))
    verdict = process.verdict
    low, high = betting.interval(process, error=SHOWN_ERROR, values=trial.values)
    facts: list[Fact] = [
        lambda stamp: ev.TrialEnded(**stamp, trial=name, verdict=verdict, items=process.n),
        lambda stamp: ev.EvidenceRecorded(
            **stamp,
            candidate=candidate.name,
            root=candidate.root,
            trial=name,
            threshold=threshold.id,
            verdict=verdict,
            items=process.n,
            estimate=round(process.total / process.n, 6) if process.n else 1.0,
            low=round(low, 6),
            high=round(high, 6),
            charge=governor.lineage.charges[threshold.id].index(candidate.root) + 1,
            bank=Digest(str(trial.plan["bank"])),
        ),
        *_consequences(governor, candidate, threshold, verdict),
        *alarm_facts(governor, alarms, attempt=candidate.attempt, candidate=candidate.name),
    ]
    record_or_trip(governor, facts, alarms)


def _consequences(governor: Governor, candidate: Candidate, threshold: Threshold, verdict: Verdict) -> list[Fact]:
    """What a verdict sets off by itself: a higher level, or an incident."""
    if threshold.kind == "capability" and verdict is not Verdict.CLEAR:
        return [
            lambda stamp: ev.LevelRaised(
                **stamp,
                lineage=governor.lineage.id,
                candidate=candidate.name,
                threshold=threshold.id,
                level=threshold.raises_to,
            )
        ]
    if threshold.kind == "claim" and verdict is Verdict.CLEAR:
        said = claimed(candidate, threshold.metric)
        legible = candidate.claim.get(threshold.metric) == said
        how = f"claims {said:.2f}" if legible else "makes no legible claim, which counts as all,"
        summary = f"the candidate {how} in `{threshold.metric}`; trials show far less"
        return [_incident(governor, "forged-claim", summary, candidate, {"claimed": said})]
    told = any(
        i.kind == "drift-beyond-limit" and i.candidate == candidate.name for i in governor.state.incidents.values()
    )
    if threshold.kind == "limit" and verdict is Verdict.TRIP and not told:  # one candidate's drift is one incident
        summary = f"`{threshold.metric}` was shown to lie above its line {threshold.line:g}"
        return [_incident(governor, "drift-beyond-limit", summary, candidate, {"threshold": threshold.id})]
    return []


def _incident(governor: Governor, kind: str, summary: str, candidate: Candidate, facts: ev.Document) -> Fact:
    return opened(governor, kind, summary, attempt=candidate.attempt, candidate=candidate.name, facts=facts)
