"""The commands that only look: each reads the state once and shows a screen or one JSON object."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.cli import context
from keyturn.cli import dossier_screen as dossiers
from keyturn.cli.screens import waiting as waits
from keyturn.core import agenda
from keyturn.core.approval import row_of
from keyturn.core.audit import pace_bound
from keyturn.core.decision import decide
from keyturn.core.dossier import as_request, named
from keyturn.core.errors import MalformedInput
from keyturn.core.events import to_json
from keyturn.core.state import Dossier, State
from keyturn.core.terms import Instant

if TYPE_CHECKING:
    from keyturn.app import Project


def status(args: argparse.Namespace) -> int:
    """What waits for whom; the exit code is 6 while a halt stands, else 0."""
    from keyturn.cli.screens import status as screen
    from keyturn.cli.screens.still import frozen
    from keyturn.cli.still.acts import standing

    project = context.project(args)
    state, head, now = _state(args, project), project.head(), context.now()
    step = waits.behind(state, now)
    what, held = waits.waiting(state, step, now), standing(args, project, state)
    if held is not None:
        what = frozen(held, now)
    if args.json:
        body = {**_status_body(state, what, root=head.root_hex), "copies": project.copies(), "freeze": held}
        context.emit_read(project, state, body)
    else:
        sheet = context.sheet()
        screen.show(sheet, state, what, now, root_hex=head.root_hex, copies=project.copies())
        context.out(sheet)
    return 6 if isinstance(step, agenda.Halted) else 0


def _state(args: argparse.Namespace, project: Project) -> State:
    """The state with people's words for a screen; exactly as it is logged for JSON, which tells both."""
    return project.logged() if args.json else project.state()


def _status_body(state: State, what: waits.Waiting, *, root: str) -> dict[str, object]:
    lineage = state.lineage
    return {
        "word": what.word,
        "waits_for": what.sentence,
        "next": [command for command, _ in what.commands],
        "banners": waits.banners(state),
        "generation": lineage.parent.number if lineage else None,
        "level": lineage.level if lineage else None,
        "pace": {"unaudited": lineage.unaudited, "unaudited_max": pace_bound(state)} if lineage else None,
        "warrant": state.warrant,
        "halt": state.halt,
        "drill": state.drill,
        "candidates": {name: candidate.status for name, candidate in state.candidates.items()},
        "incidents": list(state.incidents),
        "revoked": state.revoked,
        "log": {"size": state.size, "published": state.published, "root": root, **_cosigned(state)},
    }


def _cosigned(state: State) -> dict[str, object]:
    return {"witnessed": state.is_witnessed, "witnessed_size": state.witnessed, "cosigners": state.cosigners}


def find_dossier(state: State, prefix: str | None, now: Instant) -> Dossier:
    """The dossier whose digest begins so, or that is about the candidate named so; without a name, what waits."""
    if not prefix:
        step = waits.behind(state, now)
        if isinstance(step, agenda.Hold):
            return step.dossier
        if isinstance(step, agenda.Halted) and step.dossier is not None:
            return step.dossier
        raise MalformedInput("no dossier waits for people now", help="name one: a digest or a candidate")
    fitting = [each for name, each in state.candidates.items() if name.startswith(prefix)]
    alone = len(fitting) == 1 and not any(digest.startswith(f"sha256:{prefix}") for digest in state.dossiers)
    candidate = state.candidates.get(prefix) or (fitting[0] if alone else None)
    if candidate is not None:
        if not candidate.dossier:
            raise MalformedInput(f"candidate `{prefix}` has no dossier yet", help="it is sealed once its trials ended")
        return state.dossiers[candidate.dossier]
    called = [dossier for dossier in state.dossiers.values() if named(dossier) == prefix]
    if called:
        return called[-1]  # the founder is no candidate, but it is how people call the first dossier
    known = {digest.removeprefix("sha256:"): dossier for digest, dossier in state.dossiers.items()}
    return context.find("dossier", prefix.removeprefix("sha256:"), known, where="`keyturn status`")


def dossier_show(args: argparse.Namespace) -> int:
    """Everything that a decision rests on."""
    project = context.project(args)
    state, now = _state(args, project), context.now()
    dossier = find_dossier(state, args.dossier, now)
    if not args.json:
        sheet = context.sheet()
        dossiers.show(sheet, state, dossier, now)
        context.out(sheet)
        return 0
    request = as_request(dossier)
    decision = decide(state, request, now)
    row = row_of(state, request)
    word, _, sentence = dossiers.verdict(state, dossier, now)
    body = {
        "dossier": dossier.digest,
        "word": word,
        "sentence": sentence,
        "cleared": decision.cleared,
        "findings": decision.findings,
        "missing": waits.missing_roles(state, dossier, now) if row else [],
        "approvals": [
            {"approve": each.approve, "index": each.index, **to_json(each.event)} for each in dossier.approvals
        ],
        "used": dossier.used,
        "index": dossier.index,
        "document": dossier.document,
        "banners": waits.banners(state),
    }
    context.emit_read(project, state, body)
    return 0


def candidate_show(args: argparse.Namespace) -> int:
    """What became of a candidate and why; on request what the subject printed when it made it."""
    from keyturn.cli.screens import blobs

    project = context.project(args)
    state = _state(args, project)
    candidate = context.find("candidate", args.candidate, state.candidates, where="`keyturn lineage show`")
    attempt = state.attempts.get(candidate.attempt)
    reference = attempt.diagnostics if attempt is not None else ""
    printed = project.reader(state).read(reference) if args.diagnostics else None
    if args.json:
        body = {**_mapping(candidate), "banners": waits.banners(state), "diagnostics": reference}
        if args.diagnostics:
            body["printed"] = printed
        context.emit_read(project, state, body)
        return 0
    sheet = context.sheet()
    dossiers.candidate(sheet, state, candidate)
    if args.diagnostics:
        blobs.printed(sheet, reference, printed)
    context.out(sheet)
    return 0


