"""The attack: a note with so many signatures that a reader gives up, works for ever, or counts one key twice."""

from __future__ import annotations

import base64

import pytest

from keyturn.cli.main import main
from keyturn.core.errors import MalformedInput, TamperDetected, UntrustedInput
from keyturn.ledger import checkpoint, note, proof, tree
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.proof import Proof
from tests.ledger.signers import LOG, Key

LEAF = b"entry"
NOTE = checkpoint.sign(Checkpoint(LOG.name, 1, tree.leaf_hash(LEAF)), LOG)
WITNESSES = [Key(f"witness.example/w{n}") for n in range(120)]
AT = 1_790_000_000_000


def witnessed(count: int, *, by=WITNESSES) -> bytes:
    """The checkpoint with this many signatures in all, the log's own first."""
    made = NOTE
    for key in by[: count - 1]:
        made = note.cosign(made, key, at=AT)
    return made


def verifiers(count: int):
    return [each.witness for each in WITNESSES[: count - 1]]


@pytest.mark.parametrize("count", [1, 16, 17, 100])
def test_up_to_a_hundred_signatures_are_read_and_each_known_one_counts(count):
    opened = checkpoint.open_checkpoint(witnessed(count), LOG.verifier(), verifiers(count))
    assert len(opened.witnessed) == count - 1
    assert checkpoint.open_checkpoint(witnessed(count), LOG.verifier()).witnessed == ()


@pytest.mark.parametrize("count", [101, 115])
def test_more_are_refused_before_any_is_checked(count, monkeypatch):
    monkeypatch.setattr(note.signature, "verify", lambda *_: pytest.fail("a signature was checked"))
    made = witnessed(100)
    made += made.splitlines(keepends=True)[-1] * (count - 100)
    with pytest.raises(MalformedInput, match=f"found {count} signatures; 100 is the limit"):
        checkpoint.open_checkpoint(made, LOG.verifier(), verifiers(count))


def test_the_logs_line_is_found_wherever_it_stands():
    text, _, lines = witnessed(17).decode().rpartition("\n\n")
    rows = lines.splitlines()
    for turned in (rows[::-1], rows[5:] + rows[:5], sorted(rows)):
        data = f"{text}\n\n".encode() + "".join(f"{row}\n" for row in turned).encode()
        assert len(checkpoint.open_checkpoint(data, LOG.verifier(), verifiers(17)).witnessed) == 16


def test_one_witness_twice_is_one_witness():
    twice = note.cosign(witnessed(2), WITNESSES[0], at=AT + 5000)
    opened = checkpoint.open_checkpoint(twice, LOG.verifier(), verifiers(2))
    assert [each.verifier for each in opened.witnessed] == verifiers(2)
    assert opened.witnessed[0].at == AT, "the first line counts; a later one adds nothing"
    same = checkpoint.open_checkpoint(NOTE + NOTE.splitlines()[-1] + b"\n", LOG.verifier())
    assert same.witnessed == ()


def test_ninety_nine_lines_of_one_witness_are_one_witness():
    many = witnessed(100, by=[WITNESSES[0]] * 120)
    assert len(checkpoint.open_checkpoint(many, LOG.verifier(), verifiers(2)).witnessed) == 1


def test_the_logs_key_under_a_witnesses_kind_is_no_signature_of_the_log():
    alone = note.cosign(note.sign(note.text_of(NOTE), Key("somebody.example")), LOG, at=AT)
    with pytest.raises(UntrustedInput):
        checkpoint.open_checkpoint(alone, LOG.verifier())


def test_sixteen_lines_of_nobody_do_not_hide_the_one_that_is_forged():
    made = witnessed(17).decode()
    line = made.splitlines()[-1]
    blob = bytearray(base64.b64decode(line.split(" ")[2]))
    blob[-1] ^= 1
    bent = made.replace(line, f"— {WITNESSES[15].name} {base64.b64encode(blob).decode()}").encode()
    with pytest.raises(TamperDetected, match=r"`witness.example/w15` does not fit"):
        checkpoint.open_checkpoint(bent, LOG.verifier(), verifiers(17))
    assert checkpoint.open_checkpoint(bent, LOG.verifier()), "whoever does not ask for that witness is not disturbed"


def test_lines_under_the_names_of_known_keys_with_other_hints_are_unknown():
    blob = base64.b64encode(b"\0\0\0\0" + bytes(72)).decode()
    made = NOTE + b"".join(f"— {LOG.name} {blob}\n".encode() for _ in range(16))
    opened = note.open_note(made, [LOG.verifier()])
    assert opened.unknown == (LOG.name,) * 16


@pytest.mark.parametrize(("count", "code"), [(17, 0), (100, 0), (101, 2)])
def test_the_command_reads_as_many_as_it_says(count, code, tmp_path, capsys):
    (tmp_path / "leaf").write_bytes(LEAF)
    (tmp_path / "p").write_bytes(proof.encode(Proof(0, (), witnessed(count))))
    vkey = LOG.verifier().vkey
    assert main(["log", "check", str(tmp_path / "p"), "--entry", str(tmp_path / "leaf"), "--vkey", vkey]) == code
    capsys.readouterr()
