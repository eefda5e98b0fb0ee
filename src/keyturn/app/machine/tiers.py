"""Which tiers this machine gives, each with the evidence for it. Pure: a tier is given only where it was tried."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.app.machine.facts import Facts
from keyturn.core.terms import Tier


@dataclass(frozen=True, slots=True)
class Given:
    """One tier: what it is, whether this machine gives it now, and how that was found out."""

    tier: Tier
    what: str
    given: bool
    evidence: str


def tiers(facts: Facts) -> tuple[Given, ...]:
    """T0 to T4, weakest first."""
    tried = "a probe was launched sealed, attested, let attack, and stopped"
    lacks = ", ".join(sorted({*facts.lacking}))
    missed = f"lacks {lacks}" if facts.lacking else "there is no sandbox that could have them"
    without = facts.breached or missed
    first, second = facts.tier.rank >= Tier.T1.rank, facts.tier.rank >= Tier.T2.rank
    return (
        Given(Tier.T0, "no sandbox", True, "always there, and never enough"),
        Given(Tier.T1, "namespaces, filter, Landlock", first, tried if first else _why_not(facts)),
        Given(Tier.T2, "own user, cgroup and limits", second, tried if second else without),
        _engines(facts),
        _virtual(facts),
    )


def _why_not(facts: Facts) -> str:
    return facts.breached or facts.fault or "no sandbox could be built"


def _engines(facts: Facts) -> Given:
    """T3 is given where the engine that the operator chose ran our probe under gVisor; a daemon that could is named."""
    if facts.tier.rank >= Tier.T3.rank:
        return Given(
            Tier.T3, "a container under gVisor", True, "the chosen engine ran a probe, attested, and stopped it"
        )
    there = f"{facts.docker}; choose it in `operation.toml` to have it tried, see docs/engines.md"
    return Given(Tier.T3, "a container under gVisor", False, there if facts.gvisor else facts.docker or "not asked")


def _virtual(facts: Facts) -> Given:
    """T4 needs a backend that boots virtual machines, which Keyturn has not; what the processor does is told."""
    ran = (
        "a guest of five instructions ran, which does not show that a kernel boots" if not facts.guest else facts.guest
    )
    return Given(Tier.T4, "a virtual machine", False, f"this release has no backend for it ({ran})")
