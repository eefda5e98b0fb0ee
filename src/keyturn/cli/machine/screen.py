"""How this machine and its containment check are shown: the answer first, then what to do, then what it rests on.

Never relies on colour alone: every mark has a shape of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyturn.cli.screen import Sheet, clip, count, pad, safe, span

if TYPE_CHECKING:
    from keyturn.app.machine.checked import CheckedHere
    from keyturn.app.machine.doctor import Doctor
    from keyturn.core.terms import Instant

WIDE = 110
"""From so many columns on every probe says what was seen, not only one that did not hold."""

KINDS = (
    ("escape", "ESCAPE", "out of the sandbox, or into what keeps it"),
    ("resource", "RESOURCES", "more than it may use"),
    ("channel", "CHANNELS", "to the network, other processes, or the next run"),
    ("information", "INFORMATION", "what it learns of this machine; not scored"),
)
INSIDE = {"held": ("✔ held", "green"), "breach": ("✖ BREACH", "red"), "unsure": ("? unsure", "yellow")}
OPEN = {"held": ("✔ closed", "green"), "breach": ("· open", "yellow"), "unsure": ("? unsure", "yellow")}
"""What only informs is a channel that is open or closed; it is no breach."""

ANSWERS = (
    ("not there", ("ENOENT", "ESRCH", "ENOTTY", "ECONNREFUSED")),
    ("not allowed", ("EACCES", "EPERM", "EROFS")),
    ("no such call or kind here", ("ENOSYS", "EAFNOSUPPORT", "ENOLCK")),
    ("no more of it", ("EAGAIN", "ENOSPC", "EFBIG", "ENOMEM")),
    ("killed for the call", ("SIGSYS",)),
)
"""The kernel's answers in plain words, for whoever does not know them by name."""

CONTROL = {"fails": "shows nothing, it fails outside too", "none": "without a control"}
WORDS = {
    "stands": ("stands", "green"),
    "failed": ("FAILED", "red"),
    "old": ("TOO OLD", "yellow"),
    "never": ("NOT CHECKED", "yellow"),
}


# --- the machine


def doctor(sheet: Sheet, found: Doctor, now: Instant) -> None:
    """What this machine gives, what to do about what it lacks, and what was looked at."""
    many = sum(each.blocks for each in found.remedies) + sum(not row.ok for row in found.rows)
    tail = f"{count(many, 'thing')} to do" if found.lacking else "nothing is missing"
    sheet.line(sheet.paint(f"THIS MACHINE GIVES {found.tier}: {tail}", "bold", "yellow" if found.lacking else "green"))
    if found.tier.rank == 0:
        sheet.say("nothing can be run sealed here, so nothing is run at all", "red")
    sheet.rule()
    rows = []
    for each in found.tiers:
        mark = sheet.paint("●", "green") if each.given else sheet.paint("○", "dim")
        rows.append((f"{each.tier} {mark}", each.what, safe(each.evidence, 300)))
    sheet.table(("tier", "what it is", "how that was found out"), rows)
    _remedies(sheet, found)
    sheet.title("LOOKED AT")
    for row in found.rows:
        sheet.entry(
            safe(row.name, 12), ("" if row.ok else "✖ ") + safe(row.what, 300), "" if row.ok else "red", wide=10
        )
        if row.remedy and not row.ok:
            sheet.entry("", f"help: {safe(row.remedy, 300)}", "dim", wide=10)
    _last_check(sheet, found, now)


def _remedies(sheet: Sheet, found: Doctor) -> None:
    """What to do, in order; what one would merely wish for comes last and stands back."""
    if found.remedies:
        sheet.title("WHAT TO DO")
    for each in found.remedies:
        mark, tone = ("✖", "red") if each.blocks else ("·", "dim")
        sheet.say(f"{mark} {safe(each.what, 100)}: {safe(each.why, 600)}", tone, indent=2, hang=4)
        for command in each.commands:
            sheet.line(f"      {sheet.paint(command, 'cyan')}")
        if each.note:
            sheet.say(f"# {safe(each.note, 400)}", "dim", indent=6)


