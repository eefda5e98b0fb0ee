"""How a demo ends: what became of the lineage, what was refused, the bill, and how a stranger checks it all."""

from __future__ import annotations

import time
from pathlib import Path

from keyturn import app
from keyturn.app import exercise
from keyturn.cli.demo.stage import Stage
from keyturn.cli.lineage_svg import lineage_svg
from keyturn.cli.lineage_text import lineage_text
from keyturn.cli.screen import safe
from keyturn.core.state import State


def show_receipt(stage: Stage, receipt: object) -> None:
    """What a halt proved, or what is still unknown."""
    said = receipt if isinstance(receipt, dict) else {}
    state = str(said.get("state"))
    paint = stage.screen.good if state == "STOPPED" else stage.screen.bad
    empty, before = said.get("cgroup_empty_ms"), said.get("processes_before")
    after = f"{empty:.1f} ms after the request" if isinstance(empty, int | float) else "at an unknown moment"
    dead = "nothing was alive any more"
    what = f"{before} process(es) killed" if before else dead if state == "STOPPED" else "how many died is not known"
    stage.screen.line(paint(f"   {state}: {what}; seen empty {after}"))
    for unknown in said.get("unknown") or ():
        stage.screen.line(stage.screen.bad(f"   unknown: {safe(str(unknown))}"))


def epilogue(stage: Stage, project: app.Project, twin: exercise.Ungoverned) -> None:
    """The lineage, what was refused, the bill, and how to check it all."""
    state = project.state()
    ungoverned = twin.result(timeout_seconds=60)
    stage.screen.heading("5  What became of it")
    stage.screen.line(lineage_text(state, ungoverned=ungoverned, colour=stage.screen.colour))
    picture = stage.out / "lineage.svg"
    picture.write_text(lineage_svg(state, ungoverned=ungoverned), encoding="utf-8")
    _refusals(stage, state)
    _bill(stage, state, ungoverned)
    _how_to_check(stage, project, state, picture)


def _refusals(stage: Stage, state: State) -> None:
    stage.screen.heading("6  What was refused, and why")
    for candidate in state.candidates.values():
        for finding in candidate.findings[:2]:
            stage.screen.say(f"{candidate.name}: {safe(str(finding.get('message')))}")
    for incident in state.incidents.values():
        stage.screen.say(f"EXERCISE incident {incident.id}: {incident.kind}, {safe(incident.summary)}")


def _bill(stage: Stage, state: State, ungoverned: tuple[object, ...]) -> None:
    """What governance cost: capability given up and time, both as measured."""
    stage.screen.heading("7  The bill")
    governed = [c for c in state.candidates.values() if c.status == "released"]
    mine = _score(governed[-1]) if governed else None
    last = ungoverned[-1] if ungoverned else None
    if isinstance(last, dict) and mine is not None:
        stage.screen.line(f"   score against depth 2: governed {mine:.2f}, ungoverned {float(last['score']):.2f}")
        broken = [c.evidence["centre"].estimate for c in governed if "centre" in c.evidence]
        stage.screen.line(
            f"   promise broken on probes: governed {broken[-1]:.1%}, ungoverned {float(last['broken']):.1%}"
        )
    total = time.monotonic() - stage.started
    stage.screen.line(f"   time: {total:.0f} s in all, of which {stage.people_seconds:.0f} s waiting for people's keys")


def _score(candidate: object) -> float | None:
    evidence = getattr(candidate, "evidence", {}).get("beats-depth-2")
    return float(evidence.estimate) if evidence is not None else None


def _how_to_check(stage: Stage, project: app.Project, state: State, picture: Path) -> None:
    """The exact commands with which a stranger checks what was shown."""
    permit = state.lineage.parent.permit if state.lineage else ""
    bundle, trust = stage.out / "newest.permit", stage.out / "trust.json"
    project.bundle(permit, bundle)
    project.write_trust(trust)
    folder = short(project.root)
    root = state.lineage.parent.root[7:] if state.lineage else ""
    stage.screen.heading("8  Check it yourself")
    for command in (
        f"xdg-open {short(picture)}",
        f"keyturn status --project {folder}",
        f"keyturn lineage show --project {folder}",
        f"keyturn log replay --project {folder}",
        f"keyturn verify permit {short(bundle)} --trust {short(trust)} --weights {folder}/.keyturn/artifacts/{root}",
        f"keyturn verify log {folder}/.keyturn/log.db --trust {short(trust)}",
    ):
        stage.screen.line(f"   .venv/bin/{command}" if not command.startswith("xdg") else f"   {command}")
    checked = project.replay(lambda _: None)
    verdict = "every decision came out the same" if not checked.problems else f"{len(checked.problems)} problem(s)"
    stage.screen.say(f"just done: {checked.entries} entries, {checked.decisions} decisions decided again: {verdict}")


def short(path: Path) -> str:
    """A path as one would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
