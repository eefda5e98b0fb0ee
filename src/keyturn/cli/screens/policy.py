"""The policy and its people: what is allowed to whom, and what a change would do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from keyturn.cli.screen import Sheet, count, safe
from keyturn.core.policy import Key, Person, Policy
from keyturn.core.terms import Custody

EFFECTS = {"tightens": "green", "tightening": "green", "loosens": "red", "loosening": "red"}


class Change(Protocol):
    """One difference between two policies, as `keyturn.app` hands it over."""

    @property
    def path(self) -> str:
        """Where."""

    @property
    def old(self) -> object:
        """What it was."""

    @property
    def new(self) -> object:
        """What it would be."""

    @property
    def effect(self) -> str:
        """What that does."""

    @property
    def why(self) -> str:
        """Why it does that."""


def explained(sheet: Sheet, policy: Policy, prose: Sequence[str]) -> None:
    """A sound policy in prose; what is legal but weak stands out."""
    sheet.line(sheet.paint(f"✔ the policy of `{safe(policy.name, 60)}` is sound", "green", "bold"))
    sheet.rule()
    for sentence in prose:
        inner = sentence.startswith(" ")
        tone = "yellow" if sentence.partition(":")[0].isupper() else ""
        mark = "" if inner else "· "
        sheet.say(f"{mark}{safe(sentence.strip(), 500)}", tone, indent=6 if inner else 2, hang=6 if inner else 4)


def warnings(policy: Policy) -> tuple[str, ...]:
    """What is legal but weak, in words."""
    found = []
    if policy.single_person:
        found.append("SINGLE PERSON: one signature releases; nobody looks over that shoulder")
    if policy.custody_least is Custody.SHARED_ACCOUNT:
        found.append("keys may lie in the governor's own account: that does not protect against the operator")
    if policy.witnesses.required == 0:
        found.append("UNWITNESSED: no independent party cosigns the log, so its operator could rewrite it")
    if policy.witnesses.splits:
        found.append(f"TWO HISTORIES: {policy.witnesses.splits}")
    if any(level.sandbox < "T2" for level in policy.levels):
        found.append(
            "SANDBOX BELOW T2: what breaks out is the governor's own user, and where `keyturn doctor` finds no cgroup, "
            "a halt of what runs is UNPROVEN; a policy that asks for T2 tightens"
        )
    if any(person.simulated for person in policy.people):
        found.append("SIMULATED PEOPLE: their signatures are worth nothing outside a demo")
    return tuple(found)


def changes(sheet: Sheet, found: Sequence[Change]) -> None:
    """Each difference with what it does: tightening is free, loosening waits for the quorum."""
    if not found:
        sheet.line(sheet.paint("✔ the file says what was adopted", "green", "bold"))
        return
    loosens = [each for each in found if EFFECTS.get(each.effect) != "green"]
    free = "all of it tightens: it takes effect when adopted" if not loosens else ""
    few = f"{len(loosens)} does" if len(loosens) == 1 else f"{len(loosens)} do"
    waits = f"{few} not tighten: the whole waits for the quorum of `amend`"
    sheet.say(f"{count(len(found), 'difference')}: {free or waits}", "bold")
    sheet.rule()
    for each in found:
        tone = EFFECTS.get(each.effect, "yellow")
        sheet.line(f"  {sheet.paint(safe(each.effect, 16), tone, 'bold')}  {safe(each.path, 60)}")
        sheet.say(f"{safe(each.old, 120)} → {safe(each.new, 120)}", indent=4)
        sheet.say(safe(each.why, 300), "dim", indent=4)


def lacking(sheet: Sheet, lacks: Sequence[str]) -> None:
    """Who still has to sign for the policy file, in which capacity."""
    if lacks:
        sheet.say("STILL TO SIGN", "bold")
    for each in lacks:
        sheet.say(f"· {safe(each, 300)}", "yellow", indent=2, hang=4)


def _kept(key: Key) -> str:
    demands = [word for word, asked in (("touch", key.touch), ("PIN", key.pin)) if asked]
    return f"{key.kind} ({', '.join((key.custody, *demands))})"


def people(sheet: Sheet, policy: Policy, persons: Iterable[Person]) -> None:
    """Who is enrolled, in which roles, with keys kept where."""
    rows = []
    for person in persons:
        keys = ", ".join(map(_kept, person.keys)) or "no key"
        gates = sorted({row.action.value for row in policy.gates for seat in row.quorum if seat.role in person.roles})
        rows.append(
            (safe(person.id, 20), safe(", ".join(person.roles), 28), f"{safe(keys, 80)}; seats at {', '.join(gates)}")
        )
    sheet.table(("person", "roles", "keys, and the gates with a seat for them"), rows)
    for warning in warnings(policy):
        sheet.say(f"! {warning}", "yellow", hang=2)
