"""The attack: who holds the governor's keys writes what people never agreed to. The auditor names it, for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.app.auditor.judging import judge
from keyturn.core import events as ev
from keyturn.core.terms import Digest
from keyturn.ledger.checkpoint import sign
from keyturn.wire import canonical, leaf
from keyturn.wire.digest import sha256
from tests.auditor.conftest import honest, pin, story
from tests.auditor.scene import Shelf, Thief, head_of, mirror_of, note_of
from tests.fakes.world import Key, LogKey

__all__ = ["honest", "pin", "story"]


def before(events, kind, **fields):
    """The entry of the first such event."""
    return next(
        at
        for at, each in enumerate(events)
        if isinstance(each, kind) and all(getattr(each, name) == value for name, value in fields.items())
    )


def again(thief, events, entry, **changes):
    """Write the honest event of this entry here, but for the changes, stamped as the next."""
    return thief.write(replace(events[entry], **{**thief.stamp(), **changes}))


def second(events, kind):
    """The first such event after the founder's release."""
    return next(at for at, each in enumerate(events) if isinstance(each, kind) and at > 10)


def cut(leaves, at):
    return Thief(list(leaves[:at]))


# Each writes one illegal entry after an honest beginning, and returns which.


def permit_without_a_quorum(leaves, events):
    released = second(events, ev.PermitIssued)
    approved = max(at for at in range(released) if isinstance(events[at], ev.ApprovalGiven))
    thief = cut(leaves, approved)
    return thief, again(thief, events, released)


def permit_for_other_bytes(leaves, events):
    released = second(events, ev.PermitIssued)
    thief = cut(leaves, released)
    return thief, again(thief, events, released, root=Digest("sha256:" + "0" * 64))


def permit_that_lasts_longer(leaves, events):
    released = second(events, ev.PermitIssued)
    thief = cut(leaves, released)
    return thief, again(thief, events, released, not_after=events[released].not_after + 1)


def release_without_a_permit(leaves, events):
    released = second(events, ev.CandidateReleased)
    thief = cut(leaves, released - 1)
    return thief, again(thief, events, released)


def decision_that_cleared_by_itself(leaves, events):
    released = second(events, ev.PermitIssued)
    approved = max(at for at in range(released) if isinstance(events[at], ev.ApprovalGiven))
    thief = cut(leaves, approved)
    return thief, again(thief, events, released - 1)


def adopted(leaves, events, change):
    thief = cut(leaves, second(events, ev.StatusPublished) + 1)
    first = events[1]
    text = canonical.decode(canonical.encode(first.document))
    change(text)
    made = {"version": 2, "digest": sha256(canonical.encode(text)), "document": text, "signatures": (), "dossier": ""}
    return thief, again(thief, events, 1, **made)


def looser_threshold(leaves, events):
    return adopted(leaves, events, lambda text: text["thresholds"][0].update(line=0.9))


def faster_pace(leaves, events):
    return adopted(leaves, events, lambda text: text["pace"].update(unaudited_max=100))


def smaller_quorum(leaves, events):
    return adopted(leaves, events, lambda text: text["gates"][-1]["quorum"][0].update(persons=1))


def other_people(leaves, events):
    return adopted(leaves, events, lambda text: text["people"][0].update(roles=["safety", "board", "engineering"]))


def one_generation_too_many(leaves, events):
    """The governor goes on while people have not looked."""
    audited = before(events, ev.GenerationAudited)
    started = before(events[audited:], ev.ImprovementStarted) + audited
    thief = cut(leaves, audited)
    return thief, again(thief, events, started)


def halted(leaves, events):
    halts = [at for at, each in enumerate(events) if isinstance(each, ev.HaltProven | ev.HaltUnproven)]
    return cut(leaves, halts[-1] + 1)


def status_that_hides_a_halt(leaves, events):
    thief = halted(leaves, events)
    return thief, thief.status(halted=False)


def status_that_names_another_policy(leaves, events):
    thief = cut(leaves, 60)
    return thief, thief.status(policy_version=2)


