"""How long signature lines are, so that a policy names no more of them than one head, and one entry about it, hold.

It computes lengths from names and kinds; it reads no signature.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from keyturn.core.keys.vkey import COSIGNATURE, KEY_BYTES, MLDSA_COSIGNATURE, Vkey, read_vkey
from keyturn.core.policy import Party, Policy

NOTE_BYTES_MAX = 64_000
"""How long a signed note may be, with every line under it."""

SIGNATURES_MAX = 100
"""How many lines may stand under one note."""

RECORD_BYTES_MAX = 42_000
"""How long note and parties of one `CheckpointWitnessed` may be, as JSON: in base64 an entry holds little more."""

BODY_BYTES = 80
"""The most that a head's size, root and line ends take, beside its origin."""

_SIGNATURE_BYTES = {COSIGNATURE: 4 + 8 + 64, MLDSA_COSIGNATURE: 4 + 8 + 2420}
_PLAIN_BYTES = 4 + 64
_KINDS = tuple(KEY_BYTES)


def line_bytes(key: Vkey) -> int:
    """The bytes of this key's line under a note, as JSON writes it."""
    encoded = -(-_SIGNATURE_BYTES.get(key.kind, _PLAIN_BYTES) // 3) * 4
    return len("— ".encode()) + _json_bytes(key.name) + len(" ") + encoded + len("\\n")


def cheapest(party: Party) -> int:
    """What a party adds to an entry that records its cosignature: the shortest of its lines, and its id."""
    return min((line_bytes(read_vkey(key)) for key in party.keys), default=0) + len(f'"{party.id}",')


def recorded_bytes(policy: Policy) -> int:
    """The most that an entry must hold to say that enough cosigned a head, whoever they are; shortest line each."""
    parties = sorted((cheapest(party) for party in policy.witnesses.parties if party.independent), reverse=True)
    return _signed_bytes(policy) + sum(parties[: policy.witnesses.required])


def note_bytes(policy: Policy) -> int:
    """The length of a head that everybody cosigned with each of their keys."""
    return _signed_bytes(policy) + sum(map(line_bytes, _cosigning(policy)))


def lines(policy: Policy) -> int:
    """How many lines then stand under it."""
    return max(1, len(policy.governor.log_keys)) + len(_cosigning(policy))


def _cosigning(policy: Policy) -> Sequence[Vkey]:
    return [read_vkey(key) for party in policy.witnesses.parties for key in party.keys]


def _signed_bytes(policy: Policy) -> int:
    """The head with the log's own signatures, before anybody cosigned."""
    own = [read_vkey(key) for key in policy.governor.log_keys] or [Vkey(policy.origin, _KINDS[0], b"")]
    return len(policy.origin) + BODY_BYTES + sum(map(line_bytes, own))


def _json_bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode()) - len('""')
