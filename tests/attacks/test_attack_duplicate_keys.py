"""The attack: a key given twice in one JSON object. One reader takes the first, another the last; here none is taken.

Where a person or a stranger's file is read, it is refused by name; what a subject wrote so claims nothing.
"""

from __future__ import annotations

import pytest

from keyturn.cli.main import main
from keyturn.core.errors import KeyturnError, MalformedInput
from keyturn.core.terms import Instant
from keyturn.flow.dossier import _figures
from keyturn.flow.improve import claim_of
from keyturn.flow.permit import pack
from keyturn.keys import keyfile, showing
from keyturn.keys.keyfile import KeyKind
from keyturn.ledger.export import archive
from keyturn.verify import bundle as bundles
from keyturn.verify import trust as trusts
from keyturn.wire import canonical, dsse, frames, leaf, statement
from tests.attacks.test_attack_export import FILES, rules
from tests.ledger.exports import packed
from tests.verify.scene import SERVICE, Hand, doubts, keyring


def doubled(data: bytes, key: str) -> bytes:
    """The same object with `key` once more in front: what a reader that takes the last one never sees."""
    bent = data.replace(f'"{key}":'.encode(), f'"{key}":null,"{key}":'.encode(), 1)
    assert bent != data, key
    return bent


def escaped(data: bytes, key: str) -> bytes:
    """The first one spelt with an escape, so that it is the same key only to whoever reads JSON."""
    spelt = f'"\\u{ord(key[0]):04x}{key[1:]}":null'
    return doubled(data, key).replace(f'"{key}":null'.encode(), spelt.encode(), 1)


both = pytest.mark.parametrize("bend", [doubled, escaped])
TWICE = "twice in one object"


@both
@pytest.mark.parametrize("key", ["checkpoint", "permit", "status", "approvals", "old_size", "v"])
def test_in_a_bundle(scene, key, bend):
    with pytest.raises(MalformedInput, match=TWICE):
        bundles.decode(bend(pack(scene.honest), key))


@both
def test_in_a_leaf_that_a_bundle_carries(scene, bend):
    data = bend(scene.honest.permit.leaf, "payload")
    with pytest.raises(MalformedInput, match=TWICE):
        dsse.decode(data)
    hand = Hand.of(scene)
    hand.leaves[scene.permit_index] = data
    hand.status()
    ((number, message),) = doubts(hand.show(), scene)
    assert (number, TWICE in message) == (4, True)


@both
@pytest.mark.parametrize("key", ["predicate", "_type", "permit", "root", "not_after"])
def test_in_a_statement_that_the_service_key_signed_so(scene, key, bend):
    """The thief has the key: the signature is good, and still nobody can say what it says."""
    payload = bend(dsse.decode(scene.honest.permit.leaf).payload, key)
    sig = SERVICE.sign(dsse.pae(statement.PAYLOAD_TYPE, payload))
    keyid = dsse.decode(scene.honest.permit.leaf).signatures[0].keyid
    made = dsse.encode(dsse.Envelope(statement.PAYLOAD_TYPE, payload, (dsse.Signature(keyid, sig),)))
    with pytest.raises(MalformedInput):
        leaf.decode(made, keyring(scene.trust))
    hand = Hand.of(scene, upto=scene.permit_index)
    permit = hand.add(made)
    hand.status()
    assert [number for number, _ in doubts(hand.show(permit), scene)] == [4]


@both
@pytest.mark.parametrize("key", ["genesis", "founded", "policy", "seen", "service_key", "size", "demo"])
def test_in_a_trust_file(scene, key, bend):
    with pytest.raises(MalformedInput, match=TWICE):
        trusts.decode(bend(trusts.encode(scene.trust), key))


@both
@pytest.mark.parametrize("key", ["origin", "size", "root", "checkpoints"])
def test_in_the_manifest_of_an_export(tmp_path, key, bend):
    bent = bend(FILES["manifest.json"], key)
    with pytest.raises(KeyturnError, match=TWICE):
        archive._decode(bent)
    assert TWICE in rules(tmp_path, packed({**FILES, "manifest.json": bent}))["file_must_be_an_export"]


@both
def test_in_a_frame_of_a_trial(bend):
    with pytest.raises(MalformedInput):
        frames._object(bend(b'{"answer":1,"block":0}', "block"))


@both
def test_in_a_key_file(tmp_path, bend):
    keyfile.create(tmp_path / "keys", "ada", KeyKind.SIMULATED, created_at=Instant(1))
    path = keyfile.path_of(tmp_path / "keys", "ada")
    path.write_bytes(bend(path.read_bytes(), "public"))
    with pytest.raises(KeyturnError):
        keyfile.read_public(path)


@both
def test_in_what_a_person_is_asked_to_sign(scene, bend):
    """The signing process shows nothing of it but its digest, and says that it cannot be read."""
    payload = dsse.decode(scene.leaves[scene.approval_indexes[0]]).payload
    shown = showing.describe_message(dsse.pae(statement.PAYLOAD_TYPE, payload))
    assert any("approve" in line for line in shown)
    bent = showing.describe_message(dsse.pae(statement.PAYLOAD_TYPE, bend(payload, "decision")))
    assert len(bent) == 2
    assert "not a statement that this program can read" in bent[1]


@pytest.mark.parametrize("text", ['{"win":1,"win":0}', '{"win":1,"\\u0077in":0}'])
def test_what_a_subject_writes_twice_claims_nothing(text):
    assert claim_of(b'{"win":1}') == {"win": 1}
    assert claim_of(text.encode()) == {}
    assert _figures(text.encode()) == {}


def test_in_a_policy_file_the_key_is_named(tmp_path, capsys):
    path = tmp_path / "keyturn.toml"
    path.write_text('schema = 1\n[project]\nname = "a"\nname = "b"\n')
    code = main(["policy", "check", str(path)])
    said = capsys.readouterr()
    assert code == 2
    assert "line 4" in said.out + said.err


def test_the_commands_refuse_it(scene, tmp_path, capsys):
    trusts.write(scene.trust, tmp_path / "t")
    (tmp_path / "b").write_bytes(doubled(pack(scene.honest), "permit"))
    words = ["verify", "permit", str(tmp_path / "b"), "--trust", str(tmp_path / "t")]
    assert main(words) == 2
    assert "found the key `permit` twice in one object" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "b").write_bytes(pack(scene.honest))
    (tmp_path / "t").write_bytes(doubled(trusts.encode(scene.trust), "genesis"))
    assert main(words) == 2
    assert "found the key `genesis` twice" in " ".join(capsys.readouterr().err.split())


def test_a_value_inside_a_value_is_read_as_strictly():
    for text in (b'{"a":{"b":1,"b":1}}', b'[{"a":1,"a":1}]', b'{"a":[{"b":{},"b":{}}]}'):
        with pytest.raises(MalformedInput, match=TWICE):
            canonical.decode(text)
