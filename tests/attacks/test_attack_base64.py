"""The attack: a second spelling of base64, so that two readers see two things, or one thing counts as two."""

from __future__ import annotations

import base64 as stdlib
import json
import re
from dataclasses import replace

import pytest

from keyturn.cli.main import main
from keyturn.core.errors import KeyturnError, MalformedInput
from keyturn.core.policy import Policy
from keyturn.core.policy_reading import read_policy
from keyturn.flow.permit import pack
from keyturn.ledger import checkpoint, note, proof, tree
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.proof import Proof
from keyturn.verify import bundle as bundles
from keyturn.verify import trust as trusts
from keyturn.wire import base64, dsse
from keyturn.wire.leaf import genesis_digest
from keyturn.wire.ssh import sshsig
from tests.ledger.signers import LOG
from tests.verify.scene import KEYS, document, doubts, people
from tests.wire.sshkeys import ED25519, SshKey, message

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def spare(text: str) -> str:
    """The same bytes to a lax reader: the bits that the padding leaves over are set."""
    body = text.rstrip("=")
    pad = len(text) - len(body)
    assert pad, "bytes in threes have no spare bits"
    last = LETTERS[LETTERS.index(body[-1]) | (1 if pad == 1 else 7)]
    other = f"{body[:-1]}{last}{'=' * pad}"
    assert other != text
    assert stdlib.b64decode(other) == stdlib.b64decode(text)
    return other


SPELLINGS = {
    "spare bits": spare,
    "no padding": lambda text: text.rstrip("="),
    "more padding": lambda text: text + "=",
    "a line break in it": lambda text: text[:8] + "\n" + text[8:],
    "a space in it": lambda text: text[:8] + " " + text[8:],
    "the other alphabet": lambda text: "-_" + text[2:],
    "a null byte": lambda text: text + "\0",
    "letters of full width": lambda text: chr(ord(text[0]) + 0xFEE0) + text[1:],
    "something after it": lambda text: text + "AAAA",
}
every_spelling = pytest.mark.parametrize("respell", SPELLINGS.values(), ids=SPELLINGS.keys())

NOTE = checkpoint.sign(Checkpoint(LOG.name, 1, tree.leaf_hash(b"entry")), LOG).decode()


@every_spelling
@pytest.mark.parametrize("length", [1, 2, 4, 5, 31, 32, 64, 65])
def test_bytes_have_one_spelling(respell, length):
    text = stdlib.b64encode(bytes(range(length))).decode()
    if respell(text) != text:
        with pytest.raises(MalformedInput):
            base64.decode(respell(text), what="it")


@every_spelling
def test_in_the_signature_line_of_a_note(respell):
    line = NOTE.splitlines()[-1].split(" ")[2]
    signed = line if line.endswith("=") else stdlib.b64encode(stdlib.b64decode(line) + b"\0").decode()
    with pytest.raises(KeyturnError):
        note.open_note(NOTE.replace(line, respell(signed)).encode(), [LOG.verifier()])


@every_spelling
def test_in_the_root_of_a_checkpoint_even_if_the_log_signed_it(respell):
    root = NOTE.splitlines()[2]
    with pytest.raises(KeyturnError):
        checkpoint.open_checkpoint(note.sign(f"{LOG.name}\n1\n{respell(root)}\n", LOG), LOG.verifier())


@every_spelling
def test_in_a_verifier_key(respell):
    name, hint, key = LOG.verifier().vkey.split("+", 2)
    text = key if key.endswith("=") else stdlib.b64encode(stdlib.b64decode(key) + b"\0").decode()
    with pytest.raises(MalformedInput):
        note.parse_vkey(f"{name}+{hint}+{respell(text)}")


@every_spelling
def test_in_the_hashes_and_the_extra_of_a_proof(respell):
    text = proof.encode(Proof(0, (bytes(32),), NOTE.encode(), b"extra")).decode()
    for found in (stdlib.b64encode(bytes(32)).decode(), "ZXh0cmE="):
        with pytest.raises(MalformedInput):
            proof.decode(text.replace(found, respell(found), 1).encode())


