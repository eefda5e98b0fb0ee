"""Signatures: only the holder of the key can make one, and a key is a key or is refused."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.core.errors import MalformedInput
from keyturn.wire import digest, signature

# RFC 8032 section 7.1, TEST 3
SECRET = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
PUBLIC = base64.b64encode(bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")).decode()
SIG = bytes.fromhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


def test_the_vector_of_rfc_8032_verifies_and_no_neighbour_does():
    assert signature.verify(PUBLIC, bytes.fromhex("af82"), SIG) is True
    assert signature.verify(PUBLIC, bytes.fromhex("af83"), SIG) is False
    for at in range(64):
        changed = bytearray(SIG)
        changed[at] ^= 1
        assert signature.verify(PUBLIC, bytes.fromhex("af82"), bytes(changed)) is False
    assert signature.verify(PUBLIC, bytes.fromhex("af82"), SIG + b"\0") is False
    assert signature.verify(PUBLIC, bytes.fromhex("af82"), b"") is False


def test_the_key_id_is_the_digest_of_the_subject_public_key_info():
    key = Ed25519PrivateKey.from_private_bytes(SECRET).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert signature.key_id(PUBLIC) == digest.sha256(spki)[7:]


P = 2**255 - 19


@pytest.mark.parametrize(
    "y",
    [
        1,
        P - 1,
        0,
        P,
        P + 1,
        2**255 - 1,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    ],
)
def test_a_key_for_which_anyone_can_sign_is_refused(y):
    for sign in (0, 2**255):
        public = base64.b64encode((y + sign).to_bytes(32, "little")).decode()
        with pytest.raises(MalformedInput, match="weak public key"):
            signature.public_bytes(public)


def test_the_weak_key_would_have_verified_anything():
    """Why the refusal above exists: one signature, made without a secret, for two messages."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    identity = (1).to_bytes(32, "little")
    key = Ed25519PublicKey.from_public_bytes(identity)
    forged = identity + bytes(32)
    for message in (b"release", b"resume"):
        key.verify(forged, message)


@pytest.mark.parametrize(
    ("public", "message"),
    [
        (PUBLIC[:-4], "found a public key of 30 bytes; Ed25519 has 32"),
        (PUBLIC.rstrip("="), f"found `{PUBLIC.rstrip('=')[:40]}` in `public`; base64 is expected"),
        (None, "found no text in `public`; base64 is expected"),
    ],
)
def test_what_is_no_public_key_is_named(public, message):
    with pytest.raises(MalformedInput) as caught:
        signature.verify(public, b"", SIG)
    assert caught.value.message == message


@pytest.mark.parametrize("text", ["", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "a" * 64, "sha512:" + "a" * 64, 7])
def test_a_digest_has_one_spelling(text):
    with pytest.raises(MalformedInput):
        digest.parse(text)


def test_a_digest_and_its_bytes_are_one():
    found = digest.sha256(b"abc")
    assert found == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest.of_raw(digest.raw(found)) == digest.parse(found) == found
    with pytest.raises(MalformedInput, match="of 31 bytes"):
        digest.of_raw(b"x" * 31)
    with pytest.raises(MalformedInput):
        digest.parse(found + "\n")
