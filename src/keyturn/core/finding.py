"""A refusal as a value: what stands in the way, in one sentence, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyturn.core.errors import KeyturnError, invariant
from keyturn.core.terms import Digest, Gate, Json


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason why a gate does not clear; `rule` is the name of the rule that found it."""

    rule: str
    message: str
    help: str

    def to_json(self) -> dict[str, Json]:
        """The finding as plain data, for the log and for a dossier."""
        return {"rule": self.rule, "message": self.message, "help": self.help}


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants a gate opened: an imperative `name`, the dossier it rests on, and what it is about."""

    name: str
    dossier: Digest
    candidate: str = ""


REQUESTS: Mapping[str, Gate] = {
    "FoundLineage": Gate.AMEND,
    "AdoptPolicy": Gate.AMEND,
    "EnrolPerson": Gate.AMEND,
    "LowerLevel": Gate.AMEND,
    "EraseBlob": Gate.AMEND,
    "IssueWarrant": Gate.TRAIN,
    "ReleaseCandidate": Gate.RELEASE,
    "ReplicateGeneration": Gate.REPLICATE,
    "PublishGeneration": Gate.PUBLISH,
    "TuneGeneration": Gate.TUNE,
    "ResumeLoop": Gate.RESUME,
}
"""Which gate each request waits at; there is no way round this table."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a gate says, every finding in the order of its rules, under which rules, about which head of the log."""

    gate: Gate
    findings: tuple[Finding, ...]
    rules: Digest
    head: int

    @property
    def cleared(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.findings

    def __bool__(self) -> bool:
        invariant(False, "a decision has no truth value: ask `cleared`, or call `require_cleared`")
        return False


class Refused(KeyturnError):
    """A gate that had to be clear is not; `decision` holds every finding."""

    exit_code = 1

    def __init__(self, decision: Decision) -> None:
        first = decision.findings[0]
        super().__init__(first.message, help=first.help)
        self.decision = decision


def require_cleared(decision: Decision) -> None:
    """Raise `Refused` unless the gate cleared, for callers who would otherwise forget to look."""
    if not decision.cleared:
        raise Refused(decision)
