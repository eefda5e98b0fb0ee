"""The loop: ask the agenda, do that one thing, ask again, until only people can go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from keyturn.core import agenda
from keyturn.core.agenda import Step, next_step
from keyturn.core.errors import Conflict, Unavailable, invariant
from keyturn.core.lawful.gates import SHADOW
from keyturn.core.state import State
from keyturn.flow import dossier, freeze, halt, improve, permit, project, trial, warrant
from keyturn.flow.governor import Governor
from keyturn.flow.ports import HeldStill, Interrupted, OutputSpent

STOPS = (agenda.Hold, agenda.AwaitAudit, agenda.AwaitBudget, agenda.AwaitWarrant, agenda.Halted)
"""The steps at which the governor can only wait."""

SEALED = (agenda.Improve, agenda.Try)
"""The steps during which something runs sealed."""


def run(
    governor: Governor,
    *,
    founder: Mapping[str, bytes] | None = None,
    stop: Callable[[Step], bool] = lambda _: False,
) -> Step:
    """Go on until people are needed, or until `stop` says so of a step, and return what is waited for.

    May be killed at any moment and run again.
    """
    halt.record_latched(governor)
    governor.log.sign_published()
    while True:
        governor.log.refresh()
        if freeze.wait(governor):
            continue
        step = next_step(governor.state, governor.log.now())
        if isinstance(step, STOPS) or stop(step):
            return step
        if isinstance(step, agenda.Witness):
            lacking = governor.log.witness()
            if lacking:
                return agenda.Witness(lacking)
            continue
        try:
            _act(governor, step, founder)
        except (Conflict, HeldStill):
            continue  # somebody else wrote, or holds everything still: read again, decide again
        except Interrupted:
            halt.trace(governor)  # a halt was recorded, or is about to be: the agenda will say
        except OutputSpent:
            continue  # what was read is logged: the agenda will say
        except Unavailable:
            if not isinstance(step, SEALED) or not _halting(governor):
                raise
            halt.trace(governor)  # the sandbox went away because somebody halted it by their own hand


def is_for_others(state: State, step: Step) -> bool:
    """Whether this step is made by a loop of others, which comes to a governor by itself and cannot be started here."""
    looped = state.current is not None and state.current.policy.loop is not None
    return looped and isinstance(step, agenda.Improve) and step.warrant != SHADOW


def _halting(governor: Governor) -> bool:
    return governor.latch.reason() is not None or governor.log.refresh().halt is not None


def _act(governor: Governor, step: Step, founder: Mapping[str, bytes] | None) -> None:
    match step:
        case agenda.Publish():
            governor.log.publish()
        case agenda.Found():
            project.found_lineage(governor, step, founder)
        case agenda.Improve():
            (improve.leave_shadow if step.warrant == SHADOW else improve.improve)(governor, step)
        case agenda.Try():
            trial.try_(governor, step)
        case agenda.Seal():
            dossier.seal(governor, step)
        case agenda.Release():
            permit.release(governor, step)
        case agenda.Reject():
            permit.reject(governor, step)
        case agenda.Grant():
            warrant.grant(governor.log, step)
        case agenda.Resume():
            halt.resume(governor.log, governor.latch, step)
        case _:
            invariant(False, f"`{type(step).__name__}` is a stop, not a step")
