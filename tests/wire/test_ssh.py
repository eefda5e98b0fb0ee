"""Signatures of SSH keys: honest ones hold, and one bit or byte more, less or other does not."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.core.keys.public import read_ssh, same_secret
from keyturn.wire import signature
from keyturn.wire.ssh import check, sshsig
from tests.wire.sshkeys import ALL, ECDSA, ED25519, SK_ECDSA, SK_ED25519, SshKey, message, string

M = message()
DEVICES = (SK_ED25519, SK_ECDSA)


@pytest.mark.parametrize("hash", ["sha256", "sha512"])
@pytest.mark.parametrize("algorithm", ALL)
def test_an_honest_signature_holds(algorithm: str, hash: str) -> None:
    key = SshKey(algorithm)
    assert signature.verify(key.public, M, key.sign(M, hash=hash))
    assert not signature.verify(key.public, M + b" ", key.sign(M, hash=hash))
    assert not signature.verify(SshKey(algorithm, "ben").public, M, key.sign(M, hash=hash))


@pytest.mark.parametrize("algorithm", ALL)
def test_openssh_says_the_same(algorithm: str, tmp_path: Path) -> None:
    key = SshKey(algorithm)
    (tmp_path / "allowed").write_text(f"ada {key.public}\n", encoding="ascii")
    (tmp_path / "sig").write_text(sshsig.armor(key.sign(M)), encoding="ascii")
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "ada", "-n", "keyturn-approval-v1", "-s", "sig"]
    assert not subprocess.run(command, input=M, cwd=tmp_path, capture_output=True, check=False).returncode
    assert subprocess.run(command, input=M + b" ", cwd=tmp_path, capture_output=True, check=False).returncode


@pytest.mark.parametrize("algorithm", ALL)
def test_a_signature_with_any_byte_changed_does_not_hold(algorithm: str) -> None:
    key = SshKey(algorithm)
    honest = key.sign(M)
    for place in range(len(honest)):
        changed = bytearray(honest)
        changed[place] ^= 1
        assert not signature.verify(key.public, M, bytes(changed)), place
    for size in range(len(honest)):
        assert not signature.verify(key.public, M, honest[:size]), size


@pytest.mark.parametrize("algorithm", DEVICES)
@pytest.mark.parametrize("flags", range(8))
def test_touch_and_pin_are_read_by_us(algorithm: str, flags: int) -> None:
    key = SshKey(algorithm)
    sig = key.sign(M, flags=flags)
    assert signature.verify(key.public, M, sig)
    assert signature.verify(key.public, M, sig, touch=True) == bool(flags & 1)
    assert signature.verify(key.public, M, sig, pin=True) == bool(flags & 4)
    assert signature.verify(key.public, M, sig, touch=True, pin=True) == (flags & 5 == 5)


def test_the_counter_is_read_and_signed() -> None:
    key = SshKey(SK_ED25519)
    assert sshsig.parse(key.sign(M, counter=4_000_000_000)).counter == 4_000_000_000


@pytest.mark.parametrize("algorithm", [ED25519, ECDSA])
def test_a_key_that_is_no_device_never_satisfies_touch_or_pin(algorithm: str) -> None:
    key = SshKey(algorithm)
    assert not signature.verify(key.public, M, key.sign(M), touch=True)
    assert not signature.verify(key.public, M, key.sign(M), pin=True)


@pytest.mark.parametrize("kind", sorted(check.NAMESPACES))
def test_each_kind_of_statement_has_a_namespace_of_its_own(kind: str) -> None:
    key, text = SshKey(), message(kind)
    for namespace in check.NAMESPACES.values():
        sig = key.sign(text, namespace=namespace)
        assert signature.verify(key.public, text, sig) == (namespace == check.NAMESPACES[kind])


def test_the_armour_has_one_spelling() -> None:
    blob = SshKey().sign(M)
    text = sshsig.armor(blob)
    assert sshsig.unarmor(text) == blob
    lines = text.split("\n")
    for other in (
        text.replace("\n", "\r\n"),
        text[:-1],
        text + "\n",
        " " + text,
        text.replace("SSH SIGNATURE", "SSH SIGNATURES", 1),
        "\n".join([lines[0], "".join(lines[1:-2]), *lines[-2:]]),
        text.replace(lines[-3], lines[-3] + "=" if "=" in lines[-3] else lines[-3] + "===="),
        text.replace(lines[1], lines[1].replace("U", "-", 1)),
        "é" + text,
    ):
        with pytest.raises(MalformedInput):
            sshsig.unarmor(other)


LINE = SshKey().public


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB", "type `ssh-rsa` may not sign"),
        ("ssh-dss AAAAB3NzaC1kc3M=", "type `ssh-dss` may not sign"),
        ("ecdsa-sha2-nistp384 AAAA", "type `ecdsa-sha2-nistp384` may not sign"),
        ("webauthn-sk-ecdsa-sha2-nistp256@openssh.com AAAA", "may not sign"),
        (f"{LINE} ada@host", "nothing else"),
        (f"{LINE}\n", "nothing else"),
        (LINE.replace("ssh-ed25519 ", "ssh-ed25519  "), "nothing else"),
        (LINE.replace("ssh-ed25519 ", "ecdsa-sha2-nistp256 "), "does not hold"),
        (f"ssh-ed25519 {base64.b64encode(SshKey().blob + b'x').decode()}", "does not hold"),
        (f"ssh-ed25519 {base64.b64encode(string(ED25519) + string(b'x' * 31)).decode()}", "has 31 bytes"),
        (SshKey(SK_ED25519, application="https://bank.example").public, "not made for SSH"),
    ],
)
def test_a_line_that_is_no_key_for_us_is_named(line: str, said: str) -> None:
    with pytest.raises(MalformedInput, match=said):
        read_ssh(line)


def test_weak_points_and_points_off_the_curve_are_no_keys() -> None:
    weak = f"{ED25519} {base64.b64encode(string(ED25519) + string(bytes(32))).decode()}"
    off = f"{ECDSA} {base64.b64encode(string(ECDSA) + string('nistp256') + string(bytes([4]) + bytes(64))).decode()}"
    for public in (weak, off):
        with pytest.raises(MalformedInput):
            signature.verify(public, M, b"")


def test_one_secret_has_one_name_however_it_is_enrolled() -> None:
    raw = base64.b64encode(SshKey().ed25519.public_key().public_bytes_raw()).decode()
    assert same_secret(SshKey(ED25519).public) == same_secret(SshKey(SK_ED25519).public) == raw == same_secret(raw)
    assert same_secret(SshKey(SK_ECDSA, application="ssh:other").public) == same_secret(SshKey(ECDSA).public)
    assert same_secret(SshKey(ED25519, "ben").public) != raw
