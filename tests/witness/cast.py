"""Logs that grow as they like, and witnesses with their doors, for every test of witnessing."""

from __future__ import annotations

import base64
import contextlib
import threading
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from keyturn.app.witnessing.door import Door
from keyturn.ledger import checkpoint, note
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.witnessing import request
from keyturn.ledger.witnessing.memory import Memory
from keyturn.ledger.witnessing.request import Request
from keyturn.ledger.witnessing.witness import Cosigner, Witness
from tests.ledger import naive
from tests.ledger.signers import Key

NOW = 1_790_000_000_000


class PostQuantum:
    """A signer of kind `ML_DSA` whose secret is the digest of its name."""

    def __init__(self, name):
        self.name = name
        self._key = MLDSA44PrivateKey.from_seed_bytes(sha256(name.encode()).digest())
        self.public = base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def sign(self, message):
        return self._key.sign(message)

    @property
    def verifier(self):
        return note.Verifier(self.name, self.public, note.ML_DSA)


class GrownLog:
    """A log as its operator holds it; `told` are its leaves, and another list of them is another history."""

    def __init__(self, key, told=()):
        self.key, self.told = key, list(told)

    @classmethod
    def of(cls, name="log.example", size=0, history="honest"):
        return cls(Key(name), [f"{history} {n}".encode() for n in range(size)])

    def grow(self, more, history="honest"):
        start = len(self.told)
        return GrownLog(self.key, [*self.told, *(f"{history} {n}".encode() for n in range(start, start + more))])

    def cut(self, size):
        return GrownLog(self.key, self.told[:size])

    @property
    def head(self):
        return Checkpoint(self.key.name, len(self.told), naive.mth(self.told))

    @property
    def note(self):
        return checkpoint.sign(self.head, self.key)

    def prove(self, old):
        return tuple(naive.proof(old, self.told))

    def asks(self, old, *, hashes=None, signed=None):
        """The body of a request that goes on from `old`."""
        shown = self.prove(old) if hashes is None and old <= len(self.told) else tuple(hashes or ())
        return request.encode(Request(old, shown, signed or self.note))


def witness_of(path, *logs, name="witness.example/w1", judge=None, now=lambda: NOW, ml_dsa=False):
    """A witness that knows these logs; a memory that is there is used again."""
    memory = Memory.open(path) if path.exists() else Memory.create(path, name)
    for log in logs:
        memory.trust(log.key.name, log.key.verifier())
    cosigners = [Cosigner(Key(name), note.COSIGNATURE)]
    if ml_dsa:
        cosigners.append(Cosigner(PostQuantum(name), note.ML_DSA))
    return Witness(memory, tuple(cosigners), now, judge)


@contextlib.contextmanager
def served(witness, bounds=None):
    """The address of a door of this witness, while this holds; and what it told its operator."""
    told = []
    door = Door(("127.0.0.1", 0), witness, told.append, bounds)
    thread = threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield door.url, told
    finally:
        door.shutdown()
        thread.join()
        door.settle()
