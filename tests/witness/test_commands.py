"""`keyturn witness ...`, as whoever runs one types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from keyturn.cli.main import main
from keyturn.core.errors import MalformedInput
from keyturn.ledger import checkpoint, note
from keyturn.ledger.witnessing import client
from keyturn.ledger.witnessing.client import Asked
from tests.ledger.signers import Key
from tests.witness.cast import GrownLog, PostQuantum

LOG = GrownLog.of(size=5)
FORK = GrownLog.of(size=5, history="another")


@pytest.fixture
def keyturn(capsys):
    def do(*words):
        code = main(["witness", *map(str, words)])
        return code, *capsys.readouterr()

    return do


@pytest.fixture
def folder(tmp_path, keyturn):
    made = tmp_path / "w1"
    assert keyturn("init", made, "--name", "witness.example/w1", "--ml-dsa")[0] == 0
    return made


def test_it_is_made_with_private_keys_and_two_verifier_keys(folder):
    modes = {each.name: each.stat().st_mode & 0o777 for each in (folder, *folder.rglob("*"))}
    assert modes == {
        "w1": 0o700, "keys": 0o700, "witness.json": 0o600, "witness-ml-dsa-44.json": 0o600, "witness.db": 0o600,
        "vkeys": modes["vkeys"],
    }  # fmt: skip
    ed, pq = [note.parse_vkey(each) for each in (folder / "vkeys").read_text().splitlines()]
    assert (ed.kind, pq.kind) == (note.COSIGNATURE, note.ML_DSA)
    assert {ed.name, pq.name} == {"witness.example/w1"}


def test_without_the_switch_it_has_one_key(tmp_path, keyturn):
    code, out, _ = keyturn("init", tmp_path / "w", "--name", "w.example", "--json")
    assert (code, [note.parse_vkey(each).kind for each in json.loads(out)["vkeys"]]) == (0, [note.COSIGNATURE])


def test_an_existing_one_is_never_made_again(folder, keyturn):
    before = {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    code, _, err = keyturn("init", folder, "--name", "witness.example/w1")
    assert (code, "holds a witness" in err) == (5, True)
    assert {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()} == before


def test_one_that_lost_its_memory_neither_starts_nor_is_made_again(folder, keyturn):
    (folder / "witness.db").unlink()
    for words in (("serve", folder, "--listen", "127.0.0.1:0"), ("show", folder), ("trust", folder, "--log", "x")):
        code, _, err = keyturn(*words)
        assert code in {2, 4}
        assert "a witness that forgot" in err or "verifier key is expected" in err
    assert keyturn("init", folder, "--name", "witness.example/w1")[0] == 5
    assert not (folder / "witness.db").exists()


@pytest.mark.parametrize("name", ["", "two words", "a+b", "x" * 256, "\n"])
def test_a_name_that_no_note_can_carry_makes_nothing(tmp_path, keyturn, name):
    assert keyturn("init", tmp_path / "w", "--name", name)[0] == 2
    assert not (tmp_path / "w").exists()


def test_without_ml_dsa_built_in_nothing_is_made(tmp_path, keyturn, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)
    code, _, err = keyturn("init", tmp_path / "w", "--name", "w.example", "--ml-dsa")
    assert (code, "no ML-DSA-44" in err, "help: install" in err) == (4, True, True)
    assert not (tmp_path / "w").exists()


def test_a_log_may_have_several_keys(folder, keyturn):
    for salt in ("", "a second key"):
        key = Key("log.example", salt).verifier().vkey
        assert json.loads(keyturn("trust", folder, "--log", key, "--json")[1]) == {"origin": "log.example", "new": True}
    assert json.loads(keyturn("trust", folder, "--log", key, "--json")[1])["new"] is False
    (log,) = json.loads(keyturn("show", folder, "--json")[1])["logs"]
    assert len(log["vkeys"]) == 2
    assert keyturn("trust", folder, "--log", PostQuantum("pq.example").verifier.vkey)[0] == 0


def test_a_replaced_key_is_taken_away_by_name_and_the_last_one_only_on_purpose(folder, keyturn):
    old, new = (Key("log.example", salt).verifier().vkey for salt in ("", "a second key"))
    for key in (old, new):
        keyturn("trust", folder, "--log", key)
    shown = keyturn("show", folder)[1]
    assert shown.index(old) < shown.index(new) < shown.index("the newest last")
    assert json.loads(keyturn("distrust", folder, "--log", old, "--json")[1]) == {"origin": "log.example", "left": 1}
    code, _, err = keyturn("distrust", folder, "--log", old)
    assert (code, "is no key of the log `log.example` here" in err) == (2, True)
    code, _, err = keyturn("distrust", folder, "--log", new)
    assert (code, "say `--forget` to end with this log" in err) == (5, True)
    code, _, err = keyturn("distrust", folder, "--log", new, "--origin", "other.example")
    assert (code, "no key of the log `other.example`" in err) == (2, True)
    (log,) = json.loads(keyturn("show", folder, "--json")[1])["logs"]
    assert log["vkeys"] == [new]
    code, out, _ = keyturn("distrust", folder, "--log", new, "--forget")
    assert (code, "nothing of this log is cosigned any more" in out) == (0, True)
    assert json.loads(keyturn("show", folder, "--json")[1])["logs"] == []


def test_a_witness_key_a_wrong_one_and_its_own_are_no_logs(folder, keyturn):
    own = (folder / "vkeys").read_text().splitlines()
    for vkey in (Key("w").witness.vkey, "log.example+00000000+AAAA", own[0], own[1]):
        assert keyturn("trust", folder, "--log", vkey)[0] == 2
    assert keyturn("trust", folder, "--log", LOG.key.verifier().vkey, "--origin", "two\nlines")[0] == 2
    assert json.loads(keyturn("show", folder, "--json")[1])["logs"] == []


@pytest.mark.parametrize("harm", ["mode", "kind", "cut", "swap"])
def test_a_key_file_that_is_loose_or_damaged_is_not_used(folder, keyturn, harm):
    path = folder / "keys" / "witness-ml-dsa-44.json"
    data = json.loads(path.read_text())
    if harm == "mode":
        path.chmod(0o644)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        path.write_text(json.dumps(data | ({"kind": "x"} if harm == "kind" else {"public": "AAAA"})))
    assert keyturn("show", folder)[0] in {2, 3}


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_is_served_cosigns_restarts_and_ends_when_told(folder, keyturn, repo, ending):
    keyturn("trust", folder, "--log", LOG.key.verifier().vkey)
    keys = tuple(note.parse_vkey(each) for each in (folder / "vkeys").read_text().splitlines())

    def session(log, expected):
        command = [
            sys.executable,
            "-m",
            "keyturn",
            "witness",
            "serve",
            str(folder),
            "--listen",
            "127.0.0.1:0",
            "--json",
        ]
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(repo / "src")},
        )
        try:
            first = child.stderr.readline()
            url = first.split(" at ")[1].strip()
            gathered = client.gather([Asked(keys, url)], log.note, prove=log.prove, timeout_seconds=20)
            child.send_signal(ending)
            out, _ = child.communicate(timeout=20)
        finally:
            child.kill()
            child.wait()
        assert len(gathered.signed) == expected
        assert child.returncode == 0
        return gathered, json.loads(out)

    gathered, tally = session(LOG, 2)
    assert tally == {"requests": 1, "cosigned": 1}
    assert len(checkpoint.open_checkpoint(gathered.note, LOG.key.verifier(), keys).witnessed) == 2
    assert session(LOG.grow(4), 2)[1] == {"requests": 2, "cosigned": 1}
    gathered, _ = session(GrownLog.of(size=9, history="another"), 0)
    assert "another root was cosigned for the size 9" in gathered.missing[0].reason
    code, out, _ = keyturn("show", folder)
    assert code == 3
    assert "log.example signed two histories" in out


def test_where_it_cannot_listen_it_says_so(folder, keyturn):
    assert keyturn("serve", folder, "--listen", "nowhere")[0] == 2
    with pytest.raises(MalformedInput):
        note.parse_vkey("nowhere")
