"""Record that a person reviewed a released generation; pace starts anew from it."""

from __future__ import annotations

from collections.abc import Callable

from keyturn.core.errors import MalformedInput
from keyturn.core.policy import Person
from keyturn.core.state import Generation
from keyturn.flow.log import Log
from keyturn.wire import leaf
from keyturn.wire.people_statements import AuditTerms


def review(log: Log, generation: Generation, *, person: Person, role: str, reason: str) -> AuditTerms:
    """The statement that the person will sign about this generation."""
    state = log.state
    if state.current is None or state.project is None:
        raise MalformedInput("there is no project to audit", help="`keyturn init`")
    return AuditTerms(
        root=generation.root,
        lineage=state.project.name,
        genesis=state.project.genesis,
        policy=state.current.digest,
        evidence_index=state.size,
        signed_at=log.now(),
        person=person.id,
        role=role,
        nonce=log.ids.new(),
        origin=state.project.origin,
        reason=reason,
    )


def audit(
    log: Log, terms: AuditTerms, *, public: str, sign: leaf.Sign, keep: Callable[[], None] = lambda: None
) -> None:
    """Add the signed review to the log, after `keep` made durable what its reason refers to."""
    log.append_signed(leaf.encode_audit(terms, public=public, sign=sign), require=keep)
