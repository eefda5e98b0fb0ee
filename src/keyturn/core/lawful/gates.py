"""The part of replay that asks gates again: whatever only a cleared gate can give, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from keyturn.core import events as ev
from keyturn.core.approval import quorum, row_of, supporters, unwitnessed
from keyturn.core.decision import RULES, decide
from keyturn.core.dossier import as_request, named
from keyturn.core.evidence import SECOND
from keyturn.core.finding import REQUESTS
from keyturn.core.keys.adoption import borrowed, missing, pairs
from keyturn.core.policy import Adopted, Person, Policy
from keyturn.core.policy_change import change, needs_quorum
from keyturn.core.policy_reading import read_policy
from keyturn.core.state import Dossier, State
from keyturn.core.terms import Gate, Instant

Check = tuple[bool, str]
"""What has to hold, and what is wrong when it does not."""

SHADOW: Final = "shadow"
"""What stands in place of a warrant in shadow mode; no warrant can have this name."""

_ACTION: Final = "release"


# What only a gate can give


def cleared(state: State, name: str, digest: str, at: Instant) -> Iterator[Check]:
    """The dossier is about this request, and its gate clears at this moment, decided again in full."""
    dossier = state.dossiers.get(digest)
    if dossier is None:
        yield False, "it rests on no sealed dossier"
        return
    request = as_request(dossier)
    yield request.name == name, f"its dossier is about the request `{request.name}`, not `{name}`"
    if request.name == name:
        for finding in decide(state, request, at).findings:
            yield False, f"the gate `{REQUESTS[name]}` did not clear: {finding.message}"


def _document(state: State, digest: str) -> ev.Document:
    dossier = state.dossiers.get(digest)
    return dossier.document if dossier else {}


def body(document: ev.Document, key: str) -> ev.Document:
    """A table within a dossier's document; empty when there is none."""
    body = document.get(key)
    return body if isinstance(body, dict) else {}


def policy_adopted(state: State, event: ev.PolicyAdopted) -> Iterator[Check]:
    """Policy 1 is signed by everyone it names; a later one cleared `amend`, or only tightens."""
    policy = read_policy(event.document)
    if not isinstance(policy, Policy):
        yield False, f"it is no policy: {policy[0].message}"
        return
    if state.current is None:
        yield from _genesis(state, event, policy)
    elif event.dossier:
        yield from cleared(state, "AdoptPolicy", event.dossier, event.at)
        adopts = _document(state, event.dossier).get("adopts")
        yield adopts == event.digest, "people cleared another policy than this one"
        yield from _taken_over(state, event, policy)
    else:
        differences = change(state.current.policy, policy)
        loose = next((d.path for d in differences if d.effect == "loosens"), "")
        yield not needs_quorum(differences), f"it loosens `{loose}` without the quorum of `amend`"


def _taken_over(state: State, event: ev.PolicyAdopted, policy: Policy) -> Iterator[Check]:
    """Other people or keys: the quorum of the new policy agreed too, and every new key signed for itself."""
    dossier, current, project = state.dossiers.get(event.dossier), state.current, state.project
    if dossier is None or current is None or project is None:
        return
    level = dossier.document.get("level")
    signed = [(str(each.get("person")), str(each.get("key"))) for each in event.signatures]
    approved = supporters(state, dossier, event.at)
    said = level if isinstance(level, int) else -1
    for message in missing(current.policy, policy, level=said, signed=signed, approved=approved):
        yield False, message
    yield set(signed) <= set(pairs(policy)), "somebody signed it whom it does not name"
    person = borrowed(project, (*state.policies, Adopted(event.version, event.digest, policy, state.size)))
    yield not person, f"it gives `{person}` a key of the governor's"


def _genesis(state: State, event: ev.PolicyAdopted, policy: Policy) -> Iterator[Check]:
    project = state.project
    yield state.size == 1, "policy 1 does not follow directly on the founding"
    yield event.policy == event.digest, "policy 1 is not stamped with itself"
    same = project is not None and (policy.name, policy.origin) == (project.name, project.origin)
    yield same, "policy 1 names another project than the founding"
    yield from _proved(event, policy.people)


