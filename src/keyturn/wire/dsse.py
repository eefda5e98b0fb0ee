"""The envelope around everything signed: DSSE 1.0.2.

It packs and unpacks; it never verifies: which key signed is a hint until `signature.verify` has said so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyturn.core.errors import MalformedInput
from keyturn.wire import base64, canonical

if TYPE_CHECKING:
    from keyturn.core.terms import Json

SIGNATURES_MAX = 64
"""More signatures than any quorum needs; beyond it an envelope is a way to make a verifier work."""

_MEMBERS = {"payload", "payloadType", "signatures"}
_HELP = "write the envelope as DSSE 1.0.2 with the members payload, payloadType and signatures only"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature over the PAE of an envelope; `keyid` is an unauthenticated hint, `sig` raw bytes."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A typed payload with the signatures over it; equal envelopes have equal bytes."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    def signed(self) -> bytes:
        """Return the bytes that each signature is over."""
        return pae(self.payload_type, self.payload)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: what is signed, with every length spelt out (DSSE protocol)."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def encode(envelope: Envelope) -> bytes:
    """Return the envelope as canonical JSON."""
    signatures: list[Json] = [{"keyid": s.keyid, "sig": base64.encode(s.sig)} for s in envelope.signatures]
    return canonical.encode(
        {
            "payload": base64.encode(envelope.payload),
            "payloadType": envelope.payload_type,
            "signatures": signatures,
        }
    )


def decode(data: bytes) -> Envelope:
    """Read an envelope strictly: no member unknown or missing (`keyid` may be), one spelling of base64.

    DSSE lets readers skip members that they do not know; in a log of decisions that would be room for what
    nobody signed, so here they raise MalformedInput.
    """
    value = canonical.decode(data, depth_max=4)
    if not isinstance(value, dict) or set(value) != _MEMBERS:
        raise MalformedInput(f"found {_members(value)}; a DSSE envelope is expected", help=_HELP)
    kind, signatures = value["payloadType"], value["signatures"]
    if not isinstance(kind, str) or not kind:
        raise MalformedInput("found no text in `payloadType`; a media type is expected", help=_HELP)
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= SIGNATURES_MAX:
        raise MalformedInput(f"found no list of 1 to {SIGNATURES_MAX} `signatures`", help=_HELP)
    payload = base64.decode(value["payload"], what="payload")
    return Envelope(kind, payload, tuple(_signature(item) for item in signatures))


def _signature(item: Json) -> Signature:
    if not isinstance(item, dict) or not {"sig"} <= set(item) <= {"keyid", "sig"}:
        raise MalformedInput(f"found {_members(item)} in `signatures`; `sig` is expected", help=_HELP)
    keyid = item.get("keyid", "")
    if not isinstance(keyid, str):
        raise MalformedInput("found a `keyid` that is not text", help=_HELP)
    return Signature(keyid, base64.decode(item["sig"], what="sig"))


def _members(value: Json) -> str:
    if not isinstance(value, dict):
        return "no object"
    return "the members " + ", ".join(f"`{key[:40]}`" for key in sorted(value)[:8])
