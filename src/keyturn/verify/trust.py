"""The trust file: what a loading node knows beforehand, from people and not from a bundle, and what it saw last.

A bundle never supplies its own root. The file pins the genesis with its policy, the log's origin and key; the node
adds the last head that it saw, so that nobody can show it an older world.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from keyturn.core import events as ev
from keyturn.core.errors import MalformedInput, UntrustedInput
from keyturn.core.policy import Policy
from keyturn.core.policy_reading import read_policy
from keyturn.core.terms import Digest, Instant, Json
from keyturn.wire import canonical
from keyturn.wire.leaf import genesis_digest

_HELP = "get the trust file again from the people who founded the project, and compare its genesis by voice"
_MEMBERS = {"v", "genesis", "founded", "policy", "seen"}
_SEEN = {"size", "root", "at", "counter", "policy_version"}


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest head that this node accepted: tree size, root, the moment, the status counter, the policy number."""

    size: int = 0
    root: str = ""
    at: Instant = Instant(0)  # noqa: RUF009 - a moment is a plain number
    counter: int = 0
    policy_version: int = 0


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
    body = _fields(canonical.decode(data), _MEMBERS, "trust file")
    founded = ev.from_json(_fields(body["founded"], None, "founded"))
    document = _fields(body["policy"], None, "policy")
    policy = read_policy(document)
    if not isinstance(founded, ev.ProjectFounded) or not isinstance(policy, Policy):
        raise MalformedInput("the trust file does not hold a founding and a policy", help=_HELP)
    genesis = genesis_digest(founded, document)
    if body["genesis"] != genesis or founded.genesis != genesis:
        raise UntrustedInput("the trust file's genesis is not the digest of the policy and keys beside it", help=_HELP)
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
                "size": seen.size,
                "root": seen.root,
                "at": seen.at,
                "counter": seen.counter,
                "policy_version": seen.policy_version,
            },
        }
    )


def remember(trust: Trust, seen: Seen) -> Trust:
    """Keep the newest head, durably and atomically where the trust has a file."""
    newer = replace(trust, seen=seen)
    if trust.path is not None:
        write(newer, trust.path)
    return newer


def write(trust: Trust, path: Path) -> None:
    """Write the trust file so that a crash leaves the old one or the new one."""
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    with draft.open("wb") as file:
        file.write(encode(trust))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _seen(value: Json) -> Seen:
    body = _fields(value, _SEEN, "seen")
    numbers = {name: body[name] for name in _SEEN - {"root"}}
    if any(not isinstance(each, int) or isinstance(each, bool) or each < 0 for each in numbers.values()):
        raise MalformedInput("`seen` holds something that is not a whole number", help=_HELP)
    return Seen(root=str(body["root"]), **numbers)  # type: ignore[arg-type]  # checked just above


def _fields(value: Json, names: set[str] | None, what: str) -> dict[str, Json]:
    if not isinstance(value, dict) or (names is not None and set(value) != names):
        raise MalformedInput(f"the {what} does not hold what is expected of it", help=_HELP)
    return value
