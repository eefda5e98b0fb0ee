"""Two policies under one number, and steps that are dated back: a node goes by what it saw, and where it stood."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from keyturn.core import events as ev
from keyturn.core.state import Dossier
from keyturn.core.terms import Digest, Instant
from keyturn.verify import trust as trusts
from keyturn.verify.bundle import Bundle
from keyturn.verify.trust import Trust
from keyturn.wire import canonical
from keyturn.wire.approval import ApprovalTerms
from keyturn.wire.digest import sha256
from tests.attacks import rotated
from tests.attacks.rotated import KEYS, NEW, NEXT_LOG, NEXT_SERVICE, Thief, leaves_of, people, row
from tests.verify.scene import FILES, Scene, document, root_of, rows_of, signed, stated

DAY = 86_400_000
WITHOUT_BEN = {"people": people(ben=None, dot=row("dot", "safety", "engineering"))}
EVIL = {**FILES, "subject.py": b"print('evil')"}
ANOTHER = [(5, "the bundle leads to policy 2; this node has seen another policy 2")]


def scene(tmp_path: Any, **more: Any) -> tuple[Scene, str, Digest, Trust]:
    """A release under policy 1, then a policy 2 without ben, which a node has seen."""
    made = rotated.begin(tmp_path)
    permit = rotated.released(made)
    dossier = rotated.adopted(made, document(**WITHOUT_BEN, **more), ("dot", NEW["dot"]))
    return made, permit, dossier, rotated.seen_by(made, permit)


def last_of(made: Scene, kind: type[ev.Event]) -> Any:
    return next(each for each in reversed(rotated.events_of(made)) if isinstance(each, kind))


def twin(made: Scene, at: Instant) -> ev.PolicyAdopted:
    """Another policy 2, which only tightens policy 1 and so needs nobody."""
    text, first = document(lease={"seconds": 1}), made.log.state.policies[0]
    named = {"policy": first.digest, "version": 2, "digest": sha256(canonical.encode(text))}
    return ev.PolicyAdopted(id="x", at=at, actor="governor", document=text, dossier="", signatures=(), **named)


def by_ben(made: Scene, at: Instant, **changes: Any) -> ApprovalTerms:
    """What ben, who was removed, signs for bytes that nobody tried."""
    said = last_of(made, ev.ApprovalGiven)
    fields = {name: getattr(said, name) for name in ApprovalTerms.__dataclass_fields__ if hasattr(said, name)}
    terms = {
        "decision": "approve",
        "nonce": "ab" * 16,
        "person": "ben",
        "role": "safety",
        "gate": "release",
        "level": 0,
    }
    named = {"dossier": sha256(b"whatever"), "artifact": root_of(EVIL), "not_before": at}
    return ApprovalTerms(**{**fields, **terms, **named, "not_after": Instant(at + DAY), "reason": "", **changes})


def evil(made: Scene, at: Instant, **changes: Any) -> ev.PermitIssued:
    honest, dossier = last_of(made, ev.PermitIssued), sha256(b"whatever")
    named = {"permit": f"p-{dossier[7:15]}", "dossier": dossier, "root": root_of(EVIL), "files": rows_of(EVIL)}
    return replace(honest, **named, candidate="c9", not_before=at, not_after=Instant(at + 7_200_000), **changes)


def ended(made: Scene, thief: Thief, **changes: Any) -> None:
    thief.add(stated(replace(last_of(made, ev.StatusPublished), counter=99, **changes)))


def refused(made: Scene, bundle: Bundle, node: Trust) -> list[tuple[int, str]]:
    return rotated.doubts(made, bundle, node)


@pytest.mark.parametrize(
    "more", [{}, {"governor": rotated.governor(NEXT_SERVICE, NEXT_LOG)}], ids=["present keys", "replaced keys"]
)
def test_a_second_policy_under_the_number_of_the_true_one_leads_no_node_past_it(tmp_path, more):
    made, _, _, node = scene(tmp_path, **more)
    thief, at = Thief(made, leaves_of(made)), made.log.now()
    other = twin(made, at)
    place = thief.add(stated(other))
    terms = by_ben(made, at, policy=other.digest, policy_version=2, evidence_index=place)
    approval = thief.add(signed(terms, KEYS["ben"]))
    permit = thief.add(stated(evil(made, at, policy=other.digest)))
    ended(made, thief, at=at, policy_version=2, policy_digest=other.digest, halted=False)
    assert refused(made, thief.show(permit, [approval], [place], seen=node.seen), node) == ANOTHER


def test_the_true_policy_again_at_a_later_place_does_not_stretch_the_one_before(tmp_path):
    made, _, dossier, node = scene(tmp_path)
    second, sealed = made.log.state.policies[1], made.log.state.dossiers[dossier]
    thief, at = Thief(made, leaves_of(made)), made.log.now()
    approval = thief.add(signed(by_ben(made, at, evidence_index=len(thief.leaves)), KEYS["ben"]))
    permit = thief.add(stated(evil(made, at)))
    again = thief.add(thief.leaves[second.index])
    ended(made, thief, at=at)
    chain = [sealed.index, *(each.index for each in sealed.approvals), again]
    found = refused(made, thief.show(permit, [approval], chain, seen=node.seen), node)
    assert [number for number, _ in found] == [5]
    assert found[0][1].startswith("the bundle leads to policy ")


def test_replaced_keys_hide_no_halt_and_no_revocation(tmp_path):
    made, permit, _, node = scene(tmp_path, governor=rotated.governor(NEXT_SERVICE, NEXT_LOG))
    thief = Thief(made, leaves_of(made))
    made.log.append(lambda stamp: ev.PermitRevoked(**stamp, permit=permit, reason="stolen"))
    made.log.publish()
    other = twin(made, made.log.now())
    place = thief.add(stated(other))
    ended(made, thief, at=made.log.now(), policy_version=2, policy_digest=other.digest)
    honest = made.bundle(permit)
    bundle = thief.show(honest.permit.index, [each.index for each in honest.approvals], [place], seen=node.seen)
    assert refused(made, bundle, node) == ANOTHER


def test_the_memory_of_a_policy_is_kept_in_the_file_and_an_older_file_still_reads(tmp_path):
    made, _, _, node = scene(tmp_path)
    second = made.log.state.policies[1]
    assert (node.seen.policy_version, node.seen.policy_digest, node.seen.policy_index) == (
        2,
        second.digest,
        second.index,
    )
    assert trusts.decode(trusts.encode(node)).seen == node.seen
    body: Any = canonical.decode(trusts.encode(node))
    for name in ("policy_digest", "policy_index"):
        del body["seen"][name]
    older = trusts.decode(canonical.encode(body)).seen
    assert (older.policy_version, older.policy_digest) == (2, "")


# --- approvals that lapsed


def test_an_adoption_that_is_dated_back_into_its_window_is_refused_by_who_saw_later_moments(tmp_path):
    made = rotated.begin(tmp_path)
    rotated.released(made)
    text = document(pace={"unaudited_max": 50})
    _, dossier = rotated.asked(made, text)
    sealed: Dossier = made.log.state.dossiers[dossier]
    inside = max(each.event.not_before for each in sealed.approvals)
    made.clock.at += 300 * DAY
    permit = rotated.released(made, "c2")
    node, thief = rotated.seen_by(made, permit), Thief(made, leaves_of(made))
    first, digest = made.log.state.policies[0], sha256(canonical.encode(text))
    named = {"policy": first.digest, "version": 2, "digest": digest, "document": text, "dossier": dossier}
    place = thief.add(stated(ev.PolicyAdopted(id="x", at=inside, actor="governor", signatures=(), **named)))
    ended(made, thief, policy_version=2, policy_digest=digest)
    honest = made.bundle(permit)
    chain = [sealed.index, *(each.index for each in sealed.approvals), place]
    bundle = thief.show(honest.permit.index, [each.index for each in honest.approvals], chain, seen=node.seen)
    assert (5, "policy 2 is dated before a moment of the log that this node saw before it") in refused(
        made, bundle, node
    )


def test_a_permit_that_is_dated_back_to_lapsed_approvals_is_refused_by_who_saw_later_moments(tmp_path):
    text = document(freshness={"evidence_seconds": 7 * 86_400, "permit_seconds": 3_600})
    made = Scene.begin(tmp_path / "log.db", text)
    made.found()
    made.log.publish()
    first = rotated.released(made)
    made.files = {**made.files, "recipe.json": b'{"made":"c2"}'}
    dossier = made.propose("c2", level=0)
    made.sign(dossier, "ada", "safety")
    approval = made.log.state.dossiers[dossier].approvals[0]
    made.clock.at += 5 * DAY
    made.log.renew(1)
    node, thief = rotated.seen_by(made, first), Thief(made, leaves_of(made))
    candidate, began = made.log.state.candidates["c2"], approval.event.not_before
    named = {"permit": f"p-{dossier[7:15]}", "dossier": dossier, "root": candidate.root, "files": candidate.files}
    late = Instant(began + 7 * DAY)
    forged = replace(last_of(made, ev.PermitIssued), **named, candidate="c2", not_before=began, not_after=late)
    permit = thief.add(stated(forged))
    ended(made, thief)
    found = refused(made, thief.show(permit, [approval.index], seen=node.seen), node)
    assert found == [(7, "the permit is dated before a moment of the log that this node saw before it")]
