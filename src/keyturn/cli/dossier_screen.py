"""The dossier as an approver reads it, and the candidate behind it: the verdict first, then what it rests on.

Never shows a figure that is not in the sealed dossier, and offers to refuse as readily as to approve.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from keyturn.cli.screen import WIDTH, Paint, Sheet, count, safe, short, until, utc, wants_colour
from keyturn.cli.screens import blobs, evidence, loop
from keyturn.cli.screens.scale import figure, measure_of, number
from keyturn.cli.screens.waiting import head, missing_roles, subject_of, who_may
from keyturn.core.approval import refused_by, why_not
from keyturn.core.candidate import level_of
from keyturn.core.decision import decide
from keyturn.core.dossier import as_request, moment, named, unfit
from keyturn.core.finding import Finding
from keyturn.core.state import Candidate, Dossier, State
from keyturn.core.terms import Gate, Instant, Json

BY_PEOPLE = frozenset({"quorum_must_be_met", "nobody_must_have_refused"})
FILES_MAX, RECIPE_MAX = 12, 12
STATUS_TONES = {"released": "green", "rejected": "red", "proposed": "yellow", "shadowed": "yellow"}
CLAIM_MAX = 400
ACTS = {"AdoptPolicy": "keyturn policy adopt", "EraseBlob": "keyturn log erase"}
"""The command that acts on a cleared dossier, where it is not the loop that does."""


def verdict(state: State, dossier: Dossier, now: Instant) -> tuple[str, str, str]:
    """The word on top of a dossier, its tone, and a sentence."""
    about = subject_of(dossier)
    if dossier.used:
        return "CLEARED", "green", f"{about}: cleared and used; a dossier clears once"
    candidate = state.candidates.get(named(dossier))
    if candidate is not None and candidate.status != "proposed":
        return candidate.status.upper(), "red", f"{about}: the candidate was {candidate.status}"
    refused = refused_by(state, dossier, now)
    if refused:
        return "REFUSED", "red", f"{about}: refused by {safe(refused[0].event.person, 60)}; one refusal ends it"
    if now >= moment(dossier, "not_after"):
        return "EXPIRED", "red", f"{about}: nobody can decide on it any more; a new dossier is needed"
    outdated = unfit(state, dossier, as_request(dossier))
    if outdated:
        return "OUTDATED", "red", f"{about}: {safe(outdated)}; a new dossier takes its place"
    findings = decide(state, as_request(dossier), now).findings
    others = [finding for finding in findings if finding.rule not in BY_PEOPLE]
    if others:
        return "HELD", "red", f"{about}: {count(len(others), 'finding')} that no signature can cure"
    if findings:
        return "HELD", "yellow", f"{about}: everything holds but the quorum; only people are missing"
    acts = ACTS.get(str(dossier.document.get("request")), "keyturn run")
    return "CLEAR", "green", f"{about}: nothing stands in the way; `{acts}` acts on it"


def dossier_text(
    state: State, dossier: Dossier, *, brief: bool = False, colour: bool | None = None, width: int = WIDTH
) -> str:
    """The dossier as text, as things stand at the last logged moment; `brief` leaves out all but verdict and evidence.

    `colour` None means: where standard output shows colours.
    """
    sheet = Sheet(width=width, paint=Paint(colour=wants_colour(sys.stdout) if colour is None else colour))
    (summary if brief else show)(sheet, state, dossier, state.last_at)
    return sheet.text()


def show(sheet: Sheet, state: State, dossier: Dossier, now: Instant) -> None:
    """The whole screen, in the order in which a hurried approver needs it."""
    word, tone, sentence = verdict(state, dossier, now)
    head(sheet, state, word, sentence, tone)
    _missing(sheet, state, dossier, now)
    if word in {"HELD", "CLEAR"}:
        _choices(sheet, state, dossier, now)
    if dossier.gate == Gate.TRAIN:
        loop.leave(sheet, dossier.document)
    if dossier.document.get("erases") is not None:
        blobs.erasure(sheet, dossier.document)
    if dossier.document.get("diff") is not None:
        _changes(sheet, dossier)
    if dossier.document.get("programs") is not None:
        loop.programs(sheet, _mapping(dossier.document.get("programs")))
    if isinstance(dossier.document.get("evidence"), list):
        sheet.title("EVIDENCE, as sealed")
        evidence.table(sheet, [measure_of(row) for row in rows_of(dossier.document.get("evidence"))])
        _claims(sheet, dossier)
    _unchecked(sheet, dossier)
    _decided(sheet, state, dossier, now)
    _signed(sheet, state, dossier, now)


def summary(sheet: Sheet, state: State, dossier: Dossier, now: Instant) -> None:
    """The verdict and the evidence, or the leave asked for: what somebody sees once more before the key is used."""
    word, tone, sentence = verdict(state, dossier, now)
    head(sheet, state, word, sentence, tone)
    if dossier.gate == Gate.TRAIN:
        loop.leave(sheet, dossier.document)
    if dossier.document.get("erases") is not None:
        blobs.erasure(sheet, dossier.document)
    evidence.table(sheet, [measure_of(row) for row in rows_of(dossier.document.get("evidence"))])
    body = _mapping(dossier.document.get("candidate"))
    sheet.line(f"  dossier  {dossier.digest.removeprefix('sha256:')}")
    if body:
        sheet.line(f"  artifact {safe(str(body.get('root')).removeprefix('sha256:'), 66)}")


def rows_of(value: Json) -> list[dict[str, Json]]:
    """The tables in a list of a dossier; anything else there is left out."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _missing(sheet: Sheet, state: State, dossier: Dossier, now: Instant) -> None:
    """What stands in the way now, by the rules of the gate; and what was found when the dossier was sealed."""
    if dossier.used:
        permit = next((p for p in state.permits.values() if p.dossier == dossier.digest), None)
        if permit is not None:
            sheet.say(f"It gave the permit {safe(permit.permit, 40)}: `keyturn permit show {safe(permit.permit, 40)}`")
        return
    found = decide(state, as_request(dossier), now).findings
    for finding in found:
        findings_line(sheet, finding)
    if not found:
        sheet.say("✔ every rule of the gate holds", "green")


