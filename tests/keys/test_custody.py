"""Custody is never reported better than the system enforces."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Custody
from keyturn.keys import custody
from keyturn.keys.custody import custody_of, describe, record
from keyturn.keys.keyfile import KeyKind, create, path_of
from tests.keys.conftest import AT


@pytest.fixture
def key(folder: Path) -> Path:
    """A key file of the account that runs the tests."""
    create(folder, "ada", KeyKind.SIMULATED, created_at=AT)
    return path_of(folder, "ada")


def other(path: Path) -> int:
    """An account that owns nothing on the way to this file, and is not root."""
    return max(folder.stat().st_uid for folder in (path, *path.parents)) + 4321


def test_the_same_account_is_a_shared_account(key: Path, tmp_path: Path) -> None:
    found = custody_of(key, governor_uid=key.stat().st_uid, project_dir=tmp_path / "project")
    assert found is Custody.SHARED_ACCOUNT
    assert "does not protect against the operator" in describe(found)


def test_another_account_on_the_same_machine_is_host(key: Path, tmp_path: Path) -> None:
    assert custody_of(key, governor_uid=other(key), project_dir=tmp_path / "project") is Custody.HOST


def test_attack_a_governor_that_runs_as_root_reads_every_key(key: Path, tmp_path: Path) -> None:
    assert custody_of(key, governor_uid=0, project_dir=tmp_path / "project") is Custody.SHARED_ACCOUNT


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_attack_a_loose_mode_is_a_shared_account(key: Path, tmp_path: Path, mode: int) -> None:
    key.chmod(mode)
    assert custody_of(key, governor_uid=other(key), project_dir=tmp_path / "p") is Custody.SHARED_ACCOUNT


def test_attack_a_key_inside_the_project_folder_is_a_shared_account(key: Path, tmp_path: Path) -> None:
    assert custody_of(key, governor_uid=other(key), project_dir=tmp_path) is Custody.SHARED_ACCOUNT


def test_attack_a_folder_that_the_governor_could_write_is_a_shared_account(key: Path, tmp_path: Path) -> None:
    key.parent.chmod(0o777)
    assert custody_of(key, governor_uid=other(key), project_dir=tmp_path / "p") is Custody.SHARED_ACCOUNT


def test_attack_a_link_is_a_shared_account(key: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(key)
    assert custody_of(link, governor_uid=other(key), project_dir=tmp_path / "p") is Custody.SHARED_ACCOUNT


def test_a_key_that_is_not_there_has_no_custody(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="no key file"):
        custody_of(tmp_path / "none.json", governor_uid=1, project_dir=tmp_path)


SA, HOST, SEPARATE, HARDWARE = Custody


@pytest.mark.parametrize(
    ("observed", "declared", "custody", "basis"),
    [
        (None, None, SA, "observed"),
        (SA, None, SA, "observed"),
        (HOST, None, HOST, "observed"),
        (None, SEPARATE, SEPARATE, "declared"),
        (None, HARDWARE, HARDWARE, "declared"),
        (SA, HARDWARE, SA, "observed"),
        (HOST, SEPARATE, HOST, "observed"),
        (HOST, SA, SA, "declared"),
        (HOST, HOST, HOST, "observed"),
    ],
)
def test_what_is_recorded_is_the_weaker_of_seen_and_declared(
    observed: Custody | None, declared: Custody | None, custody: Custody, basis: str
) -> None:
    found = record(observed=observed, declared=declared)
    assert (found.custody, found.basis) == (custody, basis)
    assert found.why


def test_observation_alone_never_yields_separate_or_hardware(key: Path, tmp_path: Path) -> None:
    for uid in (0, key.stat().st_uid, other(key)):
        assert custody_of(key, governor_uid=uid, project_dir=tmp_path / "p") in (SA, HOST)


def test_every_custody_is_described() -> None:
    assert set(custody.DESCRIPTIONS) == set(Custody)
    assert "declares" in describe(SEPARATE)
    assert "declares" in describe(HARDWARE)
