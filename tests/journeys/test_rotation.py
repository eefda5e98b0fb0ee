"""People and keys change while a project lives: by policy, in files and processes as an operator has them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyturn import app
from keyturn.app.amending import adopting
from keyturn.app.amending.rotating import written
from keyturn.cli.main import main
from keyturn.core import events as ev
from keyturn.core.errors import Conflict, KeyturnError, MalformedInput, TamperDetected, Unavailable, UntrustedInput
from keyturn.core.keys.governor import keys_of
from keyturn.core.policy import GovernorKeys
from keyturn.core.state import State
from keyturn.keys import keyfile
from keyturn.ledger import checkpoint
from keyturn.ledger.note import COSIGNATURE, ML_DSA, Verifier, open_note, parse_vkey
from keyturn.ledger.witnessing import cosignature
from keyturn.wire import base64


@dataclass
class Desk:
    """A project of ada's, and one folder of keys for each person or key."""

    project: app.Project
    place: Path

    def key(self, name: str, person: str) -> str:
        """A new key for somebody, in a folder of its own; returns its public part."""
        return keyfile.read_public(
            app.new_key(person, kind="simulated", keys=self.place / name, passphrase_file=None)
        ).public

    def signing(self, person: str, folder: str) -> app.Signing:
        return app.Signing(person, None, self.place / folder, None)

    def adopt(self, person: str, folder: str = "") -> bool:
        return self.project.adopt_policy(self.signing(person, folder or person), reason="agreed")

    def write(self, change: Callable[[str], str]) -> None:
        path = self.project.policy_path
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

    def enrol(self, person: str, roles: str, *keys: str) -> None:
        rows = ", ".join(f'{{ kind = "simulated", public = "{key}" }}' for key in keys)
        self.write(lambda text: f'{text.rstrip()}\n\n[[people]]\nid = "{person}"\nroles = [{roles}]\nkeys = [{rows}]\n')

    @property
    def state(self) -> State:
        return self.project.state()

    def people(self) -> list[str]:
        assert self.state.current is not None
        return [person.id for person in self.state.current.policy.people]


@pytest.fixture
def desk(tmp_path: Path, founder: Path) -> Desk:
    """A founded project with its lineage; ada alone holds every role."""
    app.new_key("ada", kind="simulated", keys=tmp_path / "ada", passphrase_file=None)
    root = tmp_path / "project"
    project = app.init(
        root, name="connect4", person="ada", keys=tmp_path / "ada", passphrase_file=None, founder=founder, demo=True
    )
    return Desk(project, tmp_path)


def test_somebody_is_enrolled_when_they_signed_too_in_either_order(desk: Desk) -> None:
    desk.enrol("bob", '"safety"', desk.key("bob", "bob"))
    assert not desk.adopt("bob"), "bob alone enrols nobody"
    lacks = desk.project.adoption_lacks()
    assert lacks[0] == "1 more approval(s) in the role `safety` of policy 1"
    assert not any("`bob` did not sign" in each for each in lacks)
    assert desk.adopt("ada")
    assert desk.people() == ["ada", "bob"]
    desk.enrol("cyd", '"safety"', desk.key("cyd", "cyd"))
    assert not desk.adopt("ada"), "ada has the quorum of both policies, and cyd has not said a word"
    (lack,) = desk.project.adoption_lacks()
    assert lack.startswith("`cyd` did not sign the policy that names them with the key ")
    assert desk.adopt("cyd")
    assert desk.people() == ["ada", "bob", "cyd"]
    assert not list((desk.project.home / adopting.WAITING).rglob("*.json")), "what waited is in the log now"
    assert desk.project.replay(lambda _: None).problems == ()


def test_a_lost_key_is_replaced_by_the_others_and_counts_no_more(desk: Desk) -> None:
    desk.enrol("bob", '"safety", "security"', desk.key("bob", "bob"))
    desk.adopt("bob")
    assert desk.adopt("ada")
    old, new = keyfile.read_public(keyfile.path_of(desk.place / "ada", "ada")).public, desk.key("ada-2", "ada")
    desk.write(lambda text: text.replace(old, new))
    assert not desk.adopt("bob")
    assert desk.adopt("ada", "ada-2")
    desk.write(lambda text: text.replace("unaudited_max = 3", "unaudited_max = 4"))
    with pytest.raises(UntrustedInput, match="nothing that the key of `ada`"):
        desk.adopt("ada", "ada")
    assert [type(event).__name__ for _, event in desk.project.entries(0, 100)].count("PolicyAdopted") == 3
    assert desk.project.replay(lambda _: None).problems == (), "what the old key signed stays readable"


def test_the_only_person_changes_their_own_key_with_both(desk: Desk) -> None:
    old, new = keyfile.read_public(keyfile.path_of(desk.place / "ada", "ada")).public, desk.key("ada-2", "ada")
    desk.write(lambda text: text.replace(old, new))
    assert not desk.adopt("ada", "ada")
    lacks = desk.project.adoption_lacks()
    assert lacks[1:] == ("0 of 1 person(s) in the role `safety` of the new policy agreed to it",)
    assert desk.adopt("ada", "ada-2")


