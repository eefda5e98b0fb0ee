"""SSH keys and their signatures, put together by hand: also those that no honest OpenSSH or device would make.

Security keys are played by `cryptography`; no real device takes part.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.hashes import SHA256

from keyturn.wire import dsse

ED25519, ECDSA = "ssh-ed25519", "ecdsa-sha2-nistp256"
SK_ED25519, SK_ECDSA = "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"
ALL = (ED25519, ECDSA, SK_ED25519, SK_ECDSA)
TOUCH, PIN = 1, 4


def string(data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return len(raw).to_bytes(4, "big") + raw


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def message(kind: str = "urn:keyturn:approval:v1") -> bytes:
    """M of some statement of this kind."""
    digest = "0" * 64
    body = f'{{"_type":"https://in-toto.io/Statement/v1","predicate":{{}},"predicateType":"{kind}","subject":[{digest!r}]}}'
    return dsse.pae("application/vnd.in-toto+json", body.replace("'", '"').encode())


class SshKey:
    """A key made from its name, the same on every machine."""

    def __init__(self, algorithm: str = ED25519, name: str = "ada", application: str = "ssh:") -> None:
        seed = hashlib.sha256(f"ssh {name}".encode()).digest()
        self.algorithm, self.application = algorithm, application
        self.ed25519 = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        self.ecdsa = ec.derive_private_key(int.from_bytes(seed, "big") >> 1, ec.SECP256R1())
        self.device = algorithm.startswith("sk-")
        if "ecdsa" in algorithm:
            numbers = self.ecdsa.public_key().public_numbers()
            point = b"\4" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
            blob = string(algorithm) + string("nistp256") + string(point)
        else:
            blob = string(algorithm) + string(self.ed25519.public_key().public_bytes_raw())
        self.blob = blob + (string(application) if self.device else b"")
        self.public = f"{algorithm} {base64.b64encode(self.blob).decode()}"

    def sign(self, data: bytes, **parts: Any) -> bytes:
        """An SSHSIG over `data`; `parts` replace what an honest signer would write."""
        said = {
            "magic": b"SSHSIG", "version": 1, "key": self.blob, "namespace": "keyturn-approval-v1", "reserved": b"",
            "hash": "sha512", "algorithm": self.algorithm, "flags": TOUCH | PIN, "counter": 7, "tail": b"", **parts,
        }  # fmt: skip  # a signature reads as one block
        digest = hashlib.new(parts.get("digest", said["hash"]), data).digest()
        signed = (
            b"SSHSIG" + string(said["namespace"]) + string(said["reserved"]) + string(said["hash"]) + string(digest)
        )
        own = bytes([said["flags"]]) + said["counter"].to_bytes(4, "big") if self.device else b""
        if self.device:
            signed = hashlib.sha256(self.application.encode()).digest() + own + hashlib.sha256(signed).digest()
        sig = string(said["algorithm"]) + string(parts["sig"] if "sig" in parts else self._raw(signed))
        outer = said["magic"] + said["version"].to_bytes(4, "big") + string(said["key"]) + string(said["namespace"])
        outer += string(said["reserved"]) + string(said["hash"])
        return outer + string(sig + parts.get("shown", own)) + said["tail"]

    def _raw(self, signed: bytes) -> bytes:
        if "ecdsa" not in self.algorithm:
            return self.ed25519.sign(signed)
        r, s = utils.decode_dss_signature(self.ecdsa.sign(signed, ec.ECDSA(SHA256())))
        return mpint(r) + mpint(s)
