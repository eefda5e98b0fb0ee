"""Compare the folder of blobs with what entries name: each is there and sound, or erased on the record, or a problem.

It repairs nothing. What nothing names is no problem: a crash or a refused signature leaves it, and it may be deleted
where nothing is wrong; where something is, it may be evidence.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from keyturn.core.terms import Digest
from keyturn.ledger.blobs.store import BlobStore, digest_of
from keyturn.ledger.check import Problem

ORPHAN_SECONDS = 3600
"""How old an orphan must be to be deleted: a younger one may be named by an entry that is being written."""

_RESTORE = "restore the folder `blobs` from a copy; the log itself is not touched by this"


@dataclass(frozen=True, slots=True)
class Kept:
    """How many blobs are there and sound, how many were erased, what no entry names, and what of that was deleted."""

    sound: int
    erased: int
    orphans: tuple[str, ...]
    deleted: tuple[str, ...]


def check_blobs(
    store: BlobStore,
    named: Collection[Digest],
    erased: Collection[Digest],
    *,
    waiting: Collection[Digest],
    tidy: bool,
) -> tuple[Kept, tuple[Problem, ...]]:
    """Everything that is wrong with the blobs that entries name, and what lies there that not even `waiting` names.

    With `tidy` the latter is deleted, unless something is wrong.
    """
    problems = tuple(each for digest in sorted(named) for each in _problems(store, digest, digest in erased))
    known = {*named, *erased, *waiting}
    orphans = tuple(name for name in store.names() if digest_of(name) not in known)
    delete = tidy and not problems
    deleted = tuple(name for name in orphans if delete and store.age_seconds(name, time.time()) >= ORPHAN_SECONDS)
    for name in deleted:
        store.remove(name)
    left = tuple(name for name in orphans if name not in deleted)
    standing = [digest for digest in named if digest not in erased]
    sound = sum(store.sound(digest) for digest in standing)
    return Kept(sound, len(named) - len(standing), left, deleted), problems


def _problems(store: BlobStore, digest: Digest, erased: bool) -> tuple[Problem, ...]:
    name = f"the blob {digest[:15]}…"
    if erased and store.holds(digest):
        message = f"{name} lies there, and the log says that it was erased; it is shown to nobody"
        return (Problem("erased_blobs_must_stay_away", message, "`keyturn run` or `keyturn log erase` deletes it"),)
    if erased or store.sound(digest):
        return ()
    if store.holds(digest):
        message = f"{name} holds other bytes than those that the log names"
        return (Problem("blobs_must_be_what_was_logged", message, _RESTORE),)
    message = f"{name} is lost: it is not there, and no entry says that it was erased"
    return (Problem("blobs_must_not_be_lost", message, _RESTORE),)
