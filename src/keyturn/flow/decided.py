"""A decision as a fact of the log."""

from __future__ import annotations

from keyturn.core import events as ev
from keyturn.core.finding import Decision
from keyturn.core.terms import Digest
from keyturn.flow.log import Fact


def decided(decision: Decision, dossier: Digest) -> Fact:
    """What the gate said about this dossier, with every finding, under the rules that said it."""
    return lambda stamp: ev.GateDecided(
        **stamp,
        gate=decision.gate,
        dossier=dossier,
        cleared=decision.cleared,
        findings=tuple(finding.to_json() for finding in decision.findings),
        rules=decision.rules,
        head=decision.head,
    )
