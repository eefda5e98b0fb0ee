"""A founding that is broken off leaves nothing in the way of the next one, and never takes a lost log for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn import app
from keyturn.app import founding
from keyturn.core.errors import Conflict, KeyturnError
from keyturn.core.terms import Tier
from keyturn.keys import signing
from keyturn.sandbox.port import Capabilities


def founded(root: Path, keys: Path) -> app.Project:
    """Found a connect4 project in `root` with one simulated person."""
    return app.init(root, name="connect4", person="ada", keys=keys, passphrase_file=None, founder=None, demo=True)


def test_a_founding_that_was_interrupted_at_the_passphrase_can_be_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, keys = tmp_path / "project", tmp_path / "keys"
    app.new_key("ada", kind="simulated", keys=keys, passphrase_file=None)

    def interrupted(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(signing, "sign_in_child", interrupted)
        with pytest.raises(KeyboardInterrupt):
            founded(root, keys)
    assert founded(root, keys).state().size == 2


def test_attack_a_project_whose_log_was_taken_away_is_not_founded_again(tmp_path: Path) -> None:
    root, keys = tmp_path / "project", tmp_path / "keys"
    app.new_key("ada", kind="simulated", keys=keys, passphrase_file=None)
    home = founded(root, keys).home
    service = (home / "service.key" / "service.json").read_bytes()
    (home / "log.db").unlink()
    with pytest.raises(Conflict, match="no log"):
        founded(root, keys)
    assert (home / "service.key" / "service.json").read_bytes() == service


def test_whoever_is_not_enrolled_adopts_no_policy(tmp_path: Path) -> None:
    root, keys = tmp_path / "project", tmp_path / "keys"
    app.new_key("ada", kind="simulated", keys=keys, passphrase_file=None)
    project = founded(root, keys)
    text = project.policy_path.read_text(encoding="utf-8")
    project.policy_path.write_text(text.replace("line = 0.10", "line = 0.09"), encoding="utf-8")
    with pytest.raises(KeyturnError, match="not enrolled"):
        project.adopt_policy(app.Signing("bob", None, keys, None), reason="tightens")
    assert project.adopt_policy(app.Signing("ada", None, keys, None), reason="tightens")


@pytest.mark.parametrize(("reached", "asked"), [("T0", "T2"), ("T1", "T1"), ("T2", "T2")])
def test_a_policy_of_ours_asks_for_no_more_than_this_account_can_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: str, asked: str
) -> None:
    monkeypatch.setattr(founding, "capabilities", lambda: Capabilities(Tier(reached), {}))
    app.new_key("ada", kind="simulated", keys=tmp_path / "keys", passphrase_file=None)
    current = founded(tmp_path / "project", tmp_path / "keys").state().current
    assert current is not None
    assert {level.sandbox for level in current.policy.levels} == {asked}
