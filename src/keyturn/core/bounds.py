"""What a warrant lets a loop of somebody else's use, what all answers may say, and when that is all.

Doubt counts as used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from keyturn.core.errors import MalformedInput
from keyturn.core.finding import Finding
from keyturn.core.terms import Json

OUTPUT_BYTES_RESERVED = 256 << 10
"""The most that all sandboxes of a trial may say between two of its entries, where the policy bounds answers at all.

It counts as said from the moment before they start, so that no crash makes it less: each start costs at most this.
"""

RULE = "warrant_must_cover"
OUTPUT_RULE = "output_must_stay_within_budget"
NUMBER_MAX = 10**15
"""The largest figure that is kept; sums stop there, far beyond any bound that means something."""

_HELP = "propose the best of what was admitted, or give another warrant: `keyturn warrant give`"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a loop may use under one warrant, all its steps together.

    Without programs or without time there is no leave for a loop at all. Requests, tokens and money are not bounded
    where they are 0, and every screen says so.
    """

    programs_max: int = 0
    wall_seconds_max: int = 0
    requests_max: int = 0
    tokens_max: int = 0
    usd_max: float = 0.0

    @property
    def given(self) -> bool:
        """Whether there is leave for a loop at all."""
        return self.programs_max > 0 and self.wall_seconds_max > 0

    def to_json(self) -> dict[str, Json]:
        """The bounds as plain data, for a dossier and for the log."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, body: Mapping[str, Json]) -> Bounds:
        """What `to_json` wrote; nothing at all reads as no leave for a loop. Raises `MalformedInput`."""
        if not body:
            return cls()
        _require_names(body, cls)
        programs, seconds = _whole(body, "programs_max"), _whole(body, "wall_seconds_max")
        requests, tokens = _whole(body, "requests_max"), _whole(body, "tokens_max")
        return cls(programs, seconds, requests, tokens, _number(body, "usd_max"))


NO_BOUNDS = Bounds()
"""No leave for a loop at all."""


@dataclass(frozen=True, slots=True)
class Used:
    """What was used. `usd` is None where something was used whose price nobody reported."""

    programs: int = 0
    wall_seconds: float = 0.0
    requests: int = 0
    tokens: int = 0
    usd: float | None = 0.0

    def __add__(self, other: Used) -> Used:
        """Both together; a price that is not known of one is not known of both."""
        known = self.usd is not None and other.usd is not None
        return Used(
            min(self.programs + other.programs, NUMBER_MAX),
            min(round(self.wall_seconds + other.wall_seconds, 6), float(NUMBER_MAX)),
            min(self.requests + other.requests, NUMBER_MAX),
            min(self.tokens + other.tokens, NUMBER_MAX),
            min(round((self.usd or 0.0) + (other.usd or 0.0), 12), float(NUMBER_MAX)) if known else None,
        )

    def to_json(self) -> dict[str, Json]:
        """What was used as plain data, for the log."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, body: Mapping[str, Json]) -> Used:
        """What `to_json` wrote. Raises `MalformedInput`."""
        _require_names(body, cls)
        programs, requests, tokens = (_whole(body, name) for name in ("programs", "requests", "tokens"))
        usd = None if body["usd"] is None else _number(body, "usd")
        return cls(programs, _number(body, "wall_seconds"), requests, tokens, usd)


def _require_names(body: Mapping[str, Json], kind: type[Bounds | Used]) -> None:
    names = sorted(field.name for field in fields(kind))
    if sorted(body) != names:
        raise MalformedInput(f"figures named {sorted(body)}; {names} are expected", help="name each once")


def _whole(body: Mapping[str, Json], name: str) -> int:
    value = _number(body, name)
    if not isinstance(body[name], int):
        raise MalformedInput(f"`{name}` is {value}; a whole number is expected", help="count in whole numbers")
    return int(value)


def _number(body: Mapping[str, Json], name: str) -> float:
    """A number from 0 up; not-a-number and what no reader keeps exactly are none."""
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= NUMBER_MAX:
        message = f"`{name}` is `{str(value)[:40]}`; a number from 0 to {NUMBER_MAX} is expected"
        raise MalformedInput(message, help="see docs/events.md")
    return float(value)


def findings(bounds: Bounds, used: Used) -> tuple[Finding, ...]:
    """Why nothing more may run: every bound that is used up, and a bound on money where the price is not known."""
    if not bounds.given:
        message = "the warrant gives a loop no leave: it names no programs, or no time"
        return (Finding(RULE, message, "`keyturn warrant give --programs N --wall-minutes M`"),)
    return tuple(Finding(RULE, message, _HELP) for message in _reached(bounds, used, over=False))


def beyond(bounds: Bounds, used: Used) -> tuple[str, ...]:
    """Every bound that was not only used up but passed; a price that nobody knows has passed any bound."""
    return tuple(_reached(bounds, used, over=True))


def _reached(bounds: Bounds, used: Used, *, over: bool) -> list[str]:
    rows: tuple[tuple[str, float, float | None, bool], ...] = (
        ("programs", bounds.programs_max, used.programs, True),
        ("seconds", bounds.wall_seconds_max, used.wall_seconds, True),
        ("requests", bounds.requests_max, used.requests, False),
        ("tokens", bounds.tokens_max, used.tokens, False),
        ("US dollars", bounds.usd_max, used.usd, False),
    )
    found = []
    for noun, most, spent, always in rows:
        if most == 0 and not always:
            continue
        if spent is None:
            found.append(f"the warrant bounds {noun} at {most:g}, but the endpoint reports no price")
        elif spent > most or (spent == most and not over):
            found.append(f"{spent:g} {noun} are used; the warrant ends at {most:g}")
    return found


# What all answers of a lineage may say: the one way out of a trial


@dataclass(frozen=True, slots=True)
class Output:
    """What came out of every answering sandbox: `said` for certain, `reserved` what may have, by trial under way."""

    said: int = 0
    reserved: Mapping[str, int] = field(default_factory=dict)

    @property
    def used(self) -> int:
        """What counts: all that may have been said."""
        return self.said + sum(self.reserved.values())

    def reserve(self, trial: str, many: int) -> Output:
        """Before a trial's sandboxes start; what an earlier start of it had reserved may all have been said."""
        return Output(self.said + self.reserved.get(trial, 0), {**self.reserved, trial: many})

    def count(self, many: int) -> Output:
        """After a block: so many bytes were read."""
        return Output(self.said + many, self.reserved)

    def settle(self, trial: str) -> Output:
        """After a trial: all that it said was counted with its blocks."""
        return Output(self.said, {name: many for name, many in self.reserved.items() if name != trial})


def output_finding(most: int | None, output: Output, *, starting: bool) -> Finding | None:
    """Why no trial may start (or, when not `starting`, go on with what it reserved); None where one may."""
    if most is None or output.used + (OUTPUT_BYTES_RESERVED if starting else 0) <= most:
        return None
    message = (
        f"answers of this lineage may have said {output.used} bytes; the policy ends them at {most}, and a trial needs "
        f"{OUTPUT_BYTES_RESERVED} more to start"
    )
    return Finding(OUTPUT_RULE, message, "raise `[sandbox] output_bytes_lineage_max` by amendment, or end the lineage")
