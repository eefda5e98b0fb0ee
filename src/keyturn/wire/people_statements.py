"""What else a person signs: an audit of a released generation, and the moment of awareness of an incident.

The same bytes M as for an approval, under other predicates, so that no signature can stand for another kind. It
never signs and never says whether a statement counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.core.terms import Digest
from keyturn.wire.signed_terms import Form, require_words


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditTerms:
    """A person reviewed the generation with this root; `evidence_index` is the size of the log they saw."""

    root: Digest
    lineage: str
    genesis: Digest
    policy: Digest
    evidence_index: int
    signed_at: int
    person: str
    role: str
    nonce: str
    origin: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AwarenessTerms:
    """A person says that a moment which the law names came for an incident; `moment_at` in milliseconds, UTC."""

    genesis: Digest
    policy: Digest
    incident: str
    moment: str
    moment_at: int
    signed_at: int
    person: str
    nonce: str
    origin: str
    reason: str


def _check_audit(terms: AuditTerms) -> None:
    require_words(terms, "lineage", "person", "role", "nonce", "origin")


def _check_awareness(terms: AwarenessTerms) -> None:
    require_words(terms, "incident", "moment", "person", "nonce", "origin")


AUDIT = Form(AuditTerms, "urn:keyturn:audit:v1", "generation", _check_audit)
"""How an audit is written: `AUDIT.statement`, `.payload`, `.message`, `.terms_of`, `.read`."""

AWARENESS = Form(AwarenessTerms, "urn:keyturn:awareness:v1", "genesis", _check_awareness)
"""How awareness is written: `AWARENESS.statement`, `.payload`, `.message`, `.terms_of`, `.read`."""