def texts_in(value: object) -> list[str]:
    """Every text in a JSON value that is base64."""
    if isinstance(value, dict):
        return [each for item in value.values() for each in texts_in(item)]
    if isinstance(value, list):
        return [each for item in value for each in texts_in(item)]
    return [value] if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9+/]{40,}={0,2}", value) else []


@every_spelling
def test_anywhere_in_a_bundle(scene, respell):
    body = json.loads(pack(scene.honest))
    hashes = [each for each in texts_in(body) if each.endswith("=")]
    assert len(hashes) > 3
    for found in hashes[:6]:
        bent = json.dumps(body).replace(found, json.dumps(respell(found))[1:-1], 1)
        with pytest.raises(MalformedInput):
            bundles.decode(bent.encode())


@every_spelling
def test_in_the_payload_and_the_signature_of_a_leaf(scene, respell):
    body = json.loads(scene.honest.permit.leaf)
    payload, sig = body["payload"], body["signatures"][0]["sig"]
    for found in (payload, sig):
        text = found if found.endswith("=") else stdlib.b64encode(stdlib.b64decode(found) + b" ").decode()
        with pytest.raises(KeyturnError):
            dsse.decode(json.dumps(body).replace(found, json.dumps(respell(text))[1:-1]).encode())


@every_spelling
def test_in_a_key_of_the_policy_so_that_no_key_counts_for_two_people(respell):
    """Two spellings of one key, each under a name of its own, would be two people with one hand."""
    rows = people()
    rows[1]["keys"][0]["public"] = respell(KEYS["ada"].public)
    assert not isinstance(read_policy(document(people=rows)), Policy)
    rows[1]["keys"][0]["public"] = KEYS["ada"].public
    assert not isinstance(read_policy(document(people=rows)), Policy), "nor the same spelling twice"


@every_spelling
def test_in_the_service_key_of_a_trust_file_whose_genesis_fits(scene, respell):
    founded = replace(scene.trust.founded, service_key=respell(scene.trust.founded.service_key))
    genesis = genesis_digest(founded, scene.trust.policy.document)
    trust = replace(scene.trust, founded=replace(founded, genesis=genesis), genesis=genesis)
    assert [number for number, _ in doubts(scene.honest, scene, trust=trust)][:1] == [4]


@every_spelling
def test_in_the_armour_of_an_ssh_signature(respell):
    blob = SshKey(ED25519).sign(message(), namespace="keyturn-approval-v1")
    lines = sshsig.armor(blob + bytes(2 - len(blob) % 3)).split("\n")  # so that its base64 ends in padding
    bent = respell("".join(lines[1:-2]))
    wrapped = [bent[at : at + 70] for at in range(0, len(bent), 70)]
    with pytest.raises(MalformedInput, match="in its armour"):
        sshsig.unarmor("\n".join([lines[0], *wrapped, *lines[-2:]]))


@every_spelling
def test_the_commands_say_so_too(scene, tmp_path, capsys, respell):
    trusts.write(scene.trust, tmp_path / "t")
    text = pack(scene.honest).decode()
    found = stdlib.b64encode(scene.honest.permit.proof[0]).decode()
    (tmp_path / "b").write_text(text.replace(found, json.dumps(respell(found))[1:-1]))
    assert main(["verify", "permit", str(tmp_path / "b"), "--trust", str(tmp_path / "t")]) == 2
    assert main(["permit", "explode", str(tmp_path / "b"), str(tmp_path / "o"), "--trust", str(tmp_path / "t")]) == 2
    made = proof.encode(Proof(0, (bytes(32),), NOTE.encode()))
    (tmp_path / "leaf").write_bytes(b"entry")
    (tmp_path / "p").write_bytes(made.replace(b"AAAA=\n", (respell("A" * 43 + "=")[-5:] + "\n").encode()))
    if (tmp_path / "p").read_bytes() != made:
        words = ["log", "check", str(tmp_path / "p"), "--entry", str(tmp_path / "leaf"), "--vkey"]
        assert main([*words, LOG.verifier().vkey]) == 2
    capsys.readouterr()
