"""What a person signs when deciding on one dossier, and its exact bytes M, for every kind of key.

It freezes the bytes (tests/vectors/approval); it never signs and never says whether an approval counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Digest, Gate
from keyturn.wire import digest
from keyturn.wire.signed_terms import Form, require_words
from keyturn.wire.statement import Statement

PREDICATE_TYPE = "urn:keyturn:approval:v1"
"""The predicate of an approval or a refusal."""

APPROVE = "approve"
"""The decision that the gate may clear."""

REFUSE = "refuse"
"""The decision that ends the dossier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalTerms:
    """One person's decision on one dossier: for one gate, lineage, trust root, policy, scope and time window.

    `artifact` is the root digest that the dossier is about (empty where it is about none) and `level` the level
    whose quorum applies: both stand in the dossier too, but here a stranger can check them without it, so that a
    thief of the governor's keys cannot put another artifact or a lower level under old signatures.
    `evidence_index` is the size of the log that the person saw; moments are milliseconds since the Unix epoch.
    """

    dossier: Digest
    decision: str
    gate: str
    level: int
    artifact: str
    lineage: str
    genesis: Digest
    evidence_index: int
    policy: Digest
    policy_version: int
    person: str
    role: str
    scope: str
    not_before: int
    not_after: int
    nonce: str
    origin: str
    reason: str


def statement(terms: ApprovalTerms) -> Statement:
    """Return the in-toto statement whose subject is the dossier; raises MalformedInput for impossible terms."""
    return _FORM.statement(terms)


def payload(terms: ApprovalTerms) -> bytes:
    """Return the canonical JSON of the statement: the payload of the DSSE envelope that is logged."""
    return _FORM.payload(terms)


def message(terms: ApprovalTerms) -> bytes:
    """Return M = DSSE-PAE(JCS(statement)): the bytes that the person's key signs."""
    return _FORM.message(terms)


def terms_of(made: Statement) -> ApprovalTerms:
    """Read the terms from a statement strictly; raises MalformedInput, naming an unknown or missing key."""
    return _FORM.terms_of(made)


def read(data: bytes) -> ApprovalTerms:
    """Read the terms from an envelope's payload, which must be canonical; raises MalformedInput."""
    return _FORM.read(data)


def _check(terms: ApprovalTerms) -> None:
    require_words(terms, "lineage", "person", "role", "nonce", "origin")
    if terms.decision not in {APPROVE, REFUSE}:
        message = f"found the decision `{terms.decision[:40]}`; `approve` or `refuse` is expected"
        raise MalformedInput(message, help="decide one or the other")
    if terms.gate not in tuple(Gate):
        raise MalformedInput(f"found the gate `{terms.gate[:40]}`, which does not exist", help="name a hold point")
    if terms.artifact:
        digest.parse(terms.artifact)
    if terms.not_before >= terms.not_after:
        raise MalformedInput("found a window that ends before it begins", help="let not_after follow not_before")


_FORM = Form(ApprovalTerms, PREDICATE_TYPE, "dossier", _check)
