"""What the log keeps of many cosignatures: enough, checkable by most, and never more than one entry holds."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from keyturn.app.auditor.judging import judge
from keyturn.app.verifying import verify_store
from keyturn.core.errors import TamperDetected, Unavailable
from keyturn.core.keys import lines
from keyturn.core.keys.vkey import read_vkey
from keyturn.core.policy import Policy
from keyturn.core.policy_reading import read_policy
from keyturn.flow.ports import Cosigned
from keyturn.ledger import checkpoint, note
from keyturn.ledger.auditing.walk import UNREADABLE, Pin, Walk
from keyturn.ledger.history import History
from keyturn.ledger.witnessing.recorded import recorded
from keyturn.wire import canonical, leaf
from tests.auditor.scene import Shelf, head_of, mirror_of
from tests.core import examples
from tests.fakes.witnesses import WitnessKey, cosigned
from tests.verify.scene import LOG, SERVICE, Scene, document
from tests.witness.cast import PostQuantum

RING = {f"w{n}": PostQuantum(f"w{n}.pq") for n in range(1, 21)}


def row(id: str, kinds: str = "both", **changes: Any) -> dict[str, Any]:
    keys = {"ed": WitnessKey(f"{id}.example").vkey, "pq": RING[id].verifier.vkey}
    named = [keys["pq"], keys["ed"]] if kinds == "both" else [keys[kinds]]
    return {"id": id, "keys": named, "url": f"https://{id}.example", "independent": True, **changes}


class Everybody:
    """Witnesses who all answer, each with every key that it has."""

    def __init__(self, now):
        self.now = now

    def cosign(self, data, parties, *, size, prove):
        for each in parties:
            for key in map(note.parse_vkey, each.keys):
                if key.kind == note.ML_DSA:
                    data = note.cosign(data, RING[each.id], at=self.now(), kind=note.ML_DSA)
                else:
                    data = cosigned(data, each.id, self.now())
        return Cosigned(data, {})


def begun(tmp_path, *rows: dict[str, Any], required: int = 1, auditors: int = 0) -> Scene:
    asked = {"required": required, "auditors": auditors, "parties": list(rows)}
    made = Scene.begin(tmp_path / "log.db", document(witnesses=asked))
    made.log.witnessing = Everybody(made.clock.now)
    made.found()
    made.log.publish()
    return made


def last_record(made: Scene) -> Any:
    history = History()
    events = [history.read(each) for each in made.log.store.leaves(0, made.log.head.size)]
    return next(each for each in reversed(events) if type(each).__name__ == "CheckpointWitnessed")


def test_fourteen_witnesses_with_two_keys_each_are_recorded(tmp_path):
    made = begun(tmp_path, *(row(f"w{n}") for n in range(1, 15)), required=14)
    assert made.log.state.is_witnessed
    said = last_record(made)
    assert len(said.parties) == 14
    assert len(said.note) < 5_000, "one Ed25519 line for each"
    assert made.log.shown() == made.log.store.checkpoint() != said.note.encode(), "the checkpoint keeps every line"


def test_where_not_all_fit_those_are_recorded_who_are_needed(tmp_path):
    rows = [row(f"w{n}", "pq") for n in range(1, 16)]
    rows[14]["auditor"] = True
    made = begun(tmp_path, *rows, required=3, auditors=1)
    said = last_record(made)
    assert "w15" in said.parties
    assert 3 <= len(said.parties) < 15
    assert made.log.state.is_witnessed


def test_a_record_of_the_greatest_size_is_an_entry(tmp_path):
    made = begun(tmp_path, *(row(f"w{n}", "pq") for n in range(1, 16)), required=1)
    parties = tuple(f"{n:02}-{'w' * 38}" for n in range(50))
    rest = len(canonical.encode({"note": "", "parties": list(parties)}))
    filled = replace(last_record(made), parties=parties, note="x" * (lines.RECORD_BYTES_MAX - rest))
    assert leaf.encode(filled, public=SERVICE.public, sign=SERVICE.sign)


def test_where_not_even_enough_fit_nothing_is_said_to_be_witnessed(tmp_path, monkeypatch):
    made = begun(tmp_path, row("w1"), row("w2"), required=2)
    table, data = made.log.state.current.policy.witnesses, made.log.store.checkpoint()
    assert recorded(data, made.log.log_keys, table)[0] == ("w1", "w2")
    monkeypatch.setattr("keyturn.ledger.witnessing.recorded.RECORD_BYTES_MAX", 400)
    assert recorded(data, made.log.log_keys, table) is None
    made.propose()
    assert made.log.state.witnessed < made.log.state.published
    assert made.log.witness() == ("enough cosigned, and their signatures do not fit into one entry",)


def policy(*rows: dict[str, Any], required: int) -> Any:
    return read_policy(examples.document(witnesses={"required": required, "parties": list(rows)}))


def test_a_policy_whose_witnesses_could_never_be_recorded_is_refused():
    assert isinstance(policy(*(row(f"w{n}", "pq") for n in range(1, 13)), required=12), Policy)
    [problem] = policy(*(row(f"w{n}", "pq") for n in range(1, 15)), required=14)
    assert problem.path == "witnesses.parties"
    assert "an entry of the log, which must hold them, has room for 42000" in problem.message
    assert isinstance(policy(*(row(f"w{n}") for n in range(1, 15)), required=14), Policy)


def test_a_policy_whose_witnesses_fit_under_no_head_is_refused():
    [problem] = policy(*(row(f"w{n}") for n in range(1, 21)), required=1)
    assert problem.message.startswith("a head that all of them cosigned has 41 signatures in ")


@pytest.mark.parametrize("id", ["w1", "w2"])
def test_the_length_of_a_line_is_what_policies_reckon_with(id):
    head = checkpoint.Checkpoint("log.example", 3, b"r" * 32)
    plain = head.body().encode() + b"\n"
    keys = {WitnessKey(f"{id}.example").vkey: note.COSIGNATURE, RING[id].verifier.vkey: note.ML_DSA}
    for vkey, kind in keys.items():
        signer = RING[id] if kind == note.ML_DSA else WitnessKey(f"{id}.example")
        first = note.sign(head.body(), WitnessKey("log.example"))
        made = note.cosign(first, signer, at=1_790_000_000_000, kind=kind)
        line = made.removeprefix(first)
        assert lines.line_bytes(read_vkey(vkey)) == len(line) + 1, "a line end is two characters in JSON"
        assert plain in made


# --- a reader without ML-DSA


@pytest.fixture
def without(monkeypatch):
    """Makes this a build of `cryptography` without ML-DSA."""

    def become() -> None:
        monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)

    return become


def test_a_party_with_an_ed25519_key_is_checked_by_readers_without_ml_dsa(tmp_path, without):
    made = begun(tmp_path, row("w1"), row("w2", "ed"), required=2)
    without()
    found = verify_store(made.log.store, trust=None, tell=lambda _: None)
    assert found.witnesses == ("w1", "w2")
    assert UNREADABLE not in {each.rule for each in found.problems}


def test_a_lawful_log_is_not_called_tampered_by_a_reader_without_ml_dsa(tmp_path, without):
    made = begun(tmp_path, row("w1", "pq"))
    leaves = list(made.log.store.leaves(0, made.log.head.size))
    without()
    walk = Walk()
    with pytest.raises(Unavailable, match=r"entry \d+ cannot be decided: `w1` is said to have cosigned a head with ML"):
        list(map(walk.take, leaves))
    assert walk.problems == []
    assert walk.decided
    with pytest.raises(Unavailable, match="cannot be decided"):
        verify_store(made.log.store, trust=None, tell=lambda _: None)


def test_a_cosignature_that_nobody_gave_is_tampering_to_a_reader_without_ml_dsa_too(tmp_path, without):
    made = begun(tmp_path, row("w1", "pq"), row("w2", "ed"))
    said, history = last_record(made), History()
    leaves = list(made.log.store.leaves(0, made.log.head.size))
    at = next(n for n, each in enumerate(leaves) if history.read(each) == said)
    first = History()
    first.read_all(leaves[:at])
    text, _, signatures = said.note.partition("\n\n")
    kept = [each for each in signatures.splitlines(keepends=True) if "w2" not in each]
    forged = replace(said, parties=("w1", "w2"), note=f"{text}\n\n{''.join(kept)}")
    without()
    with pytest.raises(TamperDetected, match="said to have cosigned and did not"):
        first.read(leaf.encode(forged, public=SERVICE.public, sign=SERVICE.sign))


def test_an_auditor_without_ml_dsa_waits_and_marks_nothing_for_ever(tmp_path, without):
    made = begun(tmp_path, row("w1", "pq"))
    leaves = list(made.log.store.leaves(0, made.log.head.size))
    mirror = mirror_of(tmp_path / "auditor", Pin(made.trust.genesis), Shelf(leaves))
    without()
    signed = checkpoint.sign(head_of(leaves, "toy.example/log"), LOG)
    assert str(judge(mirror, signed)).startswith("not yet: entry ")
    assert mirror.marks.standing() == ()
    assert mirror.decided
    mirror.close()
