"""Signatures of SSH keys, checked, for people's statements only.

One namespace for each kind of statement, taken from the message itself, so that no signature can stand for another
kind. The flags of security keys are read here, because OpenSSH's own verifier does not ask for touch or PIN.
It never signs: `ssh-keygen -Y sign` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from keyturn.core.errors import MalformedInput
from keyturn.core.keys.public import ECDSA, SK_ECDSA, SshKey
from keyturn.wire import canonical
from keyturn.wire.ssh.sshsig import MAGIC, Reader, SshSignature, parse

NAMESPACES: Mapping[str, str] = {
    "urn:keyturn:approval:v1": "keyturn-approval-v1",
    "urn:keyturn:audit:v1": "keyturn-audit-v1",
    "urn:keyturn:awareness:v1": "keyturn-awareness-v1",
    "urn:keyturn:genesis:v1": "keyturn-genesis-v1",
}
"""The namespace in which an SSH key signs each kind of a person's statement."""

TOUCHED, PIN_GIVEN = 0x01, 0x04
"""The flags of a security key: somebody touched it, and a PIN or a finger proved who."""

_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # the order of P-256
_HELP = "sign again with `ssh-keygen -Y sign`"


def verify(key: SshKey, message: bytes, sig: bytes, *, touch: bool, pin: bool) -> bool:
    """Say whether `sig` is an SSHSIG of `key` over a person's statement, in the namespace of its kind.

    With `touch` and `pin` the device must have said so of this very signature; only a security key can.
    Bytes that are no SSHSIG, and a message that is no statement, are simply false.
    """
    try:
        said, namespace = parse(sig), namespace_of(message)
    except MalformedInput:
        return False
    if (said.key, said.algorithm, said.namespace) != (key.blob, key.algorithm, namespace):
        return False
    demanded = TOUCHED * touch | PIN_GIVEN * pin
    if said.flags & demanded != demanded or (demanded and not key.security_key):
        return False
    return _holds(key, said, _signed(key, said, message))


def namespace_of(message: bytes) -> str:
    """The namespace in which SSH keys sign this message M; raises MalformedInput for what people do not sign."""
    body = canonical.decode_canonical(_body(message))
    kind = body.get("predicateType") if isinstance(body, dict) else None
    if not isinstance(kind, str) or kind not in NAMESPACES:
        raise MalformedInput("found no statement of a kind that people sign", help="sign with an Ed25519 key file")
    return NAMESPACES[kind]


def _body(message: bytes) -> bytes:
    """What stands behind `DSSEv1 LEN TYPE LEN `: people's statements begin with `{`, and no type does."""
    head, brace, rest = message.partition(b"{")
    body = brace + rest
    kind = b"application/vnd.in-toto+json"
    if head != b"DSSEv1 %d %b %d " % (len(kind), kind, len(body)):
        raise MalformedInput("found no statement to sign", help="sign with an Ed25519 key file")
    return body


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _signed(key: SshKey, said: SshSignature, message: bytes) -> bytes:
    """The very bytes under the signature: for a security key those that its device put together."""
    parts = (said.namespace.encode(), b"", said.hash.encode(), hashlib.new(said.hash, message).digest())
    data = MAGIC + b"".join(map(_string, parts))
    if not key.security_key:
        return data
    application = hashlib.sha256(key.application.encode()).digest()
    own = bytes([said.flags]) + said.counter.to_bytes(4, "big")
    return application + own + hashlib.sha256(data).digest()


def _holds(key: SshKey, said: SshSignature, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        if key.algorithm in {ECDSA, SK_ECDSA}:
            r, s = _pair(said.sig)
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.raw)
            point.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
        else:
            ed25519.Ed25519PublicKey.from_public_bytes(key.raw).verify(said.sig, signed)
    except (InvalidSignature, MalformedInput, ValueError):
        return False
    return True


def _pair(sig: bytes) -> tuple[int, int]:
    """The numbers r and s in their one spelling: positive, below the order, without a needless zero byte."""
    reader = Reader(sig)
    found = []
    for data in (reader.string(), reader.string()):
        number = int.from_bytes(data, "big", signed=True)
        if not 0 < number < _N or data != number.to_bytes(number.bit_length() // 8 + 1, "big"):
            raise MalformedInput("the SSH signature spells a number in a second way", help=_HELP)
        found.append(number)
    reader.end()
    return found[0], found[1]