def _mapping(value: object) -> dict[str, object]:
    body = context.plain(value)
    return dict(body) if isinstance(body, dict) else {}


def trial_show(args: argparse.Namespace) -> int:
    """A trial's plan, its bets, and what it showed."""
    from keyturn.cli.screens import trial as screen

    state = context.project(args).state()
    known = context.find("trial", args.trial, state.trials, where="`keyturn candidate show`")
    if args.svg:
        from keyturn.cli.trials.picture import trial_svg

        Path(args.svg).write_text(trial_svg(state, known), encoding="utf-8")
    if args.json:
        context.emit({**_mapping(known), "svg": args.svg, "banners": waits.banners(state)})
        return 0
    sheet = context.sheet()
    screen.show(sheet, state, known)
    if args.svg:
        sheet.line(f"the picture is in {args.svg}")
    context.out(sheet)
    return 0


def lineage_show(args: argparse.Namespace) -> int:
    """The lineage drawn; `--svg` writes the picture too."""
    from keyturn.cli.lineage_svg import lineage_svg
    from keyturn.cli.lineage_text import lineage_text
    from keyturn.cli.screens.rail import rail

    state = context.project(args).state()
    if args.svg:
        Path(args.svg).write_text(lineage_svg(state), encoding="utf-8")
    if args.json:
        found = rail(state)
        context.emit({**_mapping(found), "svg": args.svg, "banners": waits.banners(state)})
        return 0
    sheet = context.sheet()
    print(lineage_text(state, colour=sheet.paint.colour, width=sheet.width), end="")
    if args.svg:
        print(f"the picture is in {args.svg}")
    return 0


def permit_show(args: argparse.Namespace) -> int:
    """What a permit allows, and whether it still does; writes what a loading node needs where asked."""
    from keyturn.cli.screens import permit as screen

    project = context.project(args)
    state, now = project.state(), context.now()
    newest = next(reversed(list(state.permits)), "")
    permit = context.find("permit", args.permit or newest, state.permits, where="`keyturn log list`")
    there = bool(args.trust) and Path(args.trust).exists()
    seen = project.write_trust(Path(args.trust)) if args.trust else 0
    since = args.since or seen
    if args.bundle:
        project.bundle(permit.permit, Path(args.bundle), old_size=since)
    word, _, why = screen.standing(state, permit, now)
    if args.json:
        written = {"bundle": args.bundle, "trust": args.trust, "since": since}
        context.emit({"word": word, "why": why, "permit": permit, "banners": waits.banners(state), **written})
        return 0
    sheet = context.sheet()
    screen.show(sheet, state, permit, now)
    if args.bundle:
        more = f"; it continues the {since} entries that the node has seen" if since else ""
        sheet.entry("bundle", f"written to {args.bundle}{more}")
    if args.trust:
        sheet.entry("trust", f"{args.trust} was there and is kept" if there else f"written to {args.trust}")
    if args.bundle:
        trust = args.trust or "FILE"
        sheet.command(f"keyturn verify permit {args.bundle} --trust {trust} --weights DIR")
    context.out(sheet)
    return 0


def incident_list(args: argparse.Namespace) -> int:
    """Every incident, newest last."""
    from keyturn.cli.screen import safe, utc

    state = context.project(args).state()
    shown, after = context.page(list(state.incidents.items()), after=args.after, limit=args.limit)
    if args.json:
        items = [{**_mapping(each), "moments": list(each.moments)} for each in shown]
        context.emit({"items": items, "total": len(state.incidents), "next": after, "banners": waits.banners(state)})
        return 0
    sheet = context.sheet()
    rows = []
    for each in shown:
        exercise = "EXERCISE " if each.exercise else ""
        aware = "" if each.moments else " (nobody signed awareness)"
        summary = f"{exercise}{safe(each.kind, 40)}: {safe(each.summary, 160)}{aware}"
        rows.append((safe(each.id, 14), utc(each.detected_at), summary))
    if rows:
        sheet.table(("incident", "detected", "what happened"), rows)
    else:
        sheet.line("no incident")
    if after:
        sheet.line(f"… more: `keyturn incident list --after {safe(after, 40)}`")
    context.out(sheet)
    return 0


def incident_show(args: argparse.Namespace) -> int:
    """What happened, and which legal clocks run."""
    from keyturn.cli.screens import stop as screen

    project = context.project(args)
    state, now = _state(args, project), context.now()
    about = context.find("incident", args.incident, state.incidents, where="`keyturn incident list`")
    clocks = project.clocks(about.id)
    if args.draft:
        Path(args.draft).write_text(project.draft(about.id), encoding="utf-8")
    if args.json:
        moments = {name: event.moment_at for name, event in about.moments.items()}
        said = {name: event.reason for name, event in about.moments.items()}
        body = {**_mapping(about), "moments": moments, "reasons": said, "clocks": clocks, "draft": args.draft}
        context.emit_read(project, state, {**body, "banners": waits.banners(state)})
        return 0
    sheet = context.sheet()
    screen.incident(sheet, state, about, clocks, now)
    if args.draft:
        sheet.line(f"the draft is in {args.draft}; it says what it lacks")
    context.out(sheet)
    return 0
