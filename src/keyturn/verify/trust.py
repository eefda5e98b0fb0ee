"""The trust file: what a loading node knows beforehand, from people and not from a bundle, and what it saw last.

A bundle never supplies its own root. The file pins the genesis with its policy, the log's origin and key; the node
adds the last head that it saw, so that nobody can show it an older world.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from keyturn.core import events as ev
from keyturn.core.errors import Conflict, MalformedInput, Unavailable, UntrustedInput
from keyturn.core.policy import Policy
from keyturn.core.policy_reading import read_policy
from keyturn.core.terms import Digest, Instant, Json
from keyturn.wire import canonical
from keyturn.wire.canonical import Shape
from keyturn.wire.leaf import genesis_digest

_HELP = "get the trust file again from the people who founded the project, and compare its genesis by voice"
_SHAPE = Shape(_HELP)
REVOKED_MAX = 100_000
_MEMBERS = {"v", "genesis", "founded", "policy", "seen"}
_SEEN_NUMBERS = ("size", "at", "counter", "policy_version", "policy_index", "latest_at")
_SEEN_LATER: dict[str, Json] = {"latest_at": 0, "policy_index": 0, "policy_digest": ""}
"""What earlier releases did not remember."""
_ROOT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest head that was shown to this node: tree size, root in hexadecimal, and what its status said.

    The policy is the newest that was shown, with its place in the log: no other is gone by under the same number.
    `latest_at` is the latest moment that this node ever saw, on its own clock or in a status: it is no property of the
    log, so two memories of one head are equal whatever their clocks said.
    """

    size: int = 0
    root: str = ""
    at: Instant = Instant(0)  # noqa: RUF009 - a moment is a plain number
    counter: int = 0
    policy_version: int = 0
    policy_index: int = 0
    policy_digest: str = ""
    revoked: tuple[str, ...] = ()
    latest_at: Instant = field(default=Instant(0), compare=False)


@dataclass(frozen=True, slots=True)
class Trust:
    """What is pinned, what was seen last, and where that is kept (None: nowhere, nothing is remembered)."""

    genesis: Digest
    founded: ev.ProjectFounded
    policy: Policy
    seen: Seen
    path: Path | None = None


def read(path: Path) -> Trust:
    """Read a trust file; raises `MalformedInput`, or `UntrustedInput` when it contradicts itself."""
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise MalformedInput(f"the trust file `{path}` cannot be read: {fault.strerror}", help=_HELP) from fault
    return replace(decode(data), path=path)


def decode(data: bytes) -> Trust:
    """The trust in these bytes; the pinned digest must be that of the policy and keys beside it."""
    body = _SHAPE.fields(canonical.decode(data), "trust file", _MEMBERS)
    founded = ev.from_json(_SHAPE.fields(body["founded"], "founded"))
    document = _SHAPE.fields(body["policy"], "policy")
    policy = read_policy(document)
    if not isinstance(founded, ev.ProjectFounded) or not isinstance(policy, Policy):
        raise MalformedInput("the trust file does not hold a founding and a policy", help=_HELP)
    genesis = genesis_digest(founded, document)
    if body["genesis"] != genesis or founded.genesis != genesis:
        raise UntrustedInput("the trust file's genesis is not the digest of the policy and keys beside it", help=_HELP)
    if (founded.name, founded.origin, founded.demo) != (policy.name, policy.origin, policy.demo):
        raise UntrustedInput("the trust file's founding and policy name different projects", help=_HELP)
    return Trust(genesis, founded, policy, _seen(body["seen"]))


def encode(trust: Trust) -> bytes:
    """The trust file's bytes."""
    seen = trust.seen
    return canonical.encode(
        {
            "v": 1,
            "genesis": trust.genesis,
            "founded": ev.to_json(trust.founded),
            "policy": trust.policy.document,
            "seen": {
                "root": seen.root,
                "policy_digest": seen.policy_digest,
                "revoked": list(seen.revoked),
                **{name: getattr(seen, name) for name in _SEEN_NUMBERS},
            },
        }
    )


def remember(trust: Trust, seen: Seen) -> Trust:
    """Keep the newest head and moment, durably and atomically where the trust has a file; neither goes backwards.

    Raises `Conflict` when another load moved the file since it was read: what was checked, was checked against an
    older memory. Raises `Unavailable` when it cannot be kept, for a node that forgets can be shown an older world.
    """
    newer = replace(trust, seen=seen)
    if trust.path is None:
        return newer
    with _locked(trust.path):
        kept = read(trust.path)
        if kept.genesis != trust.genesis or kept.seen not in (trust.seen, seen):
            message = "the trust file changed since it was read: another load has seen more of the log"
            raise Conflict(message, help="load again; it will be checked against what was seen since")
        latest = max(kept.seen.latest_at, seen.latest_at)
        if (kept.seen, kept.seen.latest_at) != (seen, latest):
            write(newer := replace(trust, seen=replace(seen, latest_at=latest)), trust.path)
    return newer


def write(trust: Trust, path: Path) -> None:
    """Write the trust file so that a crash leaves the old one or the new one; raises `Unavailable`."""
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    with _kept(path):
        draft.unlink(missing_ok=True)
        with _opened(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as handle, os.fdopen(os.dup(handle), "wb") as file:
            file.write(encode(trust))
            file.flush()
            os.fsync(handle)
        draft.replace(path)
        with _opened(path.parent.resolve(), os.O_RDONLY | os.O_DIRECTORY) as folder:
            os.fsync(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time; the lock has a file of its own, because the trust file is replaced."""
    with _kept(path), _opened(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT) as handle:
        import fcntl  # not everywhere; what only reads a trust file needs no lock

        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _kept(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        message = f"the trust file `{path}` cannot be written: {fault.strerror}"
        raise Unavailable(message, help="keep it where this node can write; it must remember what it saw") from fault


def _seen(value: Json) -> Seen:
    known = {**_SEEN_LATER, **value} if isinstance(value, dict) else value
    body = _SHAPE.fields(known, "seen", {*_SEEN_NUMBERS, "root", "policy_digest", "revoked"})
    size, at, counter, version, index, latest = (_SHAPE.whole(body[name], name) for name in _SEEN_NUMBERS)
    root, policy = _SHAPE.text(body["root"], "root"), _SHAPE.text(body["policy_digest"], "policy_digest")
    if not (_ROOT.fullmatch(root) if size else root == ""):
        raise _SHAPE.refused("`root` is no root of the size beside it")
    revoked = tuple(_SHAPE.text(each, "revoked") for each in _SHAPE.items(body["revoked"], "revoked", REVOKED_MAX))
    return Seen(size, root, Instant(at), counter, version, index, policy, revoked, Instant(latest))