def resumption_without_a_quorum(leaves, events):
    thief = halted(leaves, events)
    halt, dossier = thief.state.halt, next(iter(thief.state.dossiers))
    return thief, thief.write(ev.LoopResumed(**thief.stamp(), halt=halt.id, dossier=dossier))


def work_while_halted(leaves, events):
    thief = halted(leaves, events)
    started = max(at for at, each in enumerate(events) if isinstance(each, ev.ImprovementStarted))
    return thief, again(thief, events, started, attempt=len(thief.state.attempts) + 1)


def halt_that_was_never_proven(leaves, events):
    thief = cut(leaves, before(events, ev.HaltProven))
    proven = events[len(thief.leaves)]
    return thief, again(thief, events, len(thief.leaves), receipt={**proven.receipt, "state": "UNPROVEN"})


def evidence_that_was_improved(leaves, events):
    at = before(events, ev.EvidenceRecorded)
    thief = cut(leaves, at)
    return thief, again(thief, events, at, estimate=0.0, high=0.01)


def bets_that_do_not_follow_from_their_values(leaves, events):
    at = before(events, ev.TrialAdvanced)
    thief = cut(leaves, at)
    values = events[at].values
    return thief, again(thief, events, at, values=tuple(1.0 - value for value in values))


def trial_that_ended_otherwise(leaves, events):
    at = before(events, ev.TrialEnded)
    thief = cut(leaves, at)
    return thief, again(thief, events, at, verdict="TRIP" if events[at].verdict == "CLEAR" else "CLEAR")


def trial_with_an_easier_plan(leaves, events):
    at = before(events, ev.TrialPlanned)
    thief = cut(leaves, at)
    return thief, again(thief, events, at, plan={**events[at].plan, "line": 0.9})


def dossier_that_flatters(leaves, events):
    at = second(events, ev.EvidenceRecorded)
    sealed = next(n for n in range(at, len(events)) if isinstance(events[n], ev.DossierSealed))
    text = {**events[sealed].document, "level": 0, "unchecked": []}
    thief = cut(leaves, sealed)
    return thief, again(thief, events, sealed, document=text, dossier=sha256(canonical.encode(text)))


def entry_that_is_dated_back(leaves, events):
    thief = cut(leaves, 60)
    counter = thief.state.status_counter + 1
    return thief, again(thief, events, 51, at=events[40].at, counter=counter)


def approval_that_the_governor_states(leaves, events):
    at = second(events, ev.ApprovalGiven)
    thief = cut(leaves, at)
    return thief, again(thief, events, at)


def approval_with_a_key_of_nobody(leaves, events):
    at = second(events, ev.ApprovalGiven)
    thief = cut(leaves, at)
    envelope = canonical.decode(leaves[at])
    made = leaf.dsse.decode(leaves[at])
    sig = Key("mallory").sign(leaf.dsse.pae(made.payload_type, made.payload))
    signed = replace(made.signatures[0], sig=sig)
    assert envelope["payloadType"] == made.payload_type
    return thief, thief.put(leaf.dsse.encode(replace(made, signatures=(signed,))))


def witnessed_head_that_nobody_cosigned(leaves, events):
    thief = cut(leaves, second(events, ev.StatusPublished) + 1)
    head = head_of(thief.leaves)
    said = {"size": head.size, "root": head.root.hex(), "parties": ("w1",), "note": sign(head, LogKey()).decode()}
    return thief, thief.write(ev.CheckpointWitnessed(**thief.stamp(), **said))


def entry_that_nobody_signed(leaves, events):
    thief = cut(leaves, 60)
    return thief, thief.put(b"trust me")


def entry_too_long_for_a_log(leaves, events):
    thief = cut(leaves, 60)
    return thief, thief.put(b"x" * 65_535)


