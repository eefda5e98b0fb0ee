"""Key folders and a person's passphrase file, made fresh for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn.core.terms import Instant
from keyturn.keys.keyfile import KeyKind, create, path_of

PASSPHRASE = "four turned keys in a row"
AT = Instant(1_795_000_000_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a person's keys lie; it does not exist yet."""
    return tmp_path / "keys"


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    """A file of mode 0600 with the passphrase on its first line."""
    path = tmp_path / "passphrase"
    path.touch(mode=0o600)
    path.write_text(f"{PASSPHRASE}\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of one encrypted key file; making it costs 64 MiB and much of a second, so it is made once."""
    folder = tmp_path_factory.mktemp("made-once") / "keys"
    create(folder, "ada", KeyKind.ED25519, passphrase=PASSPHRASE, created_at=AT)
    return path_of(folder, "ada").read_bytes()


@pytest.fixture
def ada(folder: Path, made_once: bytes) -> Path:
    """Ada's encrypted key in a folder of its own."""
    folder.mkdir(mode=0o700)
    path = path_of(folder, "ada")
    path.touch(mode=0o600)
    path.write_bytes(made_once)
    return path