def _proved(event: ev.PolicyAdopted, people: Iterable[Person]) -> Iterator[Check]:
    """Whoever a policy names anew signed it, with a key that it says is theirs."""
    signed = {(str(each.get("person")), str(each.get("key"))) for each in event.signatures}
    for person in people:
        holds = any((person.id, key.public) in signed for key in person.keys)
        yield holds, f"`{person.id}` did not sign the policy that names them"


def lineage_founded(state: State, event: ev.LineageFounded) -> Iterator[Check]:
    """Exactly the founder that the policy names and people cleared."""
    yield from cleared(state, "FoundLineage", event.dossier, event.at)
    artifact = body(_document(state, event.dossier), "candidate")
    yield artifact.get("root") == event.root, "people cleared another founder than this one"
    yield artifact.get("files") == list(event.files), "people cleared other files than these"
    if state.current is not None:
        policy = state.current.policy
        yield policy.subject.founder == event.root, "the policy names another founder"
        yield policy.name == event.lineage, "the lineage has another name than the project"


def warrant_issued(state: State, event: ev.WarrantIssued) -> Iterator[Check]:
    """Exactly the bounds that people cleared, from now on."""
    yield from cleared(state, "IssueWarrant", event.dossier, event.at)
    bounds = body(_document(state, event.dossier), "bounds")
    for name in ("candidates_max", "level_ceiling", "expires_at"):
        value = getattr(event, name)
        yield bounds.get(name) == value, f"`{name}` is {value}; people cleared {bounds.get(name)}"
    yield body(bounds, "loop") == event.bounds, "its bounds on a loop are not those that people cleared"
    yield event.not_before >= event.at, "it begins before it was issued"
    used = event.warrant == SHADOW or any(warrant.id == event.warrant for warrant in state.warrants)
    yield not used, "its name was used before"
    yield same_lineage(state, event.lineage)


def loop_resumed(state: State, event: ev.LoopResumed) -> Iterator[Check]:
    """Exactly the halt that people cleared."""
    yield from cleared(state, "ResumeLoop", event.dossier, event.at)
    yield _document(state, event.dossier).get("halt") == event.halt, "people cleared the end of another halt"


def blob_erased(state: State, event: ev.BlobErased) -> Iterator[Check]:
    """Exactly the blob that people cleared, for the reason that they read."""
    yield from cleared(state, "EraseBlob", event.dossier, event.at)
    said = _document(state, event.dossier)
    yield said.get("erases") == event.blob, "people cleared the erasure of another blob"
    yield said.get("why") == event.reason, "people cleared it for another reason"


def gate_decided(state: State, event: ev.GateDecided) -> Iterator[Check]:
    """The same rules, asked about the same head at the same moment, give the same findings."""
    dossier = state.dossiers.get(event.dossier)
    if dossier is None:
        yield False, "it rests on no sealed dossier"
        return
    decision = decide(state, as_request(dossier), event.at)
    found = [finding.to_json() for finding in decision.findings]
    yield event.rules == RULES, "it was decided by rules that this Keyturn does not have"
    yield event.head == state.size, f"it was decided about head {event.head}, not about {state.size}, where it stands"
    yield event.gate == decision.gate, f"it was decided at the gate `{event.gate}`; its dossier waits at another"
    yield event.cleared is decision.cleared, f"it says cleared: {event.cleared}; decided again: {decision.cleared}"
    yield list(event.findings) == found, "its findings differ from those that the rules give"


def same_lineage(state: State, lineage: str) -> Check:
    """An entry is about the lineage of its log."""
    return state.lineage is not None and state.lineage.id == lineage, f"`{lineage}` is not the lineage of this log"


# Permits and releases