UNREADABLE = "leaf_must_be_signed_and_lawful"
ATTACKS = {
    permit_without_a_quorum: "permit_issued_must_be_lawful",
    permit_for_other_bytes: "permit_issued_must_be_lawful",
    permit_that_lasts_longer: "permit_issued_must_be_lawful",
    release_without_a_permit: UNREADABLE,
    decision_that_cleared_by_itself: "gate_decided_must_be_lawful",
    looser_threshold: UNREADABLE,
    faster_pace: UNREADABLE,
    smaller_quorum: UNREADABLE,
    other_people: UNREADABLE,
    one_generation_too_many: "improvement_started_must_be_lawful",
    status_that_hides_a_halt: "status_published_must_be_lawful",
    status_that_names_another_policy: "status_published_must_be_lawful",
    resumption_without_a_quorum: "loop_resumed_must_be_lawful",
    work_while_halted: "improvement_started_must_be_lawful",
    halt_that_was_never_proven: "halt_proven_must_be_lawful",
    evidence_that_was_improved: "evidence_recorded_must_be_lawful",
    bets_that_do_not_follow_from_their_values: "trial_advanced_must_be_lawful",
    trial_that_ended_otherwise: "trial_ended_must_be_lawful",
    trial_with_an_easier_plan: "trial_planned_must_be_lawful",
    dossier_that_flatters: "dossier_sealed_must_be_lawful",
    entry_that_is_dated_back: "status_published_must_be_lawful",
    approval_that_the_governor_states: UNREADABLE,
    approval_with_a_key_of_nobody: UNREADABLE,
    witnessed_head_that_nobody_cosigned: UNREADABLE,
    entry_that_nobody_signed: UNREADABLE,
    entry_too_long_for_a_log: UNREADABLE,
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_it_is_refused_by_name_and_stays_refused(attack, tmp_path, story, honest, pin):
    thief, entry = attack(honest, story.events())
    shelf = Shelf(honest[:11])
    mirror = mirror_of(tmp_path, pin, shelf)
    assert judge(mirror, note_of(honest[:11])) is None
    shelf.show(thief.leaves)
    said = judge(mirror, note_of(thief.leaves))
    assert said is not None
    assert said.startswith("illegal: ")
    assert f"entry {entry}: {ATTACKS[attack]}: " in said
    mirror.close()
    restarted = mirror_of(tmp_path, pin, shelf)
    assert judge(restarted, note_of(thief.leaves)) == said
    assert judge(restarted, note_of(honest[:11])) == said
    if ATTACKS[attack] != UNREADABLE:
        thief.status()
        shelf.show(thief.leaves)
        assert judge(restarted, note_of(thief.leaves)) == said


def test_the_honest_log_itself_is_let_through_whole(tmp_path, honest, pin):
    assert judge(mirror_of(tmp_path, pin, Shelf(honest)), note_of(honest)) is None


def test_another_founding_under_the_same_log_key_is_not_the_pinned_one(tmp_path, honest, pin):
    other = replace(pin, genesis=Digest("sha256:" + "0" * 64))
    said = judge(mirror_of(tmp_path, other, Shelf(honest)), note_of(honest))
    assert said is not None
    assert "entry 0: genesis_must_be_the_pinned_one: the log rests on sha256:" in said


def test_a_mark_stands_although_the_files_are_gone_and_although_others_are_shown(tmp_path, honest, pin):
    thief = cut(honest, 60)
    thief.put(b"trust me")
    shelf = Shelf(thief.leaves)
    mirror = mirror_of(tmp_path, pin, shelf)
    said = judge(mirror, note_of(thief.leaves))
    shelf.files.clear()
    assert judge(mirror, note_of([*thief.leaves, b"more"])) == said
    shelf.show(honest)
    assert (judge(mirror, note_of(honest)) or "").startswith(str(said))


def test_what_cannot_be_fetched_and_what_differs_are_other_words_and_pass(tmp_path, honest, pin):
    shelf = Shelf()
    mirror = mirror_of(tmp_path, pin, shelf)
    assert (judge(mirror, note_of(honest)) or "").startswith("not yet: there is no `tile/entries/000")
    shelf.show((*honest[:60], honest[59], *honest[61:]))
    assert (judge(mirror, note_of(honest)) or "").startswith("not this log: the 0 mirrored entries and the fetched")
    shelf.show(honest)
    assert judge(mirror, note_of(honest)) is None
