"""`keyturn doctor` and `keyturn sandbox check`: the answer first, safe to print, and an exit code to rely on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyturn import app
from keyturn.app.machine.checked import Asked, CheckedHere, asked_in
from keyturn.app.machine.doctor import Doctor, Row
from keyturn.app.machine.facts import APPARMOR_ON, Facts
from keyturn.app.machine.remedies import remedies
from keyturn.app.machine.tiers import tiers
from keyturn.cli.machine import screen
from keyturn.cli.machine.progress import Passing
from keyturn.cli.screen import Paint, Sheet, columns
from keyturn.core.errors import Unavailable
from keyturn.core.state import State
from keyturn.core.terms import Instant, Tier
from keyturn.sandbox.standing.judging import Kept, Moment, Standing, judge
from keyturn.sandbox.suite import Checked
from tests.cli.conftest import Terminal
from tests.core.examples import document, loop
from tests.fakes.suite import DIGEST, rows
from tests.machine import systems

NOW = Instant(1_900_000_000_000)
HOUR_MS = 3_600_000
KEPT = Kept(
    Tier.T2, DIGEST, 27, 28, 20, ("lock (breach)",), ("locks on shared files",), 6.1,
    Moment(Instant(NOW - 3 * HOUR_MS), 0), {"boot": "this"},
)  # fmt: skip  # one result
STANDS = judge(KEPT, "", bound={"boot": "this"}, now=Moment(NOW, 3 * HOUR_MS), seconds_max=604800)
NEVER = judge(None, "", bound={"boot": "this"}, now=Moment(NOW, 0), seconds_max=604800)
HELD = Checked(Tier.T2, rows(), ("locks on shared files",), (), DIGEST, 3, 3, 2, 6.14)
BREACHED = Checked(Tier.T0, rows(breached=(1, 4)), (), ("user: the governor's own",), DIGEST, 2, 3, 2, 6.14)
ASKED = Asked(Tier.T2, "the policy of `toy` on level 0", 604800)


def found(facts: Facts, check: Standing | None = STANDS) -> Doctor:
    looked = (Row("system", True, facts.system.name), Row("project", True, "toy: 60 entries, 60 published"))
    return Doctor(facts.tier, tiers(facts), looked, remedies(facts), facts.lacking, check, facts)


SOUND = found(systems.facts(bubblewrap="bubblewrap 0.8.0", guest=""))
UBUNTU = found(
    systems.facts(
        systems.UBUNTU_24_04, root=False, tier=Tier.T0, bubblewrap="bubblewrap 0.9.0", namespaces=systems.UID_MAP,
        processes=systems.UID_MAP, sysctls={APPARMOR_ON: "1"}, fault=f"it could not be built: {systems.UID_MAP}",
    ),
    NEVER,
)  # fmt: skip  # one machine


def drawn(show: Callable[..., None], *args: object, width: int = 80, colour: bool = False) -> str:
    sheet = Sheet(width=width, paint=Paint(colour=colour))
    show(sheet, *args)
    return sheet.text()


def test_a_sound_machine(golden: Callable[[str, str], None]) -> None:
    golden("doctor_sound", drawn(screen.doctor, SOUND, NOW))


def test_a_machine_that_needs_something(golden: Callable[[str, str], None]) -> None:
    golden("doctor_ubuntu", drawn(screen.doctor, UBUNTU, NOW))


def test_a_check_that_holds(golden: Callable[[str, str], None]) -> None:
    golden("sandbox_check", drawn(screen.checked, CheckedHere(HELD, ASKED, STANDS, Path("~/state"))))


def test_a_check_that_does_not_hold_on_a_wide_screen(golden: Callable[[str, str], None]) -> None:
    golden("sandbox_breached", drawn(screen.checked, CheckedHere(BREACHED, ASKED, NEVER, Path("~/state")), width=120))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("colour", [False, True])
def test_no_line_is_wider_than_the_screen(width: int, colour: bool) -> None:
    for show, args in (
        (screen.doctor, (SOUND, NOW)),
        (screen.checked, (CheckedHere(HELD, ASKED, STANDS, Path("~/state")),)),
        (screen.checked, (CheckedHere(BREACHED, ASKED, NEVER, Path("~/state")),)),
    ):
        text = drawn(show, *args, width=width, colour=colour)
        assert [line for line in text.splitlines() if columns(line) > width] == []


def test_colour_never_says_anything_alone() -> None:
    for show, args in (
        (screen.doctor, (UBUNTU, NOW)),
        (screen.checked, (CheckedHere(BREACHED, ASKED, NEVER, Path("x")),)),
    ):
        text = drawn(show, *args)
        assert "\x1b" not in text
        assert "✖" in text


def test_what_a_probe_met_cannot_act_on_the_screen() -> None:
    row = replace(rows(breached=(1,))[0], detail="got \x1b[2J through", what="reads \u202esecret")
    text = drawn(screen.checked, CheckedHere(replace(BREACHED, rows=(row,)), ASKED, NEVER, Path("x")))
    assert "\\x1b[2J" in text
    assert "\\u202e" in text


# The commands


@pytest.mark.parametrize(("seen", "code"), [(SOUND, 0), (UBUNTU, 4)])
def test_the_doctor_ends_with_4_where_something_blocks(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, seen: Doctor, code: int
) -> None:
    monkeypatch.setattr(app, "doctor", lambda root: seen, raising=False)
    said, out, _ = terminal("doctor")
    assert (said, out.splitlines()[0].startswith(f"THIS MACHINE GIVES {seen.tier}")) == (code, True)
    said, body = terminal.json("doctor")
    assert (said, body["exit_code"], body["tier"]) == (code, code, seen.tier.value)
    assert [each["commands"] for each in body["remedies"]] == [list(each.commands) for each in seen.remedies]
    assert body["facts"]["system"]["id"] == seen.facts.system.id


@pytest.mark.parametrize(
    ("made", "least", "code"),
    [(HELD, Tier.T2, 0), (HELD, Tier.T1, 0), (HELD, Tier.T3, 1), (BREACHED, Tier.T1, 1), (BREACHED, Tier.T0, 0)],
)
def test_a_check_ends_with_0_where_its_tier_is_enough(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, made: Checked, least: Tier, code: int
) -> None:
    def check(root: Path | None, tell: Callable[[int, int, str], None]) -> CheckedHere:
        for number in range(4):
            tell(number, 4, f"probe-{number}")
        return CheckedHere(made, replace(ASKED, least=least), NEVER, Path("x"))

    monkeypatch.setattr(app, "check_sandbox", check, raising=False)
    said, out, err = terminal("sandbox", "check")
    assert (said, err) == (code, "· checks the sandbox: 4 probes\n")
    assert out.startswith(
        f"CONTAINMENT {made.tier}: {made.held} of {made.scored} probes held, 2 of them with a control\n"
    )
    said, body = terminal.json("sandbox", "check")
    assert (said, body["enough"], body["exit_code"]) == (code, code == 0, code)
    assert (body["tier"], body["held"], body["scored"], body["controlled"]) == (made.tier.value, made.held, 3, 2)
    assert [row["inside"] for row in body["rows"]] == [row.inside for row in made.rows]


def test_a_check_of_nothing_ends_with_4(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(root: Path | None, tell: object) -> CheckedHere:
        raise Unavailable("bubblewrap is not installed", help="install the package `bubblewrap`")

    monkeypatch.setattr(app, "check_sandbox", check, raising=False)
    code, out, err = terminal("sandbox", "check")
    assert (code, out) == (4, "")
    assert "bubblewrap is not installed" in err


def test_on_a_terminal_progress_passes_and_is_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    with Passing() as passing:
        passing.tell(1, 4, "fork-bomb")
        passing.tell(2, 4, "\x1b[31mloopback")
    err = capsys.readouterr().err
    assert "\r\x1b[K█████···············    1 of 4  fork-bomb" in err
    assert "\\x1b[31mloopback" in err
    assert err.endswith("\r\x1b[K")


# What is asked for


def test_the_policy_asks_by_the_level_of_its_lineage() -> None:
    story = loop()
    asked = asked_in(story.state, "toy")
    assert (asked.least, asked.seconds_max) == (Tier.T2, 604800)
    text: dict[str, Any] = document()
    text["levels"][0]["sandbox"] = "T1"
    text["sandbox"]["check_seconds_max"] = 3600
    asked = asked_in(loop(text).state, "toy")
    assert (asked.least, asked.seconds_max) == (Tier.T1, 3600)


def test_without_a_policy_the_default_tier_is_asked_for() -> None:
    assert asked_in(State(), "toy").least is Tier.T2
