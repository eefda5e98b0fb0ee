"""Proofs that an entry is in the log (C2SP tlog-proof@v1), and the policy (C2SP tlog-policy) of whose word counts.

It reads, writes and checks text; which log key is trusted is for the caller to know, never for the proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput, TamperDetected
from keyturn.core.policy import Party, Witnesses
from keyturn.ledger import checkpoint, note, tree
from keyturn.ledger.checkpoint import Published
from keyturn.wire import base64

HEADER = "c2sp.org/tlog-proof@v1"
HASHES_MAX = 63
EXTRA_BYTES_MAX = 64_000
PROOF_BYTES_MAX = 256_000

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})")
_HELP = "hand in a `.tlog-proof` as C2SP tlog-proof@v1 writes it, whole and unchanged"


@dataclass(frozen=True, slots=True)
class Proof:
    """Where an entry is, the hashes from its sibling up to the root, the checkpoint; nobody vouches for `extra`."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""


def encode(proof: Proof) -> bytes:
    """Return the text of a proof."""
    lines = [HEADER]
    if proof.extra:
        lines.append(f"extra {base64.encode(proof.extra)}")
    lines += [f"index {proof.index}", *(base64.encode(each) for each in proof.hashes), "", ""]
    return "\n".join(lines).encode() + proof.checkpoint


def decode(data: bytes) -> Proof:
    """Read a proof strictly; raises MalformedInput. Nothing in it is verified: `check` does that."""
    if len(data) > PROOF_BYTES_MAX:
        raise MalformedInput(f"found a proof of {len(data)} bytes; {PROOF_BYTES_MAX} is the most", help=_HELP)
    head, separator, signed = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise MalformedInput(f"found no ASCII at offset {error.start} of a proof", help=_HELP) from error
    if not separator or lines.pop(0) != HEADER:
        raise MalformedInput(f"found no proof; its first line is `{HEADER}`", help=_HELP)
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = base64.decode(lines.pop(0).removeprefix("extra "), what="extra")
        if not 1 <= len(extra) <= EXTRA_BYTES_MAX:
            raise MalformedInput(f"found {len(extra)} bytes of extra data; 1 to {EXTRA_BYTES_MAX} fit", help=_HELP)
    match = _INDEX.fullmatch(lines.pop(0)) if lines else None
    if not match:
        raise MalformedInput("found no line `index N` with a plain number", help=_HELP)
    if len(lines) > HASHES_MAX:
        raise MalformedInput(f"found {len(lines)} hashes; {HASHES_MAX} is the most", help=_HELP)
    hashes = tuple(base64.decode(line, what="hash") for line in lines)
    if any(len(each) != tree.HASH_BYTES for each in hashes):
        raise MalformedInput(f"found a hash that does not have {tree.HASH_BYTES} bytes", help=_HELP)
    return Proof(int(match[1]), hashes, signed, extra)


def check(proof: Proof, leaf: bytes, log: note.Verifier | checkpoint.Keys) -> Published:
    """Return the checkpoint under which the entry `leaf` stands at `proof.index`.

    Raises UntrustedInput when `log` did not sign the checkpoint, TamperDetected when its signature does not fit or
    the hashes do not lead from this entry to its root, MalformedInput for what is no checkpoint.
    """
    published = checkpoint.open_checkpoint(proof.checkpoint, log)
    head = published.checkpoint
    hashed = tree.leaf_hash(leaf)
    if not tree.check_inclusion(index=proof.index, size=head.size, leaf=hashed, proof=proof.hashes, root=head.root):
        raise TamperDetected(
            f"the proof does not lead from this entry, as entry {proof.index}, to the root of {head.size} entries",
            help="the entry, its index or the proof was changed; ask the operator for both again",
            proof=proof.checkpoint.decode("utf-8"),
        )
    return published


def policy(log: note.Verifier, witnesses: Witnesses) -> str:
    """Return the tlog-policy that asks for what this table asks for, in words that other tools read.

    Without a required witness it takes the log's own word and says so. A party with two keys is a group of which any
    will do; the operator's own parties count for nothing and are left out.
    """
    if not witnesses.required:
        said = "# UNWITNESSED: no witness is asked for, so the log's own signature is all that is"
        return f"{said}\nlog {log.vkey}\nquorum none\n"
    parties = [party for party in witnesses.parties if party.independent]
    lines = [f"log {log.vkey}", *(line for party in parties for line in _party(party))]
    lines.append(f"group WITNESSES {witnesses.required} {' '.join(party.id for party in parties)}")
    last = "WITNESSES"
    if witnesses.auditors:
        auditors = " ".join(party.id for party in parties if party.auditor)
        lines += [f"group AUDITORS {witnesses.auditors} {auditors}", "group BOTH all WITNESSES AUDITORS"]
        last = "BOTH"
    return "\n".join([*lines, f"quorum {last}", ""])


def _party(party: Party) -> Iterator[str]:
    if len(party.keys) == 1:
        yield f"witness {party.id} {party.keys[0]} {party.url}"
        return
    names = [f"{party.id}.{n}" for n, _ in enumerate(party.keys, 1)]
    for name, key in zip(names, party.keys, strict=True):
        yield f"witness {name} {key} {party.url}"
    yield f"group {party.id} any {' '.join(names)}"
