"""Public keys as a policy spells them: what kind each is, and which secret stands behind it.

An Ed25519 key is the base64 of its 32 bytes; an SSH key is a line as in `authorized_keys`, its type and its base64,
without options and comment. It compares and refuses; it never verifies a signature.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput

ED25519 = "ssh-ed25519"
ECDSA = "ecdsa-sha2-nistp256"
SK_ED25519 = "sk-ssh-ed25519@openssh.com"
SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"
ALGORITHMS = (ED25519, ECDSA, SK_ED25519, SK_ECDSA)
"""The SSH keys that may sign; a type of any other name is refused."""

LINE_CHARACTERS_MAX = 500
_CURVE = b"nistp256"
_APPLICATION = "ssh:"
_HELP = "name an Ed25519 or ECDSA P-256 key, of a file or of a security key: `ssh-keygen -t ed25519`"
_WHOLE = "copy the first two words of the `.pub` file"


@dataclass(frozen=True, slots=True)
class SshKey:
    """An SSH public key: its type, its whole encoding, the key itself, and a security key's application.

    `raw` is 32 bytes of Ed25519 or an uncompressed point of P-256.
    """

    algorithm: str
    blob: bytes
    raw: bytes
    application: str

    @property
    def security_key(self) -> bool:
        """Whether a FIDO device signs, which then says whether it was touched and whether a PIN was given."""
        return self.algorithm in {SK_ED25519, SK_ECDSA}


def is_ssh(public: object) -> bool:
    """Whether a public key is spelt as an SSH key; no Ed25519 key of ours has a space in it."""
    return isinstance(public, str) and " " in public


def read_ssh(line: str) -> SshKey:
    """Read `TYPE BASE64` strictly; raises MalformedInput for other types, a comment, or an encoding that is not one."""
    algorithm, _, text = line.partition(" ")
    if algorithm not in ALGORITHMS:
        message = f"an SSH key of the type `{algorithm[:40]}` may not sign; one of {', '.join(ALGORITHMS)} is expected"
        raise MalformedInput(message, help=_HELP)
    try:
        blob = base64.b64decode(text.encode("ascii"), validate=True) if len(line) <= LINE_CHARACTERS_MAX else b""
    except (UnicodeEncodeError, binascii.Error):
        blob = b""
    if not blob or base64.b64encode(blob).decode("ascii") != text:
        raise MalformedInput("the SSH key is not `TYPE BASE64` and nothing else", help=_WHOLE)
    return _key(algorithm, blob)


def _key(algorithm: str, blob: bytes) -> SshKey:
    wanted = 2 + (algorithm in {ECDSA, SK_ECDSA}) + (algorithm in {SK_ED25519, SK_ECDSA})
    parts = _strings(blob, wanted)
    if parts is None or parts[0] != algorithm.encode():
        raise MalformedInput(f"the SSH key does not hold what `{algorithm}` says", help=_WHOLE)
    if algorithm in {ECDSA, SK_ECDSA}:
        curve, raw = parts[1], parts[2]
        if curve != _CURVE or len(raw) != 65 or raw[0] != 4:
            raise MalformedInput("the SSH key is no uncompressed point of P-256", help=_WHOLE)
    else:
        raw = parts[1]
        if len(raw) != 32:
            raise MalformedInput(f"the SSH key has {len(raw)} bytes; Ed25519 has 32", help=_WHOLE)
    application = ""
    if algorithm in {SK_ED25519, SK_ECDSA}:
        application = parts[-1].decode("ascii", "replace")
        if not application.startswith(_APPLICATION) or not application.isascii() or not application.isprintable():
            # A key made for a web site signs what that site asks for; only one made for SSH signs for us alone.
            raise MalformedInput("the security key was not made for SSH: its application begins otherwise", help=_HELP)
    return SshKey(algorithm, blob, raw, application)


def _strings(blob: bytes, count: int) -> tuple[bytes, ...] | None:
    """Exactly `count` strings of RFC 4251 and nothing behind them; None otherwise."""
    found: list[bytes] = []
    for _ in range(count):
        size = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 or size > len(blob) - 4:
            return None
        found.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    return tuple(found) if not blob else None


def same_secret(public: str) -> str:
    """What two spellings of one key have in common: whoever signs with one can sign with the other.

    Ed25519 keys have one name whether they are enrolled as such, as SSH keys, or for a security key. What is no SSH
    key stands for itself.
    """
    if not is_ssh(public):
        return public
    try:
        return base64.b64encode(read_ssh(public).raw).decode("ascii")
    except MalformedInput:
        return public


def public_of(vkey: str) -> str:
    """The base64 of the raw public key inside a verifier key; what is none stands for itself.

    A verifier key is `name+hash+base64(kind, key)` (C2SP signed-note).
    """
    try:
        raw = base64.b64decode(vkey.split("+", 2)[2], validate=True)
    except (IndexError, ValueError):
        return vkey
    return base64.b64encode(raw[1:]).decode("ascii")
