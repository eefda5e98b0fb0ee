"""The part of replay that looks at a loop's programs: nothing beyond the warrant, and nothing proposed but admitted."""

from __future__ import annotations

from collections.abc import Iterator

from keyturn.core import events as ev
from keyturn.core.bounds import beyond
from keyturn.core.candidate import strayed
from keyturn.core.lawful.gates import SHADOW, Check, same_lineage
from keyturn.core.policy import Loop
from keyturn.core.programs import charged
from keyturn.core.state import State


def _loop(state: State) -> Loop | None:
    return state.current.policy.loop if state.current else None


def programs_judged(state: State, event: ev.ProgramsJudged) -> Iterator[Check]:
    """Every program is charged; what goes beyond a bound, the warrant's window or a halt ends the step's running."""
    attempt, used = state.attempts[event.attempt], charged(event)
    looped = _loop(state) is not None or attempt.batches  # a run goes on to its end under a policy that drops its loop
    yield bool(looped), "the policy knows no loop whose programs could be judged"
    charged_for = attempt.spent.programs + used.programs - attempt.lost - event.lost
    judged = attempt.judged + len(event.programs)
    yield judged <= charged_for, f"it judges {judged} programs, of which {charged_for} are charged"
    yield event.closing or state.halt is None, "it went on while a halt stood"
    if attempt.warrant == SHADOW:
        return
    warrant = next(each for each in state.warrants if each.id == attempt.warrant)
    spent, most = warrant.spent + used, warrant.bounds.programs_max
    yield spent.programs <= most, f"{spent.programs} programs ran under a warrant for {most}"
    for bound in () if event.closing else beyond(warrant.bounds, spent):
        yield False, f"it goes on beyond its warrant: {bound}"
    yield event.closing or event.at < warrant.expires_at, "it went on after the warrant's window"


def improvement_ended(state: State, event: ev.ImprovementEnded) -> Iterator[Check]:
    """A loop's last batch was closed, so that all that ran stands in the log."""
    attempt = state.attempts.get(event.attempt)
    closed = _loop(state) is None or (attempt is not None and not attempt.batch_open)
    yield closed, "its last batch of programs was never closed"


def candidate_proposed(state: State, event: ev.CandidateProposed) -> Iterator[Check]:
    """What an improve step produced, once; from a loop, a program that this very step admitted."""
    attempt = state.attempts.get(event.attempt)
    yield same_lineage(state, event.lineage)
    if attempt is None:
        return
    yield attempt.outcome == "produced", f"attempt {attempt.number} produced nothing"
    yield not attempt.candidate, f"attempt {attempt.number} has its candidate already"
    yield attempt.parent == event.parent, "it names another parent than the attempt that made it"
    stray = "" if attempt.warrant == SHADOW else strayed(state, attempt, event.parent, event.files)
    yield not stray, stray
