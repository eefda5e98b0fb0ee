"""The scenes: how each kind of probe is played in a place, and what every attempt of it met there.

A scene takes any place: the sandbox and the bare control go through the same lines.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable

from keyturn.core.errors import KeyturnError, MalformedInput, Unavailable
from keyturn.sandbox.port import Exit
from keyturn.sandbox.suite.places import LIMITS, How, Place, Started
from keyturn.sandbox.suite.probes.attempt import MARK
from keyturn.sandbox.suite.table import Probe

Met = dict[str, str]
"""For each attempt what it met; "" where it got through."""

REPORT_SECONDS_MAX = 15.0
PIPE_SECONDS = 0.25
"""How long after its end a pipe may still show a writer."""

SILENT_WALL_SECONDS = 2.0
"""Long enough for an interpreter to start and to speak once, on a machine that is slow or busy."""

CPUS = 0.5
LEASE_SECONDS = 1.0
LEASE_MARGIN_SECONDS = 1.0
"""How much later than its lease a sandbox without a governor must be dead, on a machine that may be busy."""

DECLARED = (("declared", 100), ("link", 100), ("pipe", 100), ("device", 100), ("twice", 100), ("huge", 1000))


class Unfinished(Exception):
    """A probe did not run to its end, so that nothing can be said about it."""


def words(probe: Probe, place: Place, name: str = "", **more: str) -> tuple[str, ...]:
    """A probe's command: its program, its name, and what it is told."""
    return probe.program, name or probe.id, json.dumps({**place.facts(), **more})


def reported(said: bytes, name: str) -> Met:
    """What a probe wrote down last; raises `Unfinished` where it wrote nothing whole."""
    lines = [line for line in said.decode(errors="replace").splitlines() if line.startswith(MARK)]
    try:
        body = json.loads(lines[-1].removeprefix(MARK))
        if body["probe"] != name:
            raise Unfinished(f"another probe answered: {body['probe']}")
        return {str(attempt): str(met) for attempt, met in body["met"].items()}
    except (IndexError, ValueError, LookupError, AttributeError) as error:
        raise Unfinished("it left no report") from error


def end_of(exit: Exit, name: str) -> Met:
    """The report of a run that has ended; one that ended otherwise than by itself shows nothing, but for memory."""
    if exit.reason == "memory":
        return {"more than its memory": f"killed at its limit of {LIMITS.memory_bytes >> 20} MiB"}
    if exit.reason != "exited" or exit.code != 0:
        raise Unfinished(f"it ended badly: {exit.reason}, code {exit.code}, signal {exit.signal}")
    return reported(exit.diagnostics, name)


def run_once(probe: Probe, place: Place, **more: str) -> Met:
    """Start it, wait for its end, read its report."""
    started = place.start(words(probe, place, **more), How(held=probe.held))
    try:
        return end_of(started.wait(), probe.id)
    finally:
        started.close()


def once(probe: Probe, place: Place) -> Met:
    """One run."""
    return run_once(probe, place)


def twice(probe: Probe, place: Place) -> Met:
    """A run that leaves marks, and another that looks for them."""
    run_once(probe, place, step="leave")
    return run_once(probe, place, step="look")


def sockets(probe: Probe, place: Place) -> Met:
    """One run, and one that is shown a folder in which the host listens, unless the backend does not show such."""
    met = run_once(probe, place)
    try:
        started = place.start(words(probe, place, "shown-socket"), How(public=True))
    except MalformedInput:
        return met | {"one in a shown folder": "not shown"}
    try:
        return met | end_of(started.wait(), "shown-socket")
    finally:
        started.close()


def processors(probe: Probe, place: Place) -> Met:
    """One run, and one that has a share of the processors and burns more."""
    met = run_once(probe, place)
    started = place.start(words(probe, place, "burn", cpus=str(CPUS)), How(cpus=CPUS))
    try:
        return met | end_of(started.wait(), "burn")
    finally:
        started.close()


def first_report(started: Started, name: str) -> Met:
    """What a probe that goes on says on standard output; raises `Unfinished` where that is nothing."""
    got, until = b"", time.monotonic() + REPORT_SECONDS_MAX
    while b"}}\n" not in got and time.monotonic() < until:
        data = started.receive(REPORT_SECONDS_MAX)
        if not data:
            break
        got += data
    return reported(got, name)


