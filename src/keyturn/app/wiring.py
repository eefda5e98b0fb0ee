"""The adapters behind the flow's ports: clock, ids, keys, latch, lock, sandboxed steps and trials.

Only `app` uses this file. It decides nothing; what it cannot do it raises as `Unavailable`.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.core.errors import Conflict, Unavailable
from keyturn.core.policy import Party
from keyturn.core.terms import Digest, Instant
from keyturn.flow.ports import Cosigned, HeldStill, Interrupted
from keyturn.keys import keyfile
from keyturn.ledger.blobs.store import BlobStore
from keyturn.wire.blobs.blob import SALT_BYTES, Blob

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from keyturn.ledger.note import Signer


POST_QUANTUM = "ml-dsa-44"
"""The folder of the log's ML-DSA-44 keys, within that of its keys."""

MARK = "freeze.mark"
"""What stands beside the latch while everything is held still."""

WITNESS_SECONDS = 5.0
"""How long all witnesses together may take to answer; whoever is late is asked again at the next checkpoint."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> Instant:
        """The present moment."""
        return Instant(time.time_ns() // 1_000_000)


class RandomIds:
    """Ids of 128 random bits."""

    def new(self) -> str:
        """A fresh id."""
        return secrets.token_hex(16)


def salted(data: bytes) -> Blob:
    """The data under a fresh salt; nothing is kept yet."""
    return Blob(secrets.token_bytes(SALT_BYTES), data)


@dataclass(frozen=True, slots=True)
class FileBlobs:
    """The blobs of a project on disk; see the port."""

    store: BlobStore

    def keep(self, data: bytes) -> str:
        """Salt it, make it durable, and return its reference."""
        blob = salted(data)
        self.store.put(blob)
        return blob.reference

    def erase(self, digest: Digest) -> bool:
        """Delete it durably."""
        return self.store.erase(digest)


@dataclass(frozen=True, slots=True)
class KeySigner:
    """A key of the governor's own, in its own process; `name` is the log's origin where it signs checkpoints."""

    name: str
    public: str
    private: Ed25519PrivateKey

    @classmethod
    def open(cls, path: Path, name: str) -> KeySigner:
        """The service key in this file. Raises as `keyfile.unlock` does."""
        return cls(name, keyfile.read_public(path).public, keyfile.unlock(path))

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature over `message`."""
        return self.private.sign(message)


def own_keys(home: Path, origin: str) -> Callable[[str], Signer | None]:
    """Find a key of the governor's in its folder by its public part; it signs under the log's name."""

    def find(public: str) -> Signer | None:
        for place in sorted((home / "log.key" / POST_QUANTUM).glob("*.json")):
            from keyturn.app.witnessing.post_quantum import PostQuantumSigner, public_in

            if public_in(place) == public:
                return PostQuantumSigner.open(place, origin)
        for place in (*sorted((home / "service.key").glob("*.json")), *sorted((home / "log.key").glob("*.json"))):
            if keyfile.read_public(place).public == public:
                return KeySigner.open(place, origin)
        return None

    return find


@dataclass(frozen=True, slots=True)
class NetworkWitnesses:
    """The witnesses of a policy, asked over the network by C2SP tlog-witness; see the port."""

    def cosign(
        self, note: bytes, parties: Sequence[Party], *, size: int, prove: Callable[[int], tuple[bytes, ...]]
    ) -> Cosigned:
        """Ask all of them at once, for at most `WITNESS_SECONDS`."""
        from keyturn.ledger.note import parse_vkey
        from keyturn.ledger.witnessing.client import Asked, gather

        asked = {party.id: Asked(tuple(map(parse_vkey, party.keys)), party.url, size) for party in parties}
        found = gather(tuple(asked.values()), note, prove=prove, timeout_seconds=WITNESS_SECONDS)
        reasons = {id(each.asked): each.reason for each in found.missing}
        return Cosigned(found.note, {name: reasons[id(one)] for name, one in asked.items() if id(one) in reasons})


@dataclass(frozen=True, slots=True)
class FileLatch:
    """`halt.latch` on disk, under a lock of its own; see the port."""

    path: Path

    def set(self, why: str) -> None:
        """Write and sync it; an older latch keeps its reason. A halt ends a freeze, whose mark goes only then."""
        with self._locked():
            if not self.path.exists():
                _write_synced(self.path, why[:1000])
            self._mark.unlink(missing_ok=True)

    def rehearse(self) -> None:
        """Set and remove a file beside the latch in just that way; raises `OSError` where a latch could not be set."""
        aside = self.path.with_suffix(".drill")
        with self._locked():
            _write_synced(aside, "a drill; this is no halt")
            aside.unlink()

    def clear(self) -> None:
        """Remove it durably."""
        with self._locked():
            self.path.unlink(missing_ok=True)
            _sync_folder(self.path.parent)

    def reason(self) -> str | None:
        """Why it is set, or None."""
        try:
            return self.path.read_bytes().decode("utf-8", "replace")  # set is set, whatever it says
        except FileNotFoundError:
            return None

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Hold the lock while something is launched or permitted; refuses at once when the latch or a mark is set."""
        with self._locked():
            if self.reason() is not None:
                raise Interrupted
            if self._mark.exists():
                raise HeldStill
            yield

    @property
    def _mark(self) -> Path:
        return self.path.with_name(MARK)

    def freeze(self, text: str) -> None:
        """Write and sync the mark of a freeze."""
        with self._locked():
            if self.reason() is not None:
                raise Conflict("a halt stands, so nothing runs that could be held still", help="`keyturn status`")
            if self._mark.exists():
                raise Conflict(
                    "everything is held still already, and a freeze is not made longer",
                    help="`keyturn freeze show`; what shall stay still for longer is halted",
                )
            _write_synced(self._mark, text)

    def thaw(self) -> None:
        """Remove the mark durably."""
        with self._locked():
            self._mark.unlink(missing_ok=True)
            _sync_folder(self.path.parent)

    def frozen(self) -> str | None:
        """What the mark says, or None; one that is no text says nothing that could be read."""
        try:
            return self._mark.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _write_synced(path: Path, text: str) -> None:
    """Make this the file's text, durably: all of it or nothing."""
    draft = path.with_suffix(".tmp")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def governor_lock(path: Path) -> Iterator[None]:
    """Be the only governor of a project; raises `Conflict` naming the other one."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise Conflict(
                f"another governor (process {other}) runs this project; one is allowed",
                help="wait for it, stop it, or look on with `keyturn status`",
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def read_bank_key(path: Path) -> bytes:
    """The key that hides the banks; raises `Unavailable` when it is gone."""
    try:
        return path.read_bytes()
    except OSError as fault:
        raise Unavailable(
            f"the key of the hidden banks cannot be read: {fault.strerror}",
            help="restore `.keyturn/bank.key`; without it no trial can be planned or gone on with",
        ) from fault