def findings_line(sheet: Sheet, finding: Finding) -> None:
    """One reason to hold, and what would cure it."""
    cured = finding.rule in BY_PEOPLE
    mark, tone = ("·", "yellow") if cured else ("✖", "red")
    sheet.say(f"{mark} {safe(finding.message, 400)}", tone, hang=2)
    if finding.help and not cured:
        sheet.say(f"help: {safe(finding.help, 300)}", "dim", indent=2)


def _choices(sheet: Sheet, state: State, dossier: Dossier, now: Instant) -> None:
    """Both decisions, side by side."""
    roles = missing_roles(state, dossier, now)
    if not roles:
        return
    who, note = who_may(state, roles, dossier)
    closes = moment(dossier, "not_after")
    sheet.title(f"DECIDE until {utc(closes)} ({until(Instant(closes), now)})")
    for verb, tone in (("refuse", "red"), ("give", "green")):
        command = f"keyturn approval {verb} {short(dossier.digest)} --as {who} --reason TEXT"
        word = "refuse " if verb == "refuse" else "approve"
        sheet.line(f"  {sheet.paint(word, tone, 'bold')}  {sheet.paint(command, 'cyan')}")
    if note:
        sheet.say(f"{note} (role {', '.join(role for role, _ in roles)})", "dim", indent=11)
    elif who == "PERSON":
        sheet.say("nobody who is enrolled can fill the missing seats: amend the policy", "red", indent=2)


def _changes(sheet: Sheet, dossier: Dossier) -> None:
    document = dossier.document
    diff = _mapping(document.get("diff"))
    sheet.title(f"WHAT CHANGED FROM THE PARENT {short(document.get('parent_root'))}")
    files = rows_of(diff.get("files"))
    code = _mapping(diff.get("code"))
    for file in files[:FILES_MAX]:
        name = str(file.get("name"))
        lines = _mapping(code.get(name))
        moved = f"+{safe(lines.get('added'), 9)} −{safe(lines.get('removed'), 9)} lines" if lines else ""
        size = f"{int(number(file.get('bytes'))):,} bytes"
        same = file.get("change") == "same"
        text = f"  {safe(name, 28):28}  {safe(file.get('change'), 10):10}  {size:>18}  {moved}"
        sheet.line(sheet.paint(text, "dim" if same else "bold" if moved and moved != "+0 −0 lines" else ""))
    recipe = rows_of(diff.get("recipe"))
    shown = [
        (safe(row.get("key"), 28), f"{safe(row.get('before'), 16)} → {safe(row.get('after'), 16)}")
        for row in recipe[:RECIPE_MAX]
    ]
    sheet.table(("", ""), shown) if shown else None
    hidden = len(files[FILES_MAX:]) + len(recipe[RECIPE_MAX:])
    if hidden:
        sheet.say(f"{hidden} more: `keyturn dossier show {short(dossier.digest)} --json`", "dim", indent=2)
    if not files:
        sheet.say("the dossier holds no difference of files", "yellow", indent=2)


def _claims(sheet: Sheet, dossier: Dossier) -> None:
    rows = rows_of(dossier.document.get("claims_vs_verified"))
    if not rows:
        return
    sheet.title("CLAIMED BY THE CANDIDATE, AND VERIFIED")
    for row in rows:
        claimed, verified = number(row.get("claimed"), 1.0), number(row.get("verified"))
        gap = f"{verified - claimed:+.3f}"
        sheet.entry(safe(row.get("metric"), 30), f"{figure(claimed)} → {figure(verified)}  ({gap})", wide=32)


def _unchecked(sheet: Sheet, dossier: Dossier) -> None:
    items = dossier.document.get("unchecked")
    if isinstance(items, list) and items:
        sheet.title("NOT CHECKED BY ANYBODY")
        for item in items:
            sheet.say(f"· {safe(item)}", "yellow", indent=2, hang=4)


