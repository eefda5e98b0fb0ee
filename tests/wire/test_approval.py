"""What is signed is what ships: terms and their bytes are one, and nothing rides along unread."""

from __future__ import annotations

import dataclasses
import json

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.wire import approval, canonical, digest, dsse, people_statements, statement
from tests.vectors.make_messages import RELEASE, TERMS


def test_every_field_is_under_the_signature():
    seen = {approval.message(RELEASE)}
    another = digest.sha256(b"another")
    changes = {"decision": "refuse", "gate": "tune"} | dict.fromkeys(
        ("dossier", "genesis", "policy", "artifact"), another
    )
    for field in dataclasses.fields(RELEASE):
        value = getattr(RELEASE, field.name)
        other = changes.get(field.name, value + 1 if isinstance(value, int) else value + "x")
        seen.add(approval.message(dataclasses.replace(RELEASE, **{field.name: other})))
    assert len(seen) == 1 + len(dataclasses.fields(RELEASE))


def test_the_subject_is_the_dossier_and_the_message_is_the_pae():
    made = approval.statement(RELEASE)
    assert made.subjects == (("dossier", RELEASE.dossier),)
    assert made.predicate_type == "urn:keyturn:approval:v1"
    assert approval.message(RELEASE) == dsse.pae(statement.PAYLOAD_TYPE, statement.encode(made))
    assert approval.terms_of(made) == approval.read(approval.payload(RELEASE)) == RELEASE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decision": "maybe"}, "found the decision `maybe`; `approve` or `refuse` is expected"),
        ({"gate": "ship"}, "found the gate `ship`, which does not exist"),
        ({"not_after": RELEASE.not_before}, "found a window that ends before it begins"),
        ({"person": ""}, "found nothing in `person`"),
        ({"nonce": ""}, "found nothing in `nonce`"),
        ({"evidence_index": -1}, "found no whole number from 0 on in `evidence_index`"),
        ({"evidence_index": True}, "found no whole number from 0 on in `evidence_index`"),
        ({"policy_version": 1.0}, "found no whole number from 0 on in `policy_version`"),
        ({"reason": "x" * 4001}, "found no text of at most 4000 characters in `reason`"),
        ({"role": None}, "found no text of at most 4000 characters in `role`"),
        ({"artifact": "weights"}, "found `weights`; a digest is `sha256:` and 64 lower-case hexadecimal digits"),
        ({"level": -1}, "found no whole number from 0 on in `level`"),
        ({"policy": "latest"}, "found `latest`; a digest is `sha256:` and 64 lower-case hexadecimal digits"),
        ({"dossier": ""}, "found ``; a digest is `sha256:` and 64 lower-case hexadecimal digits"),
    ],
)
def test_impossible_terms_are_neither_written_nor_read(change, message):
    terms = dataclasses.replace(RELEASE, **change)
    for write in (approval.statement, approval.message, approval.payload):
        with pytest.raises(MalformedInput) as caught:
            write(terms)
        assert caught.value.message == message


def altered(change):
    value = json.loads(approval.payload(RELEASE))
    change(value)
    return canonical.encode(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["predicate"].update(extra=1), "found the key `extra` which is unknown"),
        (lambda v: v["predicate"].pop("role"), "found the key `role` missing"),
        (lambda v: v["predicate"].update(dossier="x"), "found the key `dossier` which is unknown"),
        (lambda v: v["subject"][0].update(name="artifact"), "found another subject than one `dossier`"),
        (
            lambda v: v["subject"].append({"name": "b", "digest": {"sha256": "0" * 64}}),
            "found another subject than one `dossier`",
        ),
        (lambda v: v["subject"].append(v["subject"][0]), "found two subjects of one name"),
        (
            lambda v: v.update(predicateType="urn:keyturn:audit:v1"),
            "found the predicate `urn:keyturn:audit:v1`; `urn:keyturn:approval:v1` is expected",
        ),
        (lambda v: v.update(_type="https://in-toto.io/Statement/v0.1"), "found no in-toto statement v1"),
        (lambda v: v.update(more=1), "found no in-toto statement v1"),
        (lambda v: v.update(subject=[]), "found no `subject`; one at least is expected"),
        (lambda v: v.update(predicate=[]), "found no object in `predicate`"),
        (lambda v: v.update(predicateType=3), "found no text in `predicateType`"),
        (
            lambda v: v["subject"][0]["digest"].update(sha512="0"),
            "found a subject without a text name and exactly one sha256 digest",
        ),
        (lambda v: v["subject"][0].update(uri="x"), "found a subject without exactly a name and a digest"),
    ],
)
def test_a_statement_with_anything_more_or_less_is_refused(change, message):
    with pytest.raises(MalformedInput) as caught:
        approval.read(altered(change))
    assert caught.value.message == message


def test_a_payload_that_is_not_canonical_is_not_the_one_that_people_sign():
    with pytest.raises(MalformedInput, match="not canonical"):
        approval.read(json.dumps(json.loads(approval.payload(RELEASE))).encode())
    with pytest.raises(MalformedInput, match="not canonical"):
        statement.decode_canonical(approval.payload(RELEASE) + b"\n")


def test_a_signature_of_one_kind_never_stands_for_another():
    forms = (people_statements.AUDIT, people_statements.AWARENESS)
    for terms in TERMS.values():
        if isinstance(terms, approval.ApprovalTerms):
            continue
        (own,) = (form for form in forms if form.terms is type(terms))
        assert own.read(own.payload(terms)) == terms
        for other in (form.read for form in forms if form is not own):
            with pytest.raises(MalformedInput, match="is expected"):
                other(own.payload(terms))
        with pytest.raises(MalformedInput, match="is expected"):
            approval.read(own.payload(terms))
