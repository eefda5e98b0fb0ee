"""What entries withhold, put back for people to read: the words, or a plain word that they are withheld.

It only reads, for screens; whatever is decided, signed or written rests on the entries as they stand in the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from keyturn.core import events as ev
from keyturn.core.errors import KeyturnError, TamperDetected
from keyturn.core.state import Candidate, Dossier, Halt, Incident, State
from keyturn.core.terms import Digest, Json
from keyturn.ledger.blobs.store import BlobStore
from keyturn.wire.blobs.blob import MARK, REFERENCE, Blob, referred, replaced

E = TypeVar("E", bound=ev.Event)


@dataclass(frozen=True, slots=True)
class Reader:
    """The words behind references; `erased` are the blobs that the log says are gone, whatever lies there."""

    store: BlobStore
    erased: frozenset[Digest]

    def blob(self, digest: Digest) -> Blob | None:
        """The blob, None where it is withheld; raises TamperDetected for another one in its place."""
        return None if digest in self.erased else self.store.get(digest)

    def read(self, reference: str) -> str | None:
        """The text behind a whole reference, None where it is withheld or this is none; raises as `blob` does."""
        digest = referred(reference)
        found = self.blob(digest) if digest is not None else None
        return found.text if found is not None else None

    def words(self, digest: Digest) -> str | None:
        """The words, None where they are withheld or are not those that were logged."""
        try:
            found = self.blob(digest)
        except KeyturnError:
            return None
        return found.text if found is not None else None

    def shown(self, digest: Digest) -> str:
        """The words, or why there are none."""
        try:
            found = self.blob(digest)
        except TamperDetected:
            return f"not what was logged ({digest[:15]}…): `keyturn log fsck`"
        except KeyturnError:
            found = None
        return found.text if found is not None else withheld(digest)

    def text(self, text: str) -> str:
        """The text with every reference in it put back."""
        return replaced(text, self.shown) if MARK in text else text

    def texts(self, value: object) -> dict[str, Json]:
        """Every reference to people's words in plain data, with the words, or null where they are withheld."""
        return {f"{MARK}{digest}": self.words(digest) for digest in sorted(_references(value))}

    def event(self, event: E) -> E:
        """The event as people read it: its reason, and what its findings and its receipt quote."""
        found: dict[str, object] = {}
        reason, findings = getattr(event, "reason", ""), getattr(event, "findings", ())
        if MARK in reason:
            found["reason"] = self.text(reason)
        if any(MARK in str(each.get("message")) for each in findings):
            found["findings"] = tuple(self._finding(each) for each in findings)
        return replace(event, **found) if found else event  # type: ignore[arg-type]  # fields of one name have one type

    def state(self, state: State) -> State:
        """The state as people read it."""
        return replace(
            state,
            dossiers={name: self._dossier(each) for name, each in state.dossiers.items()},
            candidates={name: self._candidate(each) for name, each in state.candidates.items()},
            halts=tuple(self._halt(each) for each in state.halts),
            freezes=tuple(replace(each, reason=self.text(each.reason)) for each in state.freezes),
            incidents={name: self._incident(each) for name, each in state.incidents.items()},
        )

    def _finding(self, said: ev.Document) -> ev.Document:
        return {key: self.text(value) if isinstance(value, str) else value for key, value in said.items()}

    def _dossier(self, dossier: Dossier) -> Dossier:
        signed = tuple(replace(each, event=self.event(each.event)) for each in dossier.approvals)
        why = dossier.document.get("why")
        document = {**dossier.document, "why": self.text(why)} if isinstance(why, str) else dossier.document
        return replace(dossier, approvals=signed, document=document)

    def _candidate(self, candidate: Candidate) -> Candidate:
        found = tuple(self._finding(each) for each in candidate.findings)
        return replace(candidate, findings=found) if found else candidate

    def _halt(self, halt: Halt) -> Halt:
        receipt = self._finding(halt.receipt) if halt.receipt is not None else None
        return replace(halt, reason=self.text(halt.reason), receipt=receipt)

    def _incident(self, incident: Incident) -> Incident:
        moments = {name: self.event(each) for name, each in incident.moments.items()}
        return replace(incident, moments=moments) if moments else incident


def withheld(digest: Digest) -> str:
    """How a screen says that words are not at hand; never an empty place."""
    return f"withheld ({digest[:15]}…)"


def shortened(text: str) -> str:
    """The text with every reference cut to what people can read; for where no blob can be looked up."""
    return replaced(text, withheld)


def _references(value: object) -> set[Digest]:
    """The references in plain data; what a subject printed is shown on request only, so it is not looked for."""
    if isinstance(value, str):
        return {Digest(match[1]) for match in REFERENCE.finditer(value)}
    if isinstance(value, Mapping):
        return {found for key, each in value.items() if key != "diagnostics" for found in _references(each)}
    if isinstance(value, list | tuple):
        return {found for each in value for found in _references(each)}
    return set()