def test_a_stranger_s_file_and_a_broken_one_stand_in_nobody_s_way(desk: Desk) -> None:
    bob = desk.key("bob", "bob")
    desk.enrol("bob", '"safety"', bob)
    assert not desk.adopt("ada")
    dossier = next(each.digest for each in desk.state.dossiers.values() if each.document.get("adopts"))
    place = adopting._place(desk.project, dossier, "bob", bob)
    place.parent.mkdir(parents=True)
    for junk in (b"", b"\xff", b"[" * 5000, json.dumps({"sig": "AAAA"}).encode(), json.dumps({"sig": 7}).encode()):
        place.write_bytes(junk)
        assert len(desk.project.adoption_lacks()) == 1
    place.unlink()
    place.symlink_to("/dev/zero")
    (place.parent / "mallory-0.json").write_text("{}")
    assert len(desk.project.adoption_lacks()) == 1
    assert desk.adopt("bob")


def test_a_key_that_is_kept_worse_than_declared_is_not_enrolled(desk: Desk) -> None:
    bob = desk.key("bob", "bob")
    desk.enrol("bob", '"safety"', bob)
    desk.write(lambda text: text.replace(f'public = "{bob}"', f'public = "{bob}", custody = "host"'))
    with pytest.raises(UntrustedInput, match="declares custody `host` for the key of `bob`; seen is shared-account"):
        desk.adopt("bob")


# --- the governor's own keys


def test_service_and_log_keys_rotate_by_policy_and_everything_still_verifies(desk: Desk, tmp_path: Path) -> None:
    project = desk.project
    project.run()
    founder = next(each for each in desk.state.dossiers.values() if each.gate == "amend")
    project.decide(founder.digest, desk.signing("ada", "ada"), decision="approve", reason="the founder")
    project.run()
    permit = next(iter(desk.state.permits))
    project.write_trust(tmp_path / "trust.json")
    for which in ("service", "log"):
        app.rotate(project, which, "ada")
        with pytest.raises(Conflict, match="asks for other keys of the governor's already"):
            app.rotate(project, which, "ada")
        assert desk.adopt("ada")
    state = desk.state
    assert state.project is not None
    keys = keys_of(state.project, state.policies)
    assert keys.service_key != state.project.service_key
    assert keys.log_keys[1:] == (state.project.log_key,)
    assert project.replay(lambda _: None).problems == ()
    project.bundle(permit, tmp_path / "x.permit")
    found = app.verify_permit(
        tmp_path / "x.permit", trust=tmp_path / "trust.json", weights=None, action="release", scope=None
    )
    assert found.doubts == ()
    project.write_trust(tmp_path / "later.json")
    seen = app.read_trust(tmp_path / "later.json").seen
    assert (seen.size, seen.policy_version) == (0, 3), "a node that begins today is shown no world from before"
    project.run()  # the governor goes on under its new keys
    assert project.replay(lambda _: None).problems == ()


def test_an_old_log_key_signs_along_until_people_take_it_out(desk: Desk, tmp_path: Path) -> None:
    project = desk.project
    app.rotate(project, "log", "ada")
    assert desk.adopt("ada")
    founded = desk.state.project
    assert founded is not None
    old = checkpoint.Keys.of([(0, (founded.log_key,))])
    assert checkpoint.open_checkpoint(newest(project), old).checkpoint.size == project.head().published
    desk.write(lambda text: text.replace(f', "{founded.log_key}"]', "]"))
    assert desk.adopt("ada")
    with pytest.raises(UntrustedInput, match="no known key signed this note"):
        checkpoint.open_checkpoint(newest(project), old)
    assert project.replay(lambda _: None).problems == ()
    args = ["--project", str(project.root)]
    assert main(["log", "tiles", str(tmp_path / "tiles"), *args]) == 0
    assert main(["log", "fsck", str(tmp_path / "tiles"), *args]) == 0
    assert main(["log", "export", str(tmp_path / "log.tar"), *args]) == 0
    replay = ["log", "replay", str(tmp_path / "log.tar"), "--trust", str(project.home / "trust.json")]
    assert main(replay) == 0