def permit_issued(state: State, event: ev.PermitIssued) -> Iterator[Check]:
    """For a release right after its gate cleared; for the founder right after the lineage was founded."""
    dossier, project, current = state.dossiers.get(event.dossier), state.project, state.current
    if dossier is None or project is None or current is None:
        yield False, "it rests on no sealed dossier"
        return
    if event.gate == Gate.RELEASE:
        yield from cleared(state, "ReleaseCandidate", event.dossier, event.at)
        known = state.candidates.get(named(dossier))
        yield known is not None and known.root == event.root, "it is for other bytes than the candidate's"
        yield known is not None and known.files == event.files, "it names other files than the candidate's"
    elif event.gate == Gate.AMEND:
        yield from _for_founder(state, event, dossier)
    else:
        yield False, f"no permit can be issued under the gate `{event.gate}`"
    for lack in unwitnessed(state, dossier):
        yield False, lack
    document = dossier.document
    artifact = body(document, "candidate")
    longest = current.policy.freshness.evidence_seconds * SECOND
    yield (
        (artifact.get("name"), artifact.get("root")) == (event.candidate, event.root),
        "people cleared another artifact",
    )
    yield artifact.get("files") == list(event.files), "people cleared other files"
    yield document.get("level") == event.level, f"people cleared level {document.get('level')}, not {event.level}"
    yield document.get("scope") == event.scope, "people cleared another scope"
    yield event.action == _ACTION, f"`{event.action}` is not an action that can be permitted"
    yield event.lineage == project.name, "it is for another lineage"
    yield (event.genesis, event.origin) == (project.genesis, project.origin), "it rests on another trust root"
    yield event.at <= event.not_before < event.not_after, "its window is empty or begins before it was issued"
    yield event.not_after - event.at <= longest, f"it lasts longer than {longest // SECOND} seconds"
    simulated = _simulated(state, dossier, event.at)
    yield event.simulated is simulated, f"it says simulated: {event.simulated}; of those who counted: {simulated}"


def _for_founder(state: State, event: ev.PermitIssued, dossier: Dossier) -> Iterator[Check]:
    lineage = state.lineage
    directly = lineage is not None and not state.permits and lineage.founder.released_at == state.last_at
    yield directly and dossier.used, "a founder's permit comes directly after the founding, once"
    yield dossier.document.get("request") == "FoundLineage", "its dossier founded no lineage"
    yield lineage is not None and lineage.founder.root == event.root, "it is for other bytes than the founder's"
    yield state.halt is None, "it was issued while a halt stood"


def _simulated(state: State, dossier: Dossier, at: Instant) -> bool:
    """Whether anyone who counted was a simulated person."""
    row = row_of(state, as_request(dossier))
    if row is None or state.current is None:
        return True
    counted = dict(quorum(state, dossier, row, at).counted)
    return any(person.simulated for person in state.current.policy.people if person.id in counted)


def candidate_released(state: State, event: ev.CandidateReleased) -> Iterator[Check]:
    """The next generation, under a live permit for exactly these bytes, which no other generation was made under."""
    permit, lineage = state.permits.get(event.permit), state.lineage
    yield same_lineage(state, event.lineage)
    yield state.halt is None, "it was released while a halt stood"
    yield state.freeze is None, "it was released while everything was held still"
    if permit is None or lineage is None:
        yield False, "it was released without a permit"
        return
    yield event.permit not in state.revoked, "its permit was revoked"
    yield permit.not_before <= event.at < permit.not_after, "its permit was not in force"
    same = (permit.candidate, permit.root) == (event.candidate, event.root)
    yield same, "its permit is for another artifact"
    yield all(member.permit != event.permit for member in lineage.generations), "its permit was used before"
    if event.generation == 0:
        yield not lineage.founder.permit and lineage.founder.root == event.root, "it is not the founder"
        return
    known, number = state.candidates.get(event.candidate), lineage.parent.number + 1
    yield event.generation == number, f"the next generation is {number}, not {event.generation}"
    yield known is not None and known.root == event.root, "its bytes are not the candidate's"
    yield known is not None and known.parent == lineage.parent.root, "it was not made by the present parent"
