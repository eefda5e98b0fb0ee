"""What holding still hands back: what was seen to be held, and what each sandbox came to until then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from keyturn.core.terms import Instant


@dataclass(frozen=True, slots=True)
class Held:
    """HELD only when every init had answered and the kernel then said that all of it was still; else UNPROVEN.

    NOT HELD: nothing was held still and nothing was tried, so everything runs on. `frozen_ms` are milliseconds since
    the request; `unknown` says what is not known, or why it cannot be.
    """

    scope: str
    requested_at: Instant
    frozen_ms: float | None
    sandboxes: int
    processes: int
    state: Literal["HELD", "UNPROVEN", "NOT HELD"]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """One live sandbox as the kernel tells of it; None where the kernel does not count."""

    id: str
    purpose: str
    waits: bool
    still: bool
    processes: int
    cpu_seconds: float | None
    memory_bytes: int | None
    age_seconds: float
