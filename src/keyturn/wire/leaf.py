"""A leaf of the log is the exact bytes of one DSSE envelope around one event; this is the way there and back.

Facts that strangers check alone (approvals, audits, awareness, evidence, permits) travel as in-toto statements, all
others as plain canonical JSON. A leaf whose signature no known key explains is never turned into an event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from keyturn.core import events as ev
from keyturn.core.errors import MalformedInput, UntrustedInput
from keyturn.core.events import Document, Event
from keyturn.core.keys.governor import in_force, keys_of
from keyturn.core.policy import Adopted, Key, Policy
from keyturn.core.terms import Digest
from keyturn.wire import approval, base64, canonical, dsse, signature, statement
from keyturn.wire.digest import sha256
from keyturn.wire.people_statements import AUDIT, AWARENESS, AuditTerms, AwarenessTerms

EVENT_TYPE = "application/vnd.keyturn.event+json"
LEAF_BYTES_MAX = 60_000

SERVICE_STATEMENTS: Mapping[str, type[Event]] = {
    "urn:keyturn:evidence:v1": ev.EvidenceRecorded,
    "urn:keyturn:permit:v1": ev.PermitIssued,
}
"""Facts of the governor that strangers check alone, as in-toto predicates about a root digest."""

_STATEMENTS_ONLY = (ev.ApprovalGiven, ev.GenerationAudited, ev.AwarenessSigned, ev.EvidenceRecorded, ev.PermitIssued)
"""Facts that may stand in the log as in-toto statements only; those of people need a person's own signature."""

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys that may sign leaves now: the governor's service key, and each person's own as their policy demands."""

    service: str
    people: Mapping[str, tuple[Key, ...]]


def keyring(founded: ev.ProjectFounded, policies: Sequence[Adopted], at: int | None = None) -> Keyring:
    """The keys that may sign entry `at` (None: the next one), by the policy under which it is written."""
    current = in_force(policies, at)
    people = current.policy.people if current else ()
    return Keyring(keys_of(founded, policies, at).service_key, {each.id: each.keys for each in people})


def encode(event: Event, *, public: str, sign: Sign) -> bytes:
    """The leaf of an event that the governor states, signed by its service key."""
    kind, payload = _payload(event)
    return _sealed(kind, payload, public=public, sign=sign)


def encode_approval(terms: approval.ApprovalTerms, *, public: str, sign: Sign) -> bytes:
    """The leaf of a person's decision; `sign` is asked to sign exactly M of design section 7."""
    return _sealed(statement.PAYLOAD_TYPE, approval.payload(terms), public=public, sign=sign)


def encode_audit(terms: AuditTerms, *, public: str, sign: Sign) -> bytes:
    """The leaf of a person's review of a generation."""
    return _sealed(statement.PAYLOAD_TYPE, AUDIT.payload(terms), public=public, sign=sign)


def encode_awareness(terms: AwarenessTerms, *, public: str, sign: Sign) -> bytes:
    """The leaf of a person's signed moment for an incident."""
    return _sealed(statement.PAYLOAD_TYPE, AWARENESS.payload(terms), public=public, sign=sign)


def decode(leaf: bytes, keys: Keyring | None) -> Event:
    """The event in a leaf, its signature checked; `keys` is None only for the first leaf, which names its own key.

    Raises `MalformedInput` for what is no leaf and `UntrustedInput` for one that no known key signed.
    """
    envelope = _envelope(leaf)
    if envelope.payload_type == EVENT_TYPE:
        event = ev.from_json(_object(envelope.payload))
        if isinstance(event, _STATEMENTS_ONLY):
            raise UntrustedInput(
                f"`{type(event).__name__}` stands in the log as a plain fact; only its signed statement counts",
                help="the governor cannot speak for people; do not act on this log",
            )
        return _by_service(envelope, event, keys)
    if envelope.payload_type != statement.PAYLOAD_TYPE:
        raise MalformedInput(f"`{envelope.payload_type}` is no payload of this log", help="do not trust this log")
    said = statement.decode_canonical(envelope.payload)
    if said.predicate_type in SERVICE_STATEMENTS:
        return _by_service(envelope, _service_event(said), keys)
    if keys is None:
        raise UntrustedInput("a log begins with its founding, not with a person's statement", help="do not trust it")
    return _by_person(envelope, said, keys)