def ended(fd: int) -> bool:
    """Whether nobody holds the far end of a pipe any more, which no process can have outlived."""
    until = time.monotonic() + PIPE_SECONDS
    while (left := until - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0] and not os.read(fd, 1 << 16):
            return True
    return False


def daemons(probe: Probe, place: Place) -> Met:
    """Daemons, once after the main process has ended by itself and once after a halt."""
    met = {}
    for step, name in {"end": "outliving the main process", "stay": "outliving a halt"}.items():
        started = place.start(words(probe, place, step=step), How(answer=True))
        try:
            first_report(started, probe.id)
            if step == "end":
                how = f"{started.wait().left_running} left running, then killed"
            else:
                how = f"the halt is {started.halt('the containment suite').state}"
            met[name] = how if ended(started.stdout_fd) else ""
        finally:
            started.close()
    return met


def outputs(probe: Probe, place: Place) -> Met:
    """A flood, noise with a full folder, and silence."""
    return {**_flood(probe, place), **_noise(probe, place), **_silence(probe, place)}


def _flood(probe: Probe, place: Place) -> Met:
    most, got = LIMITS.output_bytes_max, 0
    started = place.start(words(probe, place, "flood"), How(answer=True))
    try:
        while got <= 2 * most:
            data = started.receive(REPORT_SECONDS_MAX)
            got += len(data)
            if not data:
                raise Unfinished("the flood ran dry")
        return {"a flood on the pipe": ""}
    except Unavailable:
        if got == 0:
            raise Unfinished("the flood never came") from None
        return {"a flood on the pipe": f"refused after {got} bytes"}
    finally:
        started.close()


def _noise(probe: Probe, place: Place) -> Met:
    started = place.start(words(probe, place, "noise"), How())
    try:
        exit = started.wait()
        made = end_of(exit, "noise")
        kept = len(exit.diagnostics)
        met = {"a flood on standard error": f"{kept} bytes kept" if kept <= LIMITS.diagnostics_bytes_max else ""}
        if made.pop("declared"):
            raise Unfinished("it could not write what it had declared")
        found = started.collect(DECLARED)
        for name, refused in made.items():
            rules = [finding.rule for finding in found.findings if f"`{name}`" in finding.message]
            met[f"`{name}` in its output"] = refused or (rules[0] if rules else "")
        return met
    finally:
        started.close()


def _silence(probe: Probe, place: Place) -> Met:
    started = place.start(words(probe, place, "silence"), How(answer=True, wall_seconds=SILENT_WALL_SECONDS))
    try:
        first_report(started, "silence")
        reason = started.wait().reason
        over = ended(started.stdout_fd)
        if over and reason != "wall":
            raise Unfinished(f"the silent one ended otherwise: {reason}")
        return {"silence, with a daemon on the pipe": "ended at its wall limit" if over else ""}
    finally:
        started.close()


def dead_man(probe: Probe, place: Place) -> Met:
    """Let it attack the switch, then fall silent, as a governor does that has vanished."""
    how = How(answer=True, lease_seconds=LEASE_SECONDS, held=probe.held)
    started = place.start(words(probe, place, "disarm"), how)
    try:
        met = first_report(started, "disarm")
        silent = time.monotonic()
        until = silent + LEASE_SECONDS + LEASE_MARGIN_SECONDS
        while not started.gone() and time.monotonic() < until:
            time.sleep(0.005)
        took = time.monotonic() - silent
        met["outliving the lease"] = "" if not started.gone() else _dead(took)
        return met
    finally:
        started.close()


def _dead(took: float) -> str:
    if took < LEASE_SECONDS / 5:
        raise Unfinished(f"it ended after {took:.2f} seconds, before its lease")
    return f"dead {took:.2f} seconds after the last word, with a lease of {LEASE_SECONDS}"


SCENES: dict[str, Callable[[Probe, Place], Met]] = {
    "once": once,
    "twice": twice,
    "sockets": sockets,
    "processors": processors,
    "daemons": daemons,
    "outputs": outputs,
    "dead-man": dead_man,
}


def play(probe: Probe, place: Place) -> Met:
    """Play a probe, and add what was seen from outside; raises `Unfinished`."""
    place.canaries.touched()
    try:
        met = SCENES[probe.scene](probe, place)
    except KeyturnError as error:
        raise Unfinished(error.message) from error
    except OSError as error:  # what this machine forbids us too, such as a device below a mount without any
        raise Unfinished(f"the suite itself met {error.strerror}") from error
    return met | dict.fromkeys(place.canaries.touched(), "")
