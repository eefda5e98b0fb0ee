"""Whether the last containment check still stands: it fits what would be launched now, is fresh, and did not fail.

Pure. Any difference between what was checked and what is here now means that this was never checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from keyturn.core.terms import Digest, Instant, Json, Tier
from keyturn.sandbox.port import Attestation

Word = Literal["never", "old", "failed", "stands"]
SECOND = 1000
NAMED_MAX = 5
"""How many failed probes one sentence names."""

FORGIVEN_MS = 5 * SECOND
"""How far the two clocks may be apart by rounding and by the time between two looks."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, on the clock that people set and on the one that only a boot sets back, both in milliseconds."""

    at: Instant
    since_boot_ms: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a check: its result, when it was run, and `bound`, all that it speaks of.

    `failed` are the probes that were not held, in words; `held` of `scored` were, and `controlled` were shown to
    succeed or fail outside as they should.
    """

    tier: Tier
    suite: Digest
    held: int
    scored: int
    controlled: int
    failed: tuple[str, ...]
    residual: tuple[str, ...]
    seconds: float
    when: Moment
    bound: Mapping[str, str]

    @property
    def score(self) -> str:
        """How many probes held, and which did not, in words."""
        said = f"{self.held} of {self.scored} probes held"
        if not self.failed:
            return said
        more = f" and {len(self.failed) - NAMED_MAX} more" if len(self.failed) > NAMED_MAX else ""
        return f"{said}; not {', '.join(self.failed[:NAMED_MAX])}{more}"

    def facts(self) -> dict[str, Json]:
        """What every attestation carries of it; equal for as long as this very check stands."""
        return {
            "suite": self.suite,
            "held": self.held,
            "scored": self.scored,
            "controlled": self.controlled,
            "tier": self.tier.value,
            "at": int(self.when.at),
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """The last check, judged: one word, and every finding against it.

    `due` says that it stands but will not for much longer, so that whoever has the time for it checks again.
    """

    word: Word
    kept: Kept | None
    findings: tuple[str, ...]
    age_ms: int
    due: bool = False

    @property
    def stands(self) -> bool:
        """Whether something may be launched on it."""
        return self.word == "stands"


def judge(kept: Kept | None, why: str, *, bound: Mapping[str, str], now: Moment, seconds_max: int) -> Standing:
    """The word on a kept result; `why` says why there is none, where there is none."""
    if kept is None:
        return Standing("never", None, (why or "it was never checked on this machine",), 0)
    age_ms = max(now.at - kept.when.at, now.since_boot_ms - kept.when.since_boot_ms)
    foreign = (*_differences(kept.bound, bound), *_clocks(kept.when, now))
    old = _old(age_ms, seconds_max)
    failed = _failed(kept)
    word: Word = "never" if foreign else "old" if old else "failed" if failed else "stands"
    return Standing(word, kept, (*foreign, *old, *failed), max(age_ms, 0), age_ms > seconds_max * SECOND * 9 // 10)


def _differences(was: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Each thing that was otherwise when it was checked, in words."""
    return tuple(
        f"another {name} was checked: `{_short(was.get(name))}`, here it is `{_short(now.get(name))}`"
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    )


def _short(value: str | None) -> str:
    text = "nothing" if value is None else value
    return text[:19] + "…" if text.startswith("sha256:") else text[:80]


def _clocks(then: Moment, now: Moment) -> tuple[str, ...]:
    """A moment that has not come yet was never seen, whatever a clock says now."""
    behind = min(now.at - then.at, now.since_boot_ms - then.since_boot_ms)
    return ("it is dated later than now: a clock was set back",) if behind < -FORGIVEN_MS else ()


def _old(age_ms: int, seconds_max: int) -> tuple[str, ...]:
    if age_ms <= seconds_max * SECOND:
        return ()
    return (f"the last check is {age_ms // SECOND} seconds old; {seconds_max} is the most",)


def _failed(kept: Kept) -> tuple[str, ...]:
    """A check that earned no tier at all, or that scored nothing, failed."""
    if kept.tier is not Tier.T0 and kept.scored > 0:
        return ()
    return (f"the last check failed: {kept.score}",)


def with_check(seen: Attestation, standing: Standing) -> Attestation:
    """An attestation that also rests on the check: its tier is at most the check's, and none where that does not stand.

    A check that earned less than the machine seems to give is no problem by itself: the policy compares tiers.
    """
    kept = standing.kept
    facts = {**seen.facts, "check": kept.facts() if kept is not None else {}}
    if not standing.stands or kept is None:
        problems = tuple(f"containment check: {finding}" for finding in standing.findings)
        return Attestation(Tier.T0, facts, (*seen.problems, *problems), seen.weaker)
    if kept.tier.rank >= seen.tier.rank:
        return Attestation(seen.tier, facts, seen.problems, seen.weaker)
    said = f"check: it earns {kept.tier}: {kept.score}"
    return Attestation(kept.tier, facts, seen.problems, (*seen.weaker, said))
