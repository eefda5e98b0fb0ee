"""What the rows of a check earn: the tier, and how many held. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from keyturn.core.terms import Digest, Tier

Kind = Literal["escape", "resource", "channel", "information"]
Inside = Literal["held", "breach", "unsure"]
Control = Literal["succeeds", "fails", "none"]

FLOORS: dict[Kind, Tier] = {
    "escape": Tier.T0,
    "resource": Tier.T1,
    "channel": Tier.T1,
    "information": Tier.T4,
}
"""The tier that a breach still allows at most: none at all for a way out, any for what only informs."""


@dataclass(frozen=True, slots=True)
class Row:
    """One probe: what it met inside, and whether the same attempt succeeded outside.

    `unsure` is a probe that did not run to its end, and counts like a breach. `detail` and `control_detail` say what
    was met, in the kernel's words; `floor` is the tier that a breach still allows at most.
    """

    number: int
    probe: str
    what: str
    kind: Kind
    inside: Inside
    detail: str
    control: Control
    control_detail: str
    floor: Tier


@dataclass(frozen=True, slots=True)
class Checked:
    """A whole check: the tier that it earns, which is never above what the backend's own attestation says.

    `residual` are the channels that remain, in the words of LIMITATIONS.md; `weaker` is the attestation's. `held`
    counts the scored rows that held, `controlled` those whose control succeeds; what only informs is not scored.
    """

    tier: Tier
    rows: tuple[Row, ...]
    residual: tuple[str, ...]
    weaker: tuple[str, ...]
    suite: Digest
    held: int
    scored: int
    controlled: int
    seconds: float


def scored(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows that count."""
    return tuple(row for row in rows if row.kind != "information")


def earned(rows: tuple[Row, ...], attested: Tier) -> Tier:
    """The least of what the backend is attested to be and what each row that did not hold still allows."""
    floors = [row.floor for row in scored(rows) if row.inside != "held"]
    return min([attested, *floors], key=lambda tier: tier.rank)


def checked(
    rows: tuple[Row, ...],
    *,
    attested: Tier,
    weaker: tuple[str, ...],
    residual: tuple[str, ...],
    suite: Digest,
    seconds: float,
) -> Checked:
    """Everything that the rows amount to; no scored row at all earns nothing."""
    counted = scored(rows)
    return Checked(
        tier=earned(rows, attested) if counted else Tier.T0,
        rows=rows,
        residual=residual,
        weaker=weaker,
        suite=suite,
        held=sum(row.inside == "held" for row in counted),
        scored=len(counted),
        controlled=sum(row.control == "succeeds" for row in counted),
        seconds=seconds,
    )