def _envelope(leaf: bytes) -> dsse.Envelope:
    """The envelope, if these are its only possible bytes: whatever nobody signed would be room to write in."""
    if len(leaf) > LEAF_BYTES_MAX:
        message = f"an entry of {len(leaf)} bytes; {LEAF_BYTES_MAX} is the most"
        raise MalformedInput(message, help="do not trust this log")
    envelope = dsse.decode(leaf)
    if dsse.encode(envelope) != leaf or len(envelope.signatures) != 1:
        message = f"an entry with {len(envelope.signatures)} signature(s) or in a second spelling; one each is expected"
        raise MalformedInput(message, help="somebody wrote into this entry after it was signed; do not trust this log")
    return envelope


def _payload(event: Event) -> tuple[str, bytes]:
    for name, kind in SERVICE_STATEMENTS.items():
        if isinstance(event, kind) and isinstance(event, ev.EvidenceRecorded | ev.PermitIssued):
            about = statement.Statement(((event.candidate, event.root),), name, ev.to_json(event))
            return statement.PAYLOAD_TYPE, statement.encode(about)
    return EVENT_TYPE, canonical.encode(ev.to_json(event))


def _sealed(kind: str, payload: bytes, *, public: str, sign: Sign) -> bytes:
    signed = dsse.Signature(signature.key_id(public), sign(dsse.pae(kind, payload)))
    leaf = dsse.encode(dsse.Envelope(kind, payload, (signed,)))
    if len(leaf) > LEAF_BYTES_MAX:
        raise MalformedInput(
            f"an entry of {len(leaf)} bytes is too large for the log; {LEAF_BYTES_MAX} is the most",
            help="keep bulk data outside the log and name it by digest",
        )
    return leaf


def _object(payload: bytes) -> Document:
    body = canonical.decode_canonical(payload)
    if not isinstance(body, dict):
        raise MalformedInput("an event is not a JSON object", help="do not trust this log")
    return body


def _by_service(envelope: dsse.Envelope, event: Event, keys: Keyring | None) -> Event:
    if keys is not None:
        public = keys.service
    elif isinstance(event, ev.ProjectFounded):
        public = event.service_key
    else:
        message = f"a log begins with its founding, not with `{type(event).__name__}`"
        raise UntrustedInput(message, help="do not trust it")
    if not _signed(envelope, public):
        raise UntrustedInput(
            f"the service key did not sign this `{type(event).__name__}`",
            help="somebody else wrote into this log; do not act on it",
        )
    return event


def _service_event(said: statement.Statement) -> Event:
    event = ev.from_json(dict(said.predicate))
    wanted = SERVICE_STATEMENTS[said.predicate_type]
    if not isinstance(event, wanted) or not isinstance(event, ev.EvidenceRecorded | ev.PermitIssued):
        raise MalformedInput(f"`{said.predicate_type}` holds another event", help="do not trust this log")
    if said.subjects != ((event.candidate, event.root),):
        raise MalformedInput("a statement's subject differs from its event", help="do not trust this log")
    return event


def _signed(envelope: dsse.Envelope, public: str, *, touch: bool = False, pin: bool = False) -> bool:
    only, text = envelope.signatures[0], envelope.signed()
    return only.keyid == signature.key_id(public) and signature.verify(public, text, only.sig, touch=touch, pin=pin)


def _by_person(envelope: dsse.Envelope, said: statement.Statement, keys: Keyring) -> Event:
    """A person's statement; the key that verified is written into the event, so that rules can look at it."""
    person = said.predicate.get("person")
    known = keys.people.get(person, ()) if isinstance(person, str) else ()
    signed = (key.public for key in known if _signed(envelope, key.public, touch=key.touch, pin=key.pin))
    public = next(signed, None)
    if public is None and any(_signed(envelope, key.public) for key in known):
        message = f"the key of `{person}` signed without the touch or the PIN that the policy demands of it"
        raise UntrustedInput(message, help="sign again with the device, touched and with its PIN")
    if public is None:
        raise UntrustedInput(f"no key of `{person}` signed this statement", help="sign with an enrolled key")
    for kind, read in _PERSON_EVENTS.items():
        if said.predicate_type == kind:
            return ev.from_json({**read(said), "key": public, "actor": f"person:{person}"})
    raise MalformedInput(f"`{said.predicate_type}` is no statement of this log", help="do not trust this log")