def test_a_log_signs_with_ml_dsa_beside_its_key_and_whoever_has_it_checks_both(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = desk.project
    assert main(["key", "rotate", "log", "--ml-dsa", "--as", "ada", "--project", str(project.root)]) == 0
    assert desk.adopt("ada")
    state, note_bytes = desk.state, newest(project)
    assert state.project is not None
    first, second = (parse_vkey(each) for each in keys_of(state.project, state.policies).log_keys)
    assert (first.vkey, second.kind) == (state.project.log_key, ML_DSA)
    keys = checkpoint.Keys.of([(0, (first.vkey, second.vkey))])
    assert {each.verifier for each in open_note(note_bytes, (first, second)).signed} == {first, second}
    assert checkpoint.open_checkpoint(note_bytes, keys).witnessed == ()  # its own second key is no witness
    assert project.replay(lambda _: None).problems == ()
    assert main(["log", "tiles", str(tmp_path / "tiles"), "--project", str(project.root)]) == 0

    text, line, _ = note_bytes.rsplit(b"\n", 2)
    with pytest.raises(UntrustedInput, match="each of its 2 keys must"):
        checkpoint.open_checkpoint(text + b"\n", keys)
    broken = line[:-9] + (b"A" if line[-9:-8] != b"A" else b"B") + line[-8:]
    with pytest.raises(TamperDetected):
        checkpoint.open_checkpoint(text + b"\n" + broken + b"\n", keys)

    def lacking(*_: object) -> bool:
        raise Unavailable("no ML-DSA here")

    monkeypatch.setattr(cosignature, "verify", lacking)
    assert checkpoint.open_checkpoint(note_bytes, keys).checkpoint.size == project.head().published
    with pytest.raises(UntrustedInput):
        checkpoint.open_checkpoint(text + b"\n", keys)


def test_the_first_log_key_is_ed25519_and_no_witness_s(desk: Desk) -> None:
    founded = desk.state.project
    assert founded is not None
    public = parse_vkey(founded.log_key).public
    witness = Verifier(founded.origin, public, COSIGNATURE).vkey
    desk.write(lambda text: f'{text}\n[governor]\nlog_keys = ["{witness}"]\n')
    with pytest.raises(MalformedInput, match="is a witness's key; a log's own is expected"):
        desk.adopt("ada")
    second = Verifier(founded.origin, base64.encode(bytes(1312)), ML_DSA).vkey
    desk.write(lambda text: text.replace(witness, second))
    with pytest.raises(MalformedInput, match="the first log key is of ML-DSA-44"):
        desk.adopt("ada")


def newest(project: app.Project) -> bytes:
    with project.opened() as log:
        log.publish()
        return log.store.checkpoint() or b""


def test_a_policy_that_names_a_key_the_governor_lacks_is_not_adopted(desk: Desk) -> None:
    desk.write(lambda text: f'{text}\n[governor]\nservice_key = "{desk.key("mallory", "mallory")}"\n')
    with pytest.raises(MalformedInput, match="names a key of the governor's that is not in its folder"):
        desk.adopt("ada")


def test_nobody_else_rotates_and_a_file_that_cannot_be_changed_leaves_no_key(desk: Desk) -> None:
    with pytest.raises(MalformedInput, match="`bob` is not enrolled"):
        app.rotate(desk.project, "log", "bob")
    desk.write(lambda text: f"governor = {{ log_keys = [] }}\n{text}")
    with pytest.raises(KeyturnError):
        app.rotate(desk.project, "log", "ada")
    assert [path.name for path in (desk.project.home / "log.key").glob("*.json")] == ["log.json"]


def test_the_table_is_rewritten_and_no_other_rule_is_touched(desk: Desk) -> None:
    text = desk.project.policy_path.read_text(encoding="utf-8")
    once = written(text, GovernorKeys("s", ("a",)))
    twice = written(once + "\n# the end\n[extra]\nx = 1\n", GovernorKeys("t", ("b", "a")))
    assert tomllib.loads(once)["governor"] == {"service_key": "s", "log_keys": ["a"]}
    assert tomllib.loads(twice)["governor"] == {"service_key": "t", "log_keys": ["b", "a"]}
    assert tomllib.loads(twice)["extra"] == {"x": 1}
    spread = text + '\n[governor]\nlog_keys = [\n  "a",\n]\n[extra]\nx = 1\n'
    assert tomllib.loads(written(spread, GovernorKeys("t", ("b",))))["governor"]["log_keys"] == ["b"]


def test_a_founding_takes_no_governor_s_keys_from_a_policy(tmp_path: Path, founder: Path, desk: Desk) -> None:
    text = desk.project.policy_path.read_text(encoding="utf-8")
    other, root = tmp_path / "other.toml", tmp_path / "second"
    other.write_text(f'{text}\n[governor]\nservice_key = "{desk.key("mallory", "mallory")}"\n', encoding="utf-8")
    with pytest.raises(MalformedInput, match="the founding makes the governor's own"):
        app.init(
            root,
            name="connect4",
            person="ada",
            keys=tmp_path / "ada",
            passphrase_file=None,
            founder=founder,
            policy=other,
        )


def test_the_screens_say_who_still_has_to_sign(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.enrol("bob", '"safety"', desk.key("bob", "bob"))
    where = ["--project", str(desk.project.root)]
    who = ["--as", "ada", "--reason", "agreed", "--keys", str(desk.place / "ada")]
    assert main(["policy", "adopt", *who, *where]) == 1
    said = capsys.readouterr().out
    assert "STILL TO SIGN" in said
    assert "`bob` did not sign the policy that names them" in " ".join(said.split())
    assert main(["policy", "diff", *where, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["lacks"]) == 1
    assert main(["key", "rotate", "log", "--as", "ada", *where]) == 0
    assert "keyturn policy adopt --as ada" in capsys.readouterr().out
    assert isinstance(next(event for _, event in desk.project.entries(0, 1)), ev.ProjectFounded)
