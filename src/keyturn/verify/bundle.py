"""The permit bundle: one file with all that shows a permit to somebody offline, and nothing that it asks to trust.

It reads bytes, which `flow.permit` writes; `check` says what they are worth.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.core.terms import Json
from keyturn.wire import canonical
from keyturn.wire.canonical import Shape

BUNDLE_BYTES_MAX = 1_000_000
"""A release by two people takes some 7 kB; what makes a bundle long is a history of adopted policies."""

LEAVES_MAX = 64
POLICY_LEAVES_MAX = 512
HASHES_MAX = 64
_SHAPE = Shape("ask the governor for a fresh bundle: `keyturn permit show ID --bundle FILE`")


@dataclass(frozen=True, slots=True)
class Proven:
    """A leaf, its place in the log, and the hashes that lead from it to the root of the checkpoint."""

    index: int
    leaf: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A permit with its approvals, the policies adopted since genesis, and the status, all under one checkpoint.

    `policies` are, in the order of the log, each adoption after policy 1 and before it, where people cleared it, the
    dossier and the approvals that did: the governor's word alone loosens nothing (`chain`). `old_size` and
    `consistency` lead from what a loading node saw last to this checkpoint; 0 when it saw nothing.
    """

    checkpoint: bytes
    status: Proven
    permit: Proven
    approvals: tuple[Proven, ...]
    policies: tuple[Proven, ...]
    old_size: int
    consistency: tuple[bytes, ...]


def decode(data: bytes) -> Bundle:
    """Read a bundle strictly; raises `MalformedInput` for anything unknown, missing or oversized.

    Whoever reads a file for it need not read more than `BUNDLE_BYTES_MAX` and one byte.
    """
    if len(data) > BUNDLE_BYTES_MAX:
        raise _SHAPE.refused(f"a bundle of more than {BUNDLE_BYTES_MAX} bytes is too large")
    body = _SHAPE.fields(canonical.decode(data), "bundle", _MEMBERS)
    if body["v"] != 1:
        raise _SHAPE.refused(f"`{body['v']}` is no bundle format that is known; 1 is expected")
    return Bundle(
        checkpoint=_SHAPE.text(body["checkpoint"], "checkpoint").encode(),
        status=_proven(body["status"], "status"),
        permit=_proven(body["permit"], "permit"),
        approvals=_provens(body["approvals"], "approvals"),
        policies=_provens(body["policies"], "policies", most=POLICY_LEAVES_MAX),
        old_size=_SHAPE.whole(body["old_size"], "old_size"),
        consistency=_SHAPE.hashes(body["consistency"], "consistency", HASHES_MAX),
    )


_MEMBERS = ("v", "checkpoint", "status", "permit", "approvals", "policies", "old_size", "consistency")


def _provens(value: Json, what: str, *, most: int = LEAVES_MAX) -> tuple[Proven, ...]:
    return tuple(_proven(each, what) for each in _SHAPE.items(value, what, most, noun="leaves"))


def _proven(value: Json, what: str) -> Proven:
    body = _SHAPE.fields(value, what, {"index", "leaf", "proof"})
    proof = _SHAPE.hashes(body["proof"], what, HASHES_MAX)
    return Proven(_SHAPE.whole(body["index"], what), _SHAPE.text(body["leaf"], what).encode(), proof)
