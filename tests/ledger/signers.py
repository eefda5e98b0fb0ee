"""Keys with a fixed seed, so that what tests sign is the same on every machine."""

from __future__ import annotations

import base64
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.note import COSIGNATURE, ED25519, Verifier, sign


class Key:
    """A signer of notes whose secret is the digest of its name and a salt."""

    def __init__(self, name, salt=""):
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(sha256(f"{name} {salt}".encode()).digest())
        self.public = base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def sign(self, message):
        return self._key.sign(message)

    def verifier(self, kind=ED25519):
        return Verifier(self.name, self.public, kind)

    @property
    def witness(self):
        return self.verifier(COSIGNATURE)


LOG = Key("connect4.example/log")


def leaves_of(count, salt=b""):
    return [salt + b"entry %d" % n for n in range(count)]


def signed(store, size=None, key=LOG):
    size = store.head().size if size is None else size
    root = store.root_at(size)
    return size, root, sign(Checkpoint(LOG.name, size, root).body(), key)
