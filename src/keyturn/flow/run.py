"""The loop: ask the agenda, do that one thing, ask again, until only people can go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from keyturn.core import agenda
from keyturn.core.agenda import Step, next_step
from keyturn.core.errors import Conflict
from keyturn.flow import dossier, halt, improve, permit, project, trial, warrant
from keyturn.flow.governor import Governor
from keyturn.flow.ports import Interrupted

STOPS = (agenda.Hold, agenda.AwaitAudit, agenda.AwaitWarrant, agenda.Halted)
"""The steps at which the governor can only wait."""


def run(governor: Governor, *, founder: Mapping[str, bytes] | None = None) -> Step:
    """Go on until people are needed, and return what is waited for. May be killed at any moment and run again."""
    halt.record_latched(governor)
    while True:
        governor.log.refresh()
        step = next_step(governor.state, governor.log.now())
        if isinstance(step, STOPS):
            return step
        try:
            _act(governor, step, founder)
        except Conflict:
            continue  # somebody else wrote: read again, decide again
        except Interrupted:
            continue  # a halt was recorded, or is about to be: the agenda will say


def _act(governor: Governor, step: Step, founder: Mapping[str, bytes] | None) -> None:
    if isinstance(step, agenda.Publish):
        governor.log.publish()
    elif isinstance(step, agenda.Found):
        project.found_lineage(governor, step, founder)
    else:
        _ACTS[type(step)](governor, step)


_ACTS: dict[type[Step], Callable[[Governor, Step], object]] = {
    agenda.Improve: improve.improve,
    agenda.Try: trial.try_,
    agenda.Seal: dossier.seal,
    agenda.Release: permit.release,
    agenda.Reject: permit.reject,
    agenda.Grant: warrant.grant,
    agenda.Resume: halt.resume,
}
