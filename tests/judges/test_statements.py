"""The people who keep DSSE and in-toto read our leaves with their own code: the recorded log, entry by entry."""

from __future__ import annotations

import base64
import copy
import json
from collections import Counter

import pytest

from keyturn.core import events as ev
from keyturn.ledger import tiles
from keyturn.verify import trust as trusts
from keyturn.wire import dsse, leaf, statement
from tests.ledger.exports import TRUST

pytestmark = pytest.mark.judges

STATED = {"urn:keyturn:approval:v1", "urn:keyturn:evidence:v1", "urn:keyturn:permit:v1"}


@pytest.fixture(scope="module")
def leaves(recorded):
    bundles = sorted((recorded / "tile" / "entries").rglob("*"))
    return [each for path in bundles if path.is_file() for each in tiles.unbundle(path.read_bytes())]


@pytest.fixture(scope="module")
def keyring():
    """Whom people pinned: the governor's service key, and every person's keys."""
    trust = trusts.read(TRUST)
    return leaf.Keyring(trust.founded.service_key, {each.id: each.keys for each in trust.policy.people})


def known_to(keyring, data):
    """All pinned Ed25519 keys in that library's form, under the hint that the envelope gives."""
    from securesystemslib.signer import SSlibKey

    hint = json.loads(data)["signatures"][0]["keyid"]
    publics = [keyring.service, *(key.public for keys in keyring.people.values() for key in keys)]
    raw = [base64.b64decode(each).hex() for each in publics]
    return [SSlibKey(hint, "ed25519", "ed25519", {"public": each}) for each in raw]


def test_securesystemslib_verifies_every_leaf_of_the_recorded_log(judges, leaves, keyring):
    from securesystemslib.dsse import Envelope

    for data in leaves:
        theirs = Envelope.from_dict(json.loads(data))
        assert theirs.pae() == dsse.decode(data).signed()
        fitting = [key for key in known_to(keyring, data) if holds(theirs, key)]
        assert len(fitting) == 1, data[:200]
    assert len(leaves) > 100


def holds(envelope, key):
    from securesystemslib.exceptions import VerificationError

    try:
        return bool(envelope.verify([key], 1))
    except VerificationError:
        return False


def test_securesystemslib_refuses_a_leaf_with_one_changed_byte(judges, leaves, keyring):
    from securesystemslib.dsse import Envelope

    honest = json.loads(leaves[-1])
    payload = bytearray(base64.b64decode(honest["payload"]))
    payload[-2] ^= 1
    for change in ({"payload": base64.b64encode(payload).decode()}, {"payloadType": "application/json"}):
        forged = Envelope.from_dict(copy.deepcopy({**honest, **change}))
        assert not any(holds(forged, key) for key in known_to(keyring, leaves[-1]))


def test_in_toto_reads_every_approval_evidence_and_permit(judges, leaves):
    import google.protobuf.json_format as pb_json
    import in_toto_attestation.v1.statement_pb2 as pb
    from in_toto_attestation.v1.statement import Statement

    seen = Counter()
    for data in leaves:
        envelope = dsse.decode(data)
        if envelope.payload_type != statement.PAYLOAD_TYPE:
            continue
        theirs = Statement.copy_from_pb(pb_json.Parse(envelope.payload, pb.Statement()))
        theirs.validate()
        ours = statement.decode(envelope.payload)
        assert [(each.name, f"sha256:{each.digest['sha256']}") for each in theirs.pb.subject] == list(ours.subjects)
        assert theirs.pb.predicate_type == ours.predicate_type
        assert set(theirs.pb.predicate.fields) == set(ours.predicate)
        seen[ours.predicate_type] += 1
    assert set(seen) >= STATED, seen


def test_whatever_is_an_approval_evidence_or_permit_is_an_in_toto_statement(leaves, keyring):
    for data in leaves:
        event = leaf.decode(data, keyring)
        if isinstance(event, (ev.ApprovalGiven, ev.EvidenceRecorded, ev.PermitIssued)):
            assert dsse.decode(data).payload_type == statement.PAYLOAD_TYPE
