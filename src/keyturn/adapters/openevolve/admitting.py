"""Who may enter OpenEvolve's population: whom the governor admitted, and then whom the user's own strategy lets in.

OpenEvolve asks in its controller, before anything is stored; the verdict was given where the program ran.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from openevolve.population import PopulationSnapshot, PopulationStrategy, ProgramState

from keyturn.core.finding import Finding
from keyturn.core.terms import Json
from keyturn.sdk.errors import Refused, Stopped
from keyturn.sdk.program import Admission
from keyturn.sdk.run import Run, digest_of

Report = Callable[[Mapping[str, Json]], None]
"""Takes what a run has to tell, as plain data: what was judged, why it stops, what came of it."""

Admit = Callable[[PopulationSnapshot, ProgramState, int], bool]


@dataclass(slots=True)
class Stopping:
    """Whether the governor has said that the run must stop, and why; told by a thread of its own."""

    report: Report
    stop: Stopped | None = None

    def told(self, stop: Stopped) -> None:
        """Remember it, and let whoever watches know."""
        self.stop = stop
        self.report({"type": "stopping", "why": stop.why, "halted": stop.halted})


@dataclass(slots=True)
class Admitting:
    """OpenEvolve's hook `admit`."""

    run: Run
    report: Report
    stopping: Stopping
    theirs: Admit | None = None
    best: float | None = None

    def __call__(self, snapshot: PopulationSnapshot, candidate: ProgramState, island: int) -> bool:
        """Whether a program may enter; a first program that may not stops the run, as does a halt. Raises both."""
        stop = self.stopping.stop
        if stop is not None and stop.halted:
            raise Stopped(stop.why, halted=True)
        digest = digest_of(candidate.code)
        verdict = self.run.verdict(digest)
        admitted = self.run.shadow or (verdict is not None and verdict.admitted)
        if not candidate.metadata.get("migrant"):
            self._tell(digest, verdict, candidate, admitted=admitted)
        if not admitted and not snapshot.programs:
            raise Refused("the program from which the run starts was refused", _findings(verdict, candidate))
        return admitted and (self.theirs is None or self.theirs(snapshot, candidate, island))

    def _tell(self, digest: str, verdict: Admission | None, candidate: ProgramState, *, admitted: bool) -> None:
        score = score_of(candidate.metrics)
        if admitted and score is not None:
            self.best = score if self.best is None else max(self.best, score)
        rules: list[Json] = [*dict.fromkeys(finding.rule for finding in _findings(verdict, candidate))]
        told: dict[str, Json] = {"program": digest, "admitted": admitted, "rules": rules, "score": score}
        self.report({"type": "program", **told, "best": self.best, "used": self.run.used_now})


def _findings(verdict: Admission | None, candidate: ProgramState) -> tuple[Finding, ...]:
    """Why a program may not enter; one that was never judged was not evaluated to the end."""
    if verdict is not None:
        return verdict.findings
    why = str(candidate.metrics.get("error") or "its evaluation did not come to an end")
    return (Finding("program_must_run", f"it was not judged: {why[:300]}", "see the log of the run"),)


def strategy(ours: Admitting, theirs: PopulationStrategy | None) -> PopulationStrategy:
    """The user's strategy with our hook before theirs; every other hook of theirs stands."""
    base = theirs if theirs is not None else PopulationStrategy()
    ours.theirs = base.admit
    return replace(base, admit=ours)


def score_of(metrics: Mapping[str, Any]) -> float | None:
    """The score that OpenEvolve goes by: `combined_score`, or the mean of the numbers; none where there is none."""
    combined = metrics.get("combined_score")
    if isinstance(combined, int | float):
        return float(combined)
    numbers = [float(v) for v in metrics.values() if isinstance(v, int | float) and not isinstance(v, bool)]
    return sum(numbers) / len(numbers) if numbers else None