def _decided(sheet: Sheet, state: State, dossier: Dossier, now: Instant) -> None:
    sheet.title("WHO HAS DECIDED")
    seats = [f"{safe(seat.get('role'), 30)} × {safe(seat.get('persons'), 3)}" for seat in _seats(dossier)]
    sheet.say(f"quorum: {' and '.join(seats) or 'nobody could meet it'}", indent=2)
    for approval in dossier.approvals:
        event = approval.event
        doubt = why_not(state, dossier, approval, now) if not dossier.used else ""
        word = "approved" if approval.approve else "REFUSED"
        tone = "yellow" if doubt else "green" if approval.approve else "red"
        mark = "·" if doubt else "✔" if approval.approve else "✖"
        counts = f" (does not count: {doubt})" if doubt else ""
        person = state.current.policy.person(event.person) if state.current else None
        simulated = " [simulated]" if person is not None and person.simulated else ""
        who = f"{safe(event.person, 40)}{simulated} as {safe(event.role, 30)}"
        said = f"{mark} {word} by {who} at {utc(event.at)}{counts}: {safe(event.reason)}"
        sheet.say(said, tone, indent=2, hang=4)
    if not dossier.approvals:
        sheet.say("nobody yet", "dim", indent=2)


def _seats(dossier: Dossier) -> Sequence[Mapping[str, Json]]:
    return rows_of(dossier.document.get("quorum"))


def _signed(sheet: Sheet, state: State, dossier: Dossier, now: Instant) -> None:
    """Exactly what a signature binds; digests in full, to be compared."""
    document, body = dossier.document, _mapping(dossier.document.get("candidate"))
    policy = _mapping(document.get("policy"))
    sheet.title("EXACTLY WHAT IS SIGNED (digests are SHA-256)")
    digests = {
        "dossier": dossier.digest,
        "artifact": body.get("root"),
        "parent": document.get("parent_root"),
        "policy": policy.get("digest"),
        "genesis": document.get("genesis"),
    }
    for name, value in digests.items():
        if value:
            sheet.line(f"  {name:10}{safe(str(value).removeprefix('sha256:'), 66)}")
    said = {
        "request": f"{safe(document.get('request'), 40)}, gate {dossier.gate}, level {safe(document.get('level'), 9)}",
        "lineage": f"{safe(document.get('lineage'), 60)} in the log {safe(document.get('origin'), 80)}",
        "scope": safe(document.get("scope")),
        "policy": f"number {safe(policy.get('version'), 9)}; the dossier is at entry {dossier.index}",
        "window": f"{utc(moment(dossier, 'not_before'))} to {utc(moment(dossier, 'not_after'))}",
    }
    for name, text in said.items():
        sheet.entry(name, text, wide=10)
    closes = Instant(moment(dossier, "not_after"))
    tone = "red" if now >= closes else ""
    sheet.entry("expires", f"{until(closes, now)}; asked for by {safe(dossier.requester, 60)}", tone, wide=10)
    if body.get("files"):
        sheet.say(f"{count(len(rows_of(body.get('files'))), 'file')}: see `--json` for each digest", "dim", indent=2)


def candidate(sheet: Sheet, state: State, about: Candidate) -> None:
    """The screen of one about."""
    name = safe(about.name, 60)
    lineage = state.lineage
    member = lineage.member(about.root) if lineage else None
    tail = f" as generation {member.number}" if member and about.status == "released" else ""
    tone = STATUS_TONES.get(about.status, "")
    head(sheet, state, about.status.upper(), f"candidate `{name}`{tail}", tone)
    for finding in about.findings:
        row = Finding(str(finding.get("rule")), str(finding.get("message")), str(finding.get("help")))
        findings_line(sheet, row)
    sheet.title("EVIDENCE")
    evidence.table(sheet, evidence.measures(state, about))
    sheet.title("WHERE IT COMES FROM")
    attempt = state.attempts.get(about.attempt)
    if attempt is not None:
        made = f"attempt {attempt.number}, by generation {attempt.generation} ({short(attempt.parent)})"
        sheet.entry("made in", f"{made} under warrant {safe(attempt.warrant, 40)}, seed {attempt.seed}")
        if attempt.batches:
            sheet.entry("programs", loop.run_of(attempt))
    sheet.entry("proposed", utc(about.proposed_at))
    sheet.entry("level", f"{level_of(state, about.name)} applies to it")
    sheet.entry("artifact", safe(about.root.removeprefix("sha256:"), 66))
    for file in about.files:
        sheet.entry("file", f"{safe(file.get('name'), 30)}  {safe(file.get('bytes'), 12)} bytes")
    if about.dossier:
        sheet.entry("dossier", f"{short(about.dossier)}   `keyturn dossier show {short(about.dossier)}`")
    claim = safe(json.dumps(about.claim, ensure_ascii=True, sort_keys=True), CLAIM_MAX)
    sheet.entry("it claims", f"{claim} (its own words; nothing here believes them)", "dim")
