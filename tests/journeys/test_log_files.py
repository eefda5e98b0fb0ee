"""From a founded project to what a stranger checks alone, typed as people type it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from keyturn import app
from keyturn.cli.main import main
from tests.journeys.test_founding import founded


def test_a_stranger_checks_what_the_operator_publishes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, keys, pub = tmp_path / "project", tmp_path / "keys", tmp_path / "pub"
    app.new_key("ada", kind="simulated", keys=keys, passphrase_file=None)
    home = founded(root, keys).home

    def say(*words: str, code: int = 0) -> str:
        assert main([*words, "--project", str(root)]) == code
        return capsys.readouterr().out

    assert say("log", "tiles", str(pub)).startswith("PUBLISHED  3 entries")
    assert "0 files" in say("log", "tiles", str(pub))
    assert say("log", "fsck", str(pub)).startswith("HOLDS")
    vkey = json.loads((home / "trust.json").read_text())["founded"]["log_key"]
    proof, leaf = tmp_path / "x.tlog-proof", tmp_path / "x.leaf"
    say("log", "prove", "1", "--out", str(proof), "--leaf", str(leaf))
    assert "entry 1 of connect4" in say("log", "check", str(proof), "--entry", str(leaf), "--vkey", vkey)
    listed = json.loads(say("log", "list", "--kind", "policyadopted", "--json"))["items"]
    assert [each["index"] for each in listed] == [1]
    assert say("log", "prove", listed[0]["id"]).encode() == proof.read_bytes()
    say("log", "prove", "99", code=2)
    say("log", "fsck", "--rebuild", code=2)
    (pub / "tile" / "0" / "000.p" / "3").write_bytes(b"\0" * 96)
    assert "files_must_follow_from_entries" in say("log", "fsck", str(pub), code=3)
    assert "made anew" in say("log", "fsck", str(pub), "--rebuild")
    with sqlite3.connect(home / "log.db") as db:
        db.execute("UPDATE entry SET leaf = x'00' WHERE i = 1")
    db.close()
    said = say("log", "fsck", str(pub), "--rebuild", code=3)
    assert "entries_must_stay_as_appended" in said
    assert "made anew" not in said


def test_the_log_is_listed_by_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, keys = tmp_path / "project", tmp_path / "keys"
    app.new_key("ada", kind="simulated", keys=keys, passphrase_file=None)
    founded(root, keys)

    def indexes(*words: str) -> list[int]:
        assert main(["log", "list", *words, "--json", "--project", str(root)]) == 0
        return [each["index"] for each in json.loads(capsys.readouterr().out)["items"]]

    assert indexes() == indexes("--actor", "governor") == [0, 1]
    assert indexes("--since", "2100-01-01T00:00:00Z") == indexes("--actor", "ada") == indexes("--candidate", "c1") == []
    assert indexes("--kind", "ProjectFounded", "--limit", "1") == [0]
    assert main(["log", "list", "--kind", "Miracle", "--project", str(root)]) == 2
    assert main(["log", "list", "--since", "yesterday", "--project", str(root)]) == 2


def test_an_entry_says_how_far_it_has_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, keys = tmp_path / "project", tmp_path / "keys"
    app.new_key("ada", kind="simulated", keys=keys, passphrase_file=None)
    founded(root, keys)

    def ask(*words: str) -> tuple[int, dict[str, Any]]:
        code = main([*words, "--json", "--project", str(root)])
        return code, json.loads(capsys.readouterr().out)

    assert ask("log", "state", "1")[1] == {"index": 1, "state": "durable", "size": 2, "published": 0, "witnessed": 0}
    code, body = ask("log", "state", "1", "--wait", "published", "--seconds", "0")
    assert (code, body["error"]) == (4, "entry 1 is durable; it was to be published within 0 seconds")
    assert ask("log", "tiles", str(tmp_path / "pub"))[0] == 0
    assert ask("log", "state", "1", "--wait", "published")[1]["state"] == "published"
    assert [each["state"] for each in ask("log", "list")[1]["items"]] == ["published"] * 3
    assert ask("log", "prove", "1")[1]["state"] == "published"
    assert ask("log", "state", "1", "--wait", "witnessed")[0] == 2
    assert ask("log", "state", "1", "--wait", "framed")[0] == 2
    assert ask("log", "state", "99")[0] == 2
    assert main(["log", "state", "1", "--project", str(root)]) == 0
    assert capsys.readouterr().out.startswith("○ PUBLISHED  entry 1 of 3\n")
