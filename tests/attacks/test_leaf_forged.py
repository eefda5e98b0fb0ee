"""The attack: write into the log what nobody signed, or sign as somebody else. A leaf has one spelling, one meaning."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from keyturn.core import events as ev
from keyturn.core.errors import MalformedInput, TamperDetected, UntrustedInput
from keyturn.ledger.history import History
from keyturn.wire import base64, canonical, dsse, leaf, signature, statement
from keyturn.wire.people_statements import AUDIT, AWARENESS, AuditTerms, AwarenessTerms
from tests.verify.scene import KEYS, SERVICE, Key, Scene, keyring, signed, stated

ONE = "in a second spelling; one each is expected"


@pytest.fixture
def keys(scene):
    return keyring(scene.trust)


@pytest.fixture
def approval(scene):
    return scene.leaves[scene.approval_indexes[0]]


def envelope(kind, payload, *who):
    signatures = tuple(dsse.Signature(signature.key_id(k.public), k.sign(dsse.pae(kind, payload))) for k in who)
    return dsse.encode(dsse.Envelope(kind, payload, signatures))


def fact(event):
    return canonical.encode(ev.to_json(event))


def refused(data, keys, error=MalformedInput):
    with pytest.raises(error) as caught:
        leaf.decode(data, keys)
    assert caught.value.help
    return caught.value.message


# --- one spelling


def test_every_honest_leaf_reads_back(scene, keys):
    for data in scene.leaves:
        assert leaf.decode(data, keys)


@pytest.mark.parametrize("second", [KEYS["ben"], KEYS["ada"], SERVICE])
def test_two_signatures_are_refused(approval, keys, second):
    """What a second signature adds, nobody reads: it would be room to write in, and to count twice."""
    opened = dsse.decode(approval)
    twice = replace(opened, signatures=(*opened.signatures, dsse.Signature("", second.sign(opened.signed()))))
    assert refused(dsse.encode(twice), keys) == f"an entry with 2 signature(s) or {ONE}"


def test_another_spelling_of_the_envelope_is_refused(approval, keys):
    body = json.loads(approval)
    for data in (approval + b"\n", b" " + approval, json.dumps(body).encode(), json.dumps(body, indent=1).encode()):
        assert refused(data, keys) == f"an entry with 1 signature(s) or {ONE}"


@pytest.mark.parametrize("hint", ["", "I was here", "0" * 64])
def test_the_hint_is_the_key_and_no_place_for_messages(approval, keys, hint):
    opened = dsse.decode(approval)
    changed = replace(opened, signatures=(replace(opened.signatures[0], keyid=hint),))
    assert refused(dsse.encode(changed), keys, UntrustedInput) == "no key of `ada` signed this statement"


def test_a_hint_that_is_left_out_is_a_second_spelling(approval, keys):
    body = json.loads(approval)
    del body["signatures"][0]["keyid"]
    assert refused(canonical.encode(body), keys) == f"an entry with 1 signature(s) or {ONE}"


def test_an_oversized_leaf_is_refused_before_it_is_read(keys):
    assert refused(b"[" * 60_001, keys) == "an entry of 60001 bytes; 60000 is the most"


@pytest.mark.parametrize("kind", [leaf.EVENT_TYPE, statement.PAYLOAD_TYPE])
def test_a_payload_that_is_not_canonical_is_refused(scene, keys, kind):
    payload = json.dumps(ev.to_json(scene.status), indent=1).encode()
    assert "not canonical" in refused(envelope(kind, payload, SERVICE), keys)


def test_a_payload_with_a_key_given_twice_is_refused(scene, keys):
    payload = fact(scene.status).replace(b'"halted":false', b'"halted":true,"halted":false')
    assert refused(envelope(leaf.EVENT_TYPE, payload, SERVICE), keys) == "found the key `halted` twice in one object"


@pytest.mark.parametrize("payload", [b"[]", b"null", b"7", b'"StatusPublished"'])
def test_a_payload_that_is_no_object_is_refused(keys, payload):
    assert refused(envelope(leaf.EVENT_TYPE, payload, SERVICE), keys) == "an event is not a JSON object"


# --- another type


@pytest.mark.parametrize("kind", ["text/plain", "application/json", leaf.EVENT_TYPE + ";v=2", leaf.EVENT_TYPE.upper()])
def test_an_envelope_of_another_type_is_refused(scene, keys, kind):
    data = envelope(kind, fact(scene.status), SERVICE)
    assert refused(data, keys) == f"`{kind}` is no payload of this log"


def test_a_signature_for_one_type_does_not_serve_another(scene, keys):
    opened = dsse.decode(envelope("text/plain", fact(scene.status), SERVICE))
    moved = dsse.encode(replace(opened, payload_type=leaf.EVENT_TYPE))
    assert refused(moved, keys, UntrustedInput) == "the service key did not sign this `StatusPublished`"


@pytest.mark.parametrize(
    "kind", ["urn:keyturn:approval:v2", "urn:keyturn:genesis:v1", "https://slsa.dev/provenance/v1"]
)
def test_a_statement_of_another_kind_is_no_entry_whoever_signed_it(scene, keys, kind):
    said = statement.Statement((("dossier", scene.dossier),), kind, {"person": "ada"})
    data = envelope(statement.PAYLOAD_TYPE, statement.encode(said), KEYS["ada"])
    assert refused(data, keys) == f"`{kind}` is no statement of this log"


def test_what_ada_signed_at_the_founding_is_no_approval(scene, keys):
    """The genesis message is a statement in the same envelope type: it must never read as anything else."""
    said = statement.Statement((("genesis", scene.trust.genesis),), "urn:keyturn:genesis:v1", {"person": "ada"})
    assert dsse.pae(statement.PAYLOAD_TYPE, statement.encode(said)) == leaf.genesis_message(scene.trust.genesis, "ada")
    data = envelope(statement.PAYLOAD_TYPE, statement.encode(said), KEYS["ada"])
    assert refused(data, keys) == "`urn:keyturn:genesis:v1` is no statement of this log"


# --- who speaks


def people_facts(scene):
    approval = scene.event(scene.approval_indexes[0])
    stamp = {"id": "x", "at": scene.now, "actor": "person:ada", "policy": approval.policy}
    shared = {"genesis": scene.trust.genesis, "person": "ada", "reason": "r", "origin": "o", "key": approval.key}
    yield approval
    yield ev.ApprovalRefused(**{name: getattr(approval, name) for name in approval.__dataclass_fields__})
    yield ev.GenerationAudited(
        **stamp, **shared, lineage="toy", root=scene.permit.root, evidence_index=3, role="safety"
    )
    yield ev.AwarenessSigned(**stamp, **shared, incident="i", moment="aware", moment_at=scene.now)


@pytest.mark.parametrize("number", range(4))
def test_the_governor_cannot_state_what_only_people_say(scene, keys, number):
    event = list(people_facts(scene))[number]
    name = type(event).__name__
    message = f"`{name}` stands in the log as a plain fact; only its signed statement counts"
    assert refused(stated(event), keys, UntrustedInput) == message


@pytest.mark.parametrize("kind", ["urn:keyturn:permit:v1", "urn:keyturn:evidence:v1"])
def test_the_governor_cannot_wrap_an_approval_as_its_own_statement(scene, keys, kind):
    event = scene.event(scene.approval_indexes[0])
    said = statement.Statement((("c1", scene.permit.root),), kind, ev.to_json(event))
    data = envelope(statement.PAYLOAD_TYPE, statement.encode(said), SERVICE)
    assert refused(data, keys) == f"`{kind}` holds another event"


def test_a_permit_counts_as_a_statement_only(scene, keys):
    data = envelope(leaf.EVENT_TYPE, fact(scene.permit), SERVICE)
    message = "`PermitIssued` stands in the log as a plain fact; only its signed statement counts"
    assert refused(data, keys, UntrustedInput) == message


def test_a_permit_whose_subject_is_another_root_is_refused(scene, keys):
    subject = (("c1", "sha256:" + "6" * 64),)
    said = statement.Statement(subject, "urn:keyturn:permit:v1", ev.to_json(scene.permit))
    data = envelope(statement.PAYLOAD_TYPE, statement.encode(said), SERVICE)
    assert refused(data, keys) == "a statement's subject differs from its event"


@pytest.mark.parametrize("key", [SERVICE, KEYS["ben"], KEYS["mallory"]])
def test_nobody_signs_an_approval_for_ada(scene, keys, key):
    data = signed(scene.terms["ada"], key)
    assert refused(data, keys, UntrustedInput) == "no key of `ada` signed this statement"


def test_a_person_states_no_facts(scene, keys):
    assert refused(stated(scene.status, KEYS["ada"]), keys, UntrustedInput).startswith("the service key did not sign")
    assert refused(stated(scene.permit, KEYS["ada"]), keys, UntrustedInput).startswith("the service key did not sign")


def test_the_key_that_verified_is_written_into_the_event_and_cannot_be_claimed(scene, keys):
    event = leaf.decode(signed(scene.terms["ada"], KEYS["ada-2"]), keys)
    assert isinstance(event, ev.ApprovalGiven)
    assert event.key == KEYS["ada-2"].public
    body = statement.decode(dsse.decode(scene.leaves[scene.approval_indexes[0]]).payload)
    claimed = statement.Statement(body.subjects, body.predicate_type, {**body.predicate, "key": KEYS["ben"].public})
    data = envelope(statement.PAYLOAD_TYPE, statement.encode(claimed), KEYS["ada"])
    assert "key" in refused(data, keys)


def test_a_refusal_does_not_read_as_an_approval(scene, keys):
    said = replace(scene.terms["ada"], decision="refuse")
    assert type(leaf.decode(signed(said, KEYS["ada"]), keys)) is ev.ApprovalRefused
    opened = dsse.decode(signed(said, KEYS["ada"]))
    turned = opened.payload.replace(b'"decision":"refuse"', b'"decision":"approve"')
    assert turned != opened.payload
    assert refused(dsse.encode(replace(opened, payload=turned)), keys, UntrustedInput).startswith("no key of `ada`")


def test_every_changed_byte_of_a_signed_payload_is_refused(approval, keys):
    opened = dsse.decode(approval)
    for at in range(0, len(opened.payload), 7):
        payload = bytearray(opened.payload)
        payload[at] ^= 1
        with pytest.raises((MalformedInput, UntrustedInput)):
            leaf.decode(dsse.encode(replace(opened, payload=bytes(payload))), keys)


def test_audits_and_awareness_are_not_exchanged(scene, keys):
    shared = {"genesis": scene.trust.genesis, "policy": scene.permit.policy, "person": "ada", "nonce": "n"}
    shared |= {"origin": "toy.example/log", "reason": "looked", "signed_at": scene.now}
    audit = AuditTerms(**shared, root=scene.permit.root, lineage="toy", evidence_index=3, role="safety")
    aware = AwarenessTerms(**shared, incident="i", moment="aware", moment_at=scene.now)
    opened = leaf.decode(leaf.encode_audit(audit, public=KEYS["ada"].public, sign=KEYS["ada"].sign), keys)
    assert isinstance(opened, ev.GenerationAudited)
    for form, terms, other in ((AUDIT, audit, AWARENESS), (AWARENESS, aware, AUDIT)):
        made = form.statement(terms)
        swapped = statement.Statement(made.subjects, other.predicate_type, made.predicate)
        data = envelope(statement.PAYLOAD_TYPE, statement.encode(swapped), KEYS["ada"])
        assert refused(data, keys)


# --- the first leaf and the founding


def test_a_log_begins_with_a_founding_that_signs_itself(scene):
    assert isinstance(leaf.decode(scene.leaves[0], None), ev.ProjectFounded)
    forged = stated(scene.event(0), Key("mallory"))
    assert refused(forged, None, UntrustedInput) == "the service key did not sign this `ProjectFounded`"
    for index in (2, scene.permit_index):
        name = type(scene.event(index)).__name__
        message = f"a log begins with its founding, not with `{name}`"
        assert refused(scene.leaves[index], None, UntrustedInput) == message
    message = "a log begins with its founding, not with a person's statement"
    assert refused(scene.leaves[scene.approval_indexes[0]], None, UntrustedInput) == message


@pytest.mark.parametrize("missing", range(4))
def test_a_founding_that_one_key_did_not_sign_is_no_founding(scene, missing):
    first = scene.event(1)
    assert isinstance(first, ev.PolicyAdopted)
    kept = tuple(each for n, each in enumerate(first.signatures) if n != missing)
    who = first.signatures[missing]["person"]
    history = History()
    history.read(scene.leaves[0])
    with pytest.raises(TamperDetected) as caught:
        history.read(stated(replace(first, signatures=kept)))
    assert caught.value.message == f"the log holds a founding that `{who}` did not sign"
    forged = tuple({**each, "sig": base64.encode(bytes(64))} for each in first.signatures)
    with pytest.raises(TamperDetected):
        history.read(stated(replace(first, signatures=forged)))
    assert history.read(scene.leaves[1])


def test_what_a_governor_cannot_read_it_never_writes(tmp_path):
    """A leaf that a person did not sign is refused before it is durable."""
    made = Scene.begin(tmp_path / "log.db")
    made.found()
    size, digest = made.log.state.size, made.propose()
    terms = made.terms(digest, "ada", "safety")
    size = made.log.state.size
    with pytest.raises(UntrustedInput):
        made.log.append_signed(signed(terms, KEYS["mallory"]))
    assert made.log.store.head().size == size
    made.log.store.close()
