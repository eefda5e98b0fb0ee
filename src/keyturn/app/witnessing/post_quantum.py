"""The file of an ML-DSA-44 key, a witness's or a log's: made once, of mode 0600, and not encrypted.

Never overwrites a key, and never reads one that other accounts could read or replace.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.core.errors import MalformedInput, UntrustedInput
from keyturn.keys import keyfile
from keyturn.ledger.witnessing import cosignature
from keyturn.wire import base64

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

KIND = "ml-dsa-44"
SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class PostQuantumSigner:
    """An ML-DSA-44 key, in its own process."""

    name: str
    public: str
    private: MLDSA44PrivateKey

    @classmethod
    def open(cls, path: Path, name: str) -> PostQuantumSigner:
        """The key in this file; raises as `keyfile.unlock` does, and Unavailable where ML-DSA is not built in."""
        kind, public, seed = _read(path)
        cosignature.require_ml_dsa()
        if kind != KIND or len(seed) != SEED_BYTES:
            raise MalformedInput(f"`{path}` is not a file of an ML-DSA-44 key", help="restore it from your copy")
        private = _from_seed(seed)
        if public != _public(private):
            raise UntrustedInput(f"the two parts of the key in `{path}` differ", help="restore it from your copy")
        return cls(name, public, private)

    def sign(self, message: bytes) -> bytes:
        """The ML-DSA-44 signature over `message`."""
        return self.private.sign(message)


def public_in(path: Path) -> str:
    """The public part that this file names; raises as `keyfile.unlock` does."""
    return _read(path)[1]


def _read(path: Path) -> tuple[str, str, bytes]:
    try:
        data = json.loads(keyfile.read_private_file(path, bytes_max=keyfile.BYTES_MAX))
        return str(data["kind"]), str(data["public"]), base64.decode(data["private"]["bytes"], what="bytes")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedInput(f"`{path}` is not a whole key file", help="restore it from your copy") from error


def create(path: Path) -> str:
    """Make a key and write its file; returns the public part.

    Raises Conflict where there is one already, Unavailable where ML-DSA is not built in.
    """
    import secrets

    cosignature.require_ml_dsa()
    seed = secrets.token_bytes(SEED_BYTES)
    public = _public(_from_seed(seed))
    secret = {"encryption": keyfile.UNENCRYPTED, "bytes": base64.encode(seed)}
    content = json.dumps({"schema": 1, "kind": KIND, "public": public, "private": secret}, indent=2, sort_keys=True)
    keyfile.write_private_file(path, f"{content}\n".encode("ascii"))
    return public


def _from_seed(seed: bytes) -> MLDSA44PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

    return MLDSA44PrivateKey.from_seed_bytes(seed)


def _public(private: MLDSA44PrivateKey) -> str:
    return base64.encode(private.public_key().public_bytes_raw())