def _decision(said: statement.Statement) -> Document:
    """A signed decision as an event: its id is the nonce, its moment the start of its window."""
    terms = approval.terms_of(said)
    body = _plain(terms, leave_out={"decision", "nonce"})
    name = "ApprovalGiven" if terms.decision == approval.APPROVE else "ApprovalRefused"
    return {**body, "type": name, "id": terms.nonce, "at": terms.not_before}


def _audit(said: statement.Statement) -> Document:
    terms = AUDIT.terms_of(said)
    body = _plain(terms, leave_out={"signed_at", "nonce"})
    return {**body, "type": "GenerationAudited", "id": terms.nonce, "at": terms.signed_at}


def _awareness(said: statement.Statement) -> Document:
    terms = AWARENESS.terms_of(said)
    body = _plain(terms, leave_out={"signed_at", "nonce"})
    return {**body, "type": "AwarenessSigned", "id": terms.nonce, "at": terms.signed_at}


def _plain(terms: approval.ApprovalTerms | AuditTerms | AwarenessTerms, *, leave_out: set[str]) -> Document:
    return {field.name: getattr(terms, field.name) for field in fields(terms) if field.name not in leave_out}


_PERSON_EVENTS: Mapping[str, Callable[[statement.Statement], Document]] = {
    approval.PREDICATE_TYPE: _decision,
    AUDIT.predicate_type: _audit,
    AWARENESS.predicate_type: _awareness,
}
"""What a person may sign, and how it becomes an event."""


def genesis_digest(founded: ev.ProjectFounded, document: Document) -> Digest:
    """What all trust starts from: policy 1, the log's and the governor's keys, the origin, and whether it is a demo."""
    names = [
        field.name for field in fields(founded) if field.name in ("name", "origin", "demo", "log_key", "service_key")
    ]
    return sha256(canonical.encode({"policy": document, **{name: getattr(founded, name) for name in names}}))


def genesis_message(genesis: Digest, person: str) -> bytes:
    """What each person of policy 1 signs, proving that they hold their key: a statement about the genesis digest."""
    said = statement.Statement((("genesis", genesis),), "urn:keyturn:genesis:v1", {"person": person})
    return dsse.pae(statement.PAYLOAD_TYPE, statement.encode(said))


def adoption_message(genesis: Digest, *, policy: Digest, version: int, dossier: str, person: str) -> bytes:
    """What people sign to be named by the next policy: that they hold their key, and want this very adoption."""
    about: Document = {"genesis": genesis, "version": version, "dossier": dossier, "person": person}
    said = statement.Statement((("policy", policy),), "urn:keyturn:adoption:v1", about)
    return dsse.pae(statement.PAYLOAD_TYPE, statement.encode(said))


def adopters(genesis: Digest, adopted: ev.PolicyAdopted, policy: Policy) -> tuple[tuple[str, str], ...]:
    """Who signed this adoption, each as person and key; raises `UntrustedInput` for a row that is no such signature."""
    found = tuple((str(row.get("person")), str(row.get("key"))) for row in adopted.signatures)
    for (person, public), row in zip(found, adopted.signatures, strict=True):
        key = next(
            (key for each in policy.people if each.id == person for key in each.keys if key.public == public), None
        )
        message = adoption_message(
            genesis, policy=adopted.digest, version=adopted.version, dossier=adopted.dossier, person=person
        )
        raw = base64.decode(row.get("sig"), what="sig")
        if key is None or found.count((person, public)) > 1 or not _by(key, message, raw):
            text = f"policy {adopted.version} carries a signature that is not `{person[:60]}`'s for this adoption"
            raise UntrustedInput(text, help="only who is named by a policy signs for it, once with each key")
    return found


def _by(key: Key, message: bytes, sig: bytes) -> bool:
    return signature.verify(key.public, message, sig, touch=key.touch, pin=key.pin)