def _last_check(sheet: Sheet, found: Doctor, now: Instant) -> None:
    """How the last containment check stands, and how old it is."""
    if found.check is None:
        sheet.entry("check", "there is no sandbox that could be checked", "dim", wide=10)
        return
    seen, kept = found.check, found.check.kept
    word, tone = WORDS[seen.word]
    if kept is None:
        said = f"{word}: {safe(seen.findings[0], 300)}"
    else:
        said = f"{word}: {kept.tier}, {span(now - kept.when.at)} ago, {safe(kept.score, 300)}"
        said += "".join(f"; {safe(finding, 300)}" for finding in seen.findings if seen.word != "failed")
    sheet.entry("check", said, tone, wide=10)
    if not seen.stands:
        sheet.command("keyturn sandbox check", "a governor does it by itself before it launches")


# --- the check


def checked(sheet: Sheet, found: CheckedHere) -> None:
    """The score and the tier, then every probe by what it is about, then what is left open."""
    made, asked = found.checked, found.asked
    verdict, tone = ("enough", "green") if found.enough else ("NOT ENOUGH", "red")
    score = f"{made.held} of {made.scored} probes held, {made.controlled} of them with a control"
    sheet.line(sheet.paint(f"CONTAINMENT {made.tier}: {score}", "bold", tone))
    sheet.say(f"{verdict}: {asked.least} is asked for by {safe(asked.by, 120)}", tone)
    sheet.say("each line below is what was tried from inside; held: it did not get through", "dim")
    for kind, title, about in KINDS:
        _probes(sheet, found, kind, title, about)
    _answers(sheet)
    for title, said, colour in (("STILL OPEN", made.residual, "yellow"), ("WEAKER HERE", made.weaker, "yellow")):
        if said:
            sheet.title(title)
        for each in said:
            sheet.say(f"· {safe(each, 300)}", colour, indent=2, hang=4)
    sheet.line()
    days = f"{asked.seconds_max / 86400:g} days"
    sheet.entry("took", f"{made.seconds:.1f} s; kept for {days} in {safe(found.kept, 200)}")
    sheet.entry("before", _before(found))
    sheet.entry("suite", safe(made.suite.removeprefix("sha256:"), 64))


def _answers(sheet: Sheet) -> None:
    """What the kernel's answers mean, of those that stand on the screen; nothing where none does."""
    text = "\n".join(sheet.lines)
    said = [(words, ", ".join(name for name in names if name in text)) for words, names in ANSWERS]
    if any(names for _, names in said):
        sheet.title("THE KERNEL'S ANSWERS")
        sheet.table(("", ""), [(words, names) for words, names in said if names])


def _before(found: CheckedHere) -> str:
    kept = found.before.kept
    if kept is None:
        return safe(found.before.findings[0], 300)
    return f"{span(found.before.age_ms)} ago: {kept.held} of {kept.scored}, {kept.tier} ({WORDS[found.before.word][0]})"


def _probes(sheet: Sheet, found: CheckedHere, kind: str, title: str, about: str) -> None:
    """The probes of one kind, each on a line; one that did not hold says what was seen, and on a wide screen all do."""
    rows = [row for row in found.checked.rows if row.kind == kind]
    if not rows:
        return
    held = sum(row.inside == "held" for row in rows)
    sheet.title(f"{title}  {held} of {len(rows)} held" if kind != "information" else title)
    sheet.lines[-1] += sheet.paint(f"  {about}", "dim")
    wide = sheet.width >= WIDE
    for row in rows:
        word, tone = (OPEN if kind == "information" else INSIDE)[row.inside]
        room = sheet.width - 15
        sheet.line(f"  {row.number:>2} {sheet.paint(pad(word, 9), tone)} {clip(safe(row.what, 200), room)}")
        seen = [row.detail] if wide or (row.inside != "held" and kind != "information") else []
        for text in [each for each in seen if each]:
            sheet.say(safe(text, 400), "dim" if row.inside == "held" else tone, indent=15)
        if row.control != "succeeds":
            sheet.say(safe(f"{CONTROL[row.control]}: {row.control_detail}", 400), "yellow", indent=15)
        elif wide and row.control_detail:
            sheet.say(safe(f"outside: {row.control_detail}", 400), "dim", indent=15)
