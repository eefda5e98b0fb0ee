"""The bytes that people sign are frozen: what was signed yesterday verifies tomorrow, in any program."""

from __future__ import annotations

import json

import pytest

from keyturn.wire import approval, leaf
from keyturn.wire.approval import ApprovalTerms
from tests.vectors.make_messages import ADOPTION, HERE, vectors

NAMES = sorted(vectors())


def test_every_vector_is_made_and_every_made_vector_is_kept():
    kept = {
        str(path.relative_to(HERE).with_suffix(""))
        for place in ("approval", "people")
        for path in HERE.glob(f"{place}/*.json")
    }
    assert kept == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_making_a_vector_again_changes_no_byte(name):
    assert (HERE / f"{name}.json").read_text(encoding="utf-8") == vectors()[name]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("approval/")])
def test_a_stranger_with_nothing_but_the_standard_library_builds_the_same_message(name):
    """No character above U+FFFF in a key and no fraction occurs, so that sorted compact JSON is already canonical."""
    vector = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    terms = vector["terms"]
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "dossier", "digest": {"sha256": terms.pop("dossier").removeprefix("sha256:")}}],
        "predicateType": "urn:keyturn:approval:v1",
        "predicate": terms,
    }
    body = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    message = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(body) + body
    assert message.hex() == vector["message_hex"]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("approval/")])
def test_terms_come_back_out_of_the_message(name):
    vector = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    _, _, _, _, payload = bytes.fromhex(vector["message_hex"]).split(b" ", 4)
    assert approval.read(payload) == ApprovalTerms(**vector["terms"])


def test_a_stranger_builds_the_message_of_an_adoption_too():
    vector = json.loads((HERE / "people/adoption.json").read_text(encoding="utf-8"))
    terms = vector["terms"]
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "policy", "digest": {"sha256": terms.pop("policy").removeprefix("sha256:")}}],
        "predicateType": "urn:keyturn:adoption:v1",
        "predicate": terms,
    }
    body = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert (b"DSSEv1 28 application/vnd.in-toto+json %d " % len(body) + body).hex() == vector["message_hex"]


@pytest.mark.parametrize("changed", ["genesis", "policy", "version", "dossier", "person"])
def test_every_term_of_an_adoption_is_bound(changed):
    other = 3 if changed == "version" else "eve" if changed == "person" else "sha256:" + "9" * 64
    assert leaf.adoption_message(**{**ADOPTION, changed: other}) != leaf.adoption_message(**ADOPTION)
