"""A key file is made once, closed to others, and opens only by its passphrase."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn.core.errors import Conflict, KeyturnError, MalformedInput, UntrustedInput
from keyturn.keys.keyfile import KDF, KeyKind, create, path_of, read_public, unlock
from tests.keys.conftest import AT, PASSPHRASE

WRONG = "the passphrase does not open the key of `ada`, or the key file was altered"


def test_a_new_key_is_closed_to_others_and_reads_back(folder: Path) -> None:
    made = create(folder, "ada", KeyKind.ED25519, passphrase=PASSPHRASE, created_at=AT)
    path = path_of(folder, "ada")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_public(path) == made
    assert (made.person, made.kind, made.created_at, len(made.raw)) == ("ada", KeyKind.ED25519, AT, 32)
    assert unlock(path, PASSPHRASE).public_key().public_bytes_raw() == made.raw


def test_the_mode_is_0600_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        create(folder, "ada", KeyKind.ED25519, passphrase=PASSPHRASE, created_at=AT)
    finally:
        os.umask(before)
    path = path_of(folder, "ada")
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_private_part_is_not_in_the_file(ada: Path) -> None:
    path = ada
    raw = unlock(path, PASSPHRASE).private_bytes_raw()
    content = path.read_bytes()
    assert raw not in content
    assert base64.b64encode(raw) not in content
    assert PASSPHRASE.encode() not in content


def test_the_work_to_guess_a_passphrase_is_argon2id_with_64_mib(ada: Path) -> None:
    secret = json.loads(ada.read_text())["private"]
    assert secret["encryption"] == "argon2id, chacha20-poly1305"
    assert (secret["iterations"], secret["lanes"], secret["memory_kib"]) == (3, 4, 65_536)
    assert KDF == {"iterations": 3, "lanes": 4, "memory_kib": 65_536}


@pytest.mark.parametrize("kind", [KeyKind.SIMULATED, KeyKind.SERVICE])
def test_kinds_without_encryption_say_so_in_the_file(folder: Path, kind: KeyKind) -> None:
    made = create(folder, "ada", kind, created_at=AT)
    secret = json.loads(path_of(folder, "ada").read_text())["private"]
    assert secret["encryption"] == "none: whoever reads this file can sign"
    assert unlock(path_of(folder, "ada")).public_key().public_bytes_raw() == made.raw


@pytest.mark.parametrize("passphrase", [None, "", "   ", "\t\n"])
def test_an_empty_passphrase_is_refused_and_leaves_no_file(folder: Path, passphrase: str | None) -> None:
    with pytest.raises(MalformedInput, match="needs a passphrase and an empty one was given"):
        create(folder, "ada", KeyKind.ED25519, passphrase=passphrase, created_at=AT)
    assert not path_of(folder, "ada").exists()


def test_a_passphrase_that_would_protect_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(MalformedInput, match="not encrypted"):
        create(folder, "ada", KeyKind.SIMULATED, passphrase="x", created_at=AT)


def test_an_accent_typed_in_two_ways_is_one_passphrase(folder: Path) -> None:
    create(folder, "ada", KeyKind.ED25519, passphrase="clef tourn\u00e9e", created_at=AT)
    assert unlock(path_of(folder, "ada"), "clef tourne\u0301e")


def test_a_key_is_never_overwritten(ada: Path, folder: Path) -> None:
    path = ada
    before = path.read_bytes()
    with pytest.raises(Conflict, match="a key is never overwritten"):
        create(folder, "ada", KeyKind.ED25519, passphrase="another", created_at=AT)
    assert path.read_bytes() == before


def test_attack_a_dangling_link_where_the_key_will_be_is_not_followed(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(mode=0o700)
    path_of(folder, "ada").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Conflict):
        create(folder, "ada", KeyKind.ED25519, passphrase=PASSPHRASE, created_at=AT)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("person", ["", "../ada", "a/b", "Ada", "a.b", "-ada", "ada\n", "ádá", "a" * 42, "a b"])
def test_attack_an_id_that_is_no_plain_name_names_no_file(folder: Path, person: str) -> None:
    with pytest.raises(MalformedInput, match="is not an id"):
        path_of(folder, person)


def test_attack_wrong_passphrase_is_told_plainly(ada: Path) -> None:
    path = ada
    with pytest.raises(UntrustedInput) as caught:
        unlock(path, "four turned keys in a rov")
    assert caught.value.message == WRONG
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def flip(path: Path, field: str) -> None:
    """Flip one bit of a base64 field of the private part."""
    data = json.loads(path.read_text())
    raw = bytearray(base64.b64decode(data["private"][field]))
    raw[0] ^= 1
    data["private"][field] = base64.b64encode(bytes(raw)).decode()
    path.write_text(json.dumps(data))


def other_public(path: Path) -> None:
    """Exchange the public key for another valid one."""
    data = json.loads(path.read_text())
    made = create(path.parent, "eve", KeyKind.SIMULATED, created_at=AT)
    data["public"] = made.public
    path.write_text(json.dumps(data))


def other_moment(path: Path) -> None:
    """Backdate the key."""
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "created_at": 0}))


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda path: flip(path, "salt"), id="salt"),
        pytest.param(lambda path: flip(path, "nonce"), id="nonce"),
        pytest.param(lambda path: flip(path, "bytes"), id="bytes"),
        pytest.param(other_public, id="public key exchanged"),
        pytest.param(other_moment, id="moment of creation exchanged"),
    ],
)
def test_attack_an_altered_file_gives_the_message_of_a_wrong_passphrase(
    ada: Path, alter: Callable[[Path], None]
) -> None:
    path = ada
    alter(path)
    with pytest.raises(UntrustedInput) as caught:
        unlock(path, PASSPHRASE)
    assert caught.value.message == WRONG


def test_attack_an_unencrypted_key_with_an_exchanged_public_part_does_not_sign(folder: Path) -> None:
    create(folder, "ada", KeyKind.SIMULATED, created_at=AT)
    path = path_of(folder, "ada")
    other_public(path)
    with pytest.raises(UntrustedInput) as caught:
        unlock(path)
    assert caught.value.message == WRONG


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o602, 0o700, 0o777])
def test_attack_a_key_that_others_could_read_or_replace_is_refused(ada: Path, mode: int) -> None:
    path = ada
    path.chmod(mode)
    for read in (read_public, lambda p: unlock(p, PASSPHRASE)):
        with pytest.raises(UntrustedInput, match=f"has mode {mode:04o}; 0600 is expected"):
            read(path)


def test_attack_a_folder_that_others_could_write_is_refused(ada: Path, folder: Path) -> None:
    path = ada
    folder.chmod(0o722)
    with pytest.raises(UntrustedInput, match="has mode 0722; 0700 is expected"):
        read_public(path)
    with pytest.raises(UntrustedInput, match="0700 is expected"):
        create(folder, "bob", KeyKind.SIMULATED, created_at=AT)


def test_attack_a_link_to_a_key_is_refused(ada: Path, tmp_path: Path) -> None:
    path = ada
    kept = tmp_path / "kept.json"
    path.rename(kept)
    path.symlink_to(kept)
    with pytest.raises(UntrustedInput, match="is a link; a regular file is expected"):
        read_public(path)


def test_attack_a_folder_that_is_a_link_is_refused(ada: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder)
    with pytest.raises(UntrustedInput, match="is not a folder, or is a link to one"):
        read_public(tmp_path / "linked" / "ada.json")


def test_attack_a_second_name_for_a_key_is_refused(ada: Path, tmp_path: Path) -> None:
    path = ada
    os.link(path, tmp_path / "second")
    with pytest.raises(UntrustedInput, match="has 2 names; one is expected"):
        read_public(path)


def test_attack_a_pipe_in_place_of_a_key_neither_hangs_nor_reads(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / "ada.json", 0o600)
    with pytest.raises(UntrustedInput, match="is not a regular file"):
        read_public(folder / "ada.json")


def test_attack_a_key_file_under_another_persons_name_is_refused(ada: Path, folder: Path) -> None:
    path = ada
    path.rename(folder / "bob.json")
    with pytest.raises(UntrustedInput, match="holds the key of `ada`; the key of `bob` is expected"):
        read_public(folder / "bob.json")


def test_attack_every_truncation_is_refused_as_malformed(ada: Path) -> None:
    path = ada
    whole = path.read_bytes()
    for length in range(len(whole.rstrip())):
        path.write_bytes(whole[:length])
        with pytest.raises(MalformedInput, match="is not a whole key file"):
            read_public(path)


def edited(**changes: object) -> Callable[[dict[str, object]], object]:
    """Change fields of the file's object."""
    return lambda data: {**data, **changes}


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(edited(schema=2), id="another schema"),
        pytest.param(edited(kind="rsa"), id="unknown kind"),
        pytest.param(edited(extra=1), id="unknown field"),
        pytest.param(edited(public="AAAA"), id="short public key"),
        pytest.param(edited(created_at="now"), id="moment is text"),
        pytest.param(edited(created_at=True), id="moment is a boolean"),
        pytest.param(edited(private=None), id="no private part"),
        pytest.param(edited(kind="simulated"), id="called simulated but encrypted"),
        pytest.param(lambda data: [data], id="a list"),
        pytest.param(
            lambda data: {**data, "private": {**data["private"], "memory_kib": 2**40}}, id="asks for all memory"
        ),
        pytest.param(lambda data: {**data, "private": {**data["private"], "iterations": 1}}, id="asks for less work"),
    ],
)
def test_attack_a_key_file_that_is_not_ours_is_refused(ada: Path, edit: Callable[[dict[str, object]], object]) -> None:
    path = ada
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    with pytest.raises(MalformedInput, match="is not a whole key file"):
        unlock(path, PASSPHRASE)


@pytest.mark.parametrize(
    "content",
    [b"[" * 16_000, b'{"schema": 1, "schema": 1}', b"\xff\xfe", b"{}" * 9000, b"null", b"NaN"],
    ids=["deep", "a field twice", "not text", "too long", "null", "not a number"],
)
def test_attack_hostile_bytes_are_refused_without_a_crash(ada: Path, content: bytes) -> None:
    path = ada
    path.write_bytes(content)
    with pytest.raises(MalformedInput):
        read_public(path)


def test_an_absent_key_says_how_to_make_one(folder: Path) -> None:
    with pytest.raises(MalformedInput) as caught:
        read_public(folder / "ada.json")
    assert "there is no file" in caught.value.message
    assert "keyturn key new" in caught.value.help


def test_attack_a_key_of_another_account_is_refused(ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ada
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(UntrustedInput, match="belongs to user"):
        read_public(path)


def test_every_refusal_is_worded_by_the_house_rules(ada: Path) -> None:
    path = ada
    path.chmod(0o644)
    with pytest.raises(KeyturnError) as caught:
        read_public(path)
    assert not caught.value.message.endswith(".")
    assert "chmod 600" in caught.value.help
