"""What commands promise to scripts: exit codes, one JSON object, names by prefix, pages, and errors in two lines."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyturn import app
from keyturn.app.verifying import Verified
from keyturn.cli import context, screen
from keyturn.cli.looking import find_dossier
from keyturn.cli.main import build_parser
from keyturn.core.errors import Conflict, MalformedInput, TamperDetected, Unavailable
from keyturn.core.finding import Decision, Finding, Refused
from keyturn.core.policy_contradictions import Problem
from keyturn.core.terms import Digest, Gate
from keyturn.flow.policy import PolicyProblems
from tests.cli.conftest import Terminal
from tests.cli.fake import clock
from tests.house.test_documents import commands

LOOKING = [
    ("status",),
    ("dossier", "show", "c6"),
    ("candidate", "show", "c1"),
    ("trial", "show", "c1/kind"),
    ("trial", "replay", "c1/kind"),
    ("lineage", "show"),
    ("permit", "show"),
    ("log", "list"),
    ("log", "replay"),
    ("person", "list"),
    ("incident", "list"),
]


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_json_is_exactly_one_object(terminal: Terminal, words: tuple[str, ...]) -> None:
    code, out, _ = terminal(*words, "--json")
    assert code == 0
    assert out.count("\n") == 1
    assert out.isascii()
    assert isinstance(json.loads(out), dict)


def test_every_command_of_the_contract_is_there() -> None:
    contract = """init|run|status|doctor|sandbox check|demo|key new|key rotate|person list|policy check|policy diff
        |policy adopt
        |warrant give|lineage show|candidate show|trial show|trial watch|trial replay|dossier show
        |approval give|approval refuse
        |permit show|permit explode|permit revoke|verify permit|verify log
        |log list|log tiles|log prove|log state|log key|log check|log fsck|log blob|log erase
        |log replay|log export|audit|halt|freeze|thaw|resume|incident list|incident show|incident aware|loop serve
        |openevolve init|openevolve run|openevolve demo|witness init|witness trust|witness distrust
        |witness show|witness serve
        |auditor init|auditor serve|auditor show|auditor check|auditor pardon"""
    assert commands(build_parser()) == {" ".join(each.split()) for each in contract.split("|")}


def test_shadow_mode_says_what_it_saw_and_holds_nothing(terminal: Terminal) -> None:
    code, out, _ = terminal("run", "--shadow")
    assert (code, terminal.project.said) == (0, [("run", (True, False))])
    assert "SHADOW  the loop went on by itself; nothing was held, nothing was issued" in out
    code, body = terminal.json("run", "--shadow")
    assert (code, body["word"], body["would_hold"]) == (0, "SHADOW", [])


def test_a_run_that_waits_for_people_is_held(terminal: Terminal) -> None:
    code, out, _ = terminal("run")
    assert (code, terminal.project.said) == (1, [("run", (False, False))])
    assert out.startswith("· candidate `c6` on \\x1b[31m`kind`\nHELD  release of `c6`")
    code, body = terminal.json("run")
    assert (code, body["word"], body["step"], body["exit_code"]) == (1, "HELD", "Hold", 1)


def test_a_halt_that_is_not_yet_published_is_shown_as_a_halt(terminal: Terminal) -> None:
    terminal.project.story.halted()
    assert terminal.project.state().published < terminal.project.state().noteworthy
    code, out, _ = terminal("status")
    assert code == 6
    assert out.splitlines()[1].startswith("HALTED")


def test_the_founder_is_named_as_every_candidate_is(terminal: Terminal) -> None:
    code, body = terminal.json("dossier", "show", "founder")
    assert (code, body["document"]["request"]) == (0, "FoundLineage")


def test_a_dossier_is_named_by_the_beginning_of_its_candidate_unless_a_digest_begins_so(terminal: Terminal) -> None:
    state, now = terminal.project.state(), context.now()
    sealed, other = state.candidates["c6"], state.candidates["c1"]
    digest = sealed.dossier.removeprefix("sha256:")[:12]
    state = replace(state, candidates={"c6-long": sealed, f"{digest}-x": other})
    assert find_dossier(state, "c6-l", now).digest == sealed.dossier
    assert find_dossier(state, digest, now).digest == sealed.dossier


def test_a_file_that_changes_nothing_is_not_called_adopted(terminal: Terminal) -> None:
    code, out, _ = terminal("policy", "adopt", "--as", "ada", "--reason", "tidy")
    assert code == 0
    assert out.startswith("nothing to adopt")


def test_nobody_signs_for_what_is_decided_already(terminal: Terminal) -> None:
    code, _, err = terminal("approval", "give", "c1", "--as", "ada", "--reason", "late")
    assert code == 5
    assert "CLEARED" in err
    assert terminal.project.said == []


def test_an_approval_after_a_refusal_is_not_called_enough(terminal: Terminal) -> None:
    terminal("approval", "refuse", "c6", "--as", "ada", "--reason", "no")
    _, out, _ = terminal("approval", "give", "c6", "--as", "ben", "--reason", "yes")
    assert "a refusal stands" in out
    assert "quorum is met" not in out


def test_a_run_into_a_halt_says_halted(terminal: Terminal) -> None:
    terminal.project.story.halted(name="h-2")
    terminal.project.story.status()
    assert terminal("run")[0] == 6


def test_an_approval_shows_the_evidence_again_and_then_what_is_missing(terminal: Terminal) -> None:
    code, out, _ = terminal("approval", "give", "c6", "--as", "ada", "--reason", "read it all")
    dossier = terminal.project.story.state.candidates["c6"].dossier
    assert (code, terminal.project.said) == (0, [("approve", (dossier, "ada", "read it all"))])
    assert "WHAT CHANGED" not in out
    assert "▲ TRIP      strong           shown above the line: raises the level" in out
    assert "still missing: 1 as engineering" in out


def test_a_refusal_is_as_short_to_give(terminal: Terminal) -> None:
    code, body = terminal.json("approval", "refuse", "c6", "--as", "ada", "--reason", "drifts")
    assert (code, body["word"], terminal.project.said[0][0]) == (0, "REFUSED", "refuse")


def test_nothing_is_signed_without_a_reason(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, _, err = terminal("approval", "give", "c6", "--as", "ada")
    assert (code, terminal.project.said) == (2, [])
    assert err == ("error: a decision needs a reason; none was given\nhelp: `--reason TEXT`, in a sentence\n")


@pytest.mark.parametrize(("enough", "code"), [(True, 0), (False, 1)])
def test_what_still_needs_people_is_refused(terminal: Terminal, enough: bool, code: int) -> None:
    terminal.project.enough = enough
    who = ("--as", "ada", "--reason", "because")
    assert terminal("warrant", "give", "--candidates", "3", *who)[0] == code
    assert terminal("resume", *who)[0] == code
    assert terminal("policy", "adopt", *who)[0] == code


def test_an_audit_names_a_generation_by_prefix(terminal: Terminal) -> None:
    lineage = terminal.project.story.state.lineage
    assert lineage is not None
    root = lineage.generations[1].root.removeprefix("sha256:")
    assert terminal("audit", root[:6], "--as", "ada", "--reason", "looked")[0] == 0
    assert terminal.project.said == [("audit", ("ada", root, "looked"))]


def test_awareness_shows_which_clocks_it_started(terminal: Terminal) -> None:
    from keyturn.core import events as ev

    opened: dict[str, Any] = {"incident": "i-1", "kind": "decoy", "summary": "x", "attempt": 1, "candidate": ""}
    terminal.project.story.add(ev.IncidentOpened, **opened, facts={}, exercise=True)
    terminal.project.rows = (clock("one", state="not started", due_at=None), clock("two", due_at=None))
    terminal.project.later = (clock("one"), clock("two", due_at=None))
    words = ("incident", "aware", "i-1", "--as", "ada", "--reason", "saw it", "--at", "2027-01-15T08:00:00Z")
    code, out, _ = terminal(*words)
    assert code == 0
    assert terminal.project.said[0][1][1]["at"] == 1_800_000_000_000
    assert "EXERCISE: ada signed `aware_at` for i-1; 1 clock changed" in out
    assert "    one\n" in out
    assert "    two\n" not in out


@pytest.mark.parametrize("text", ["yesterday", "2027-01-15T08:00:00"])
def test_a_moment_without_its_zone_is_none(terminal: Terminal, text: str) -> None:
    from keyturn.core import events as ev

    opened: dict[str, Any] = {"incident": "i-1", "kind": "decoy", "summary": "x", "attempt": 1, "candidate": ""}
    terminal.project.story.add(ev.IncidentOpened, **opened, facts={}, exercise=True)
    code, _, err = terminal("incident", "aware", "i-1", "--as", "ada", "--reason", "x", "--at", text)
    assert (code, terminal.project.said) == (2, [])
    assert "write it in UTC" in err


# --- names and pages


def test_a_unique_prefix_names_a_thing(terminal: Terminal) -> None:
    code, body = terminal.json("trial", "show", "c2/k")
    assert (code, body["id"]) == (0, "c2/kind")
    digest = terminal.project.story.state.candidates["c6"].dossier
    for name in (digest, digest[7:15], "sha256:" + digest[7:12], "c6"):
        assert terminal.json("dossier", "show", name)[1]["dossier"] == digest


def test_an_ambiguous_prefix_lists_what_fits(terminal: Terminal) -> None:
    code, _, err = terminal("trial", "show", "c2/")
    assert code == 0 or "fits" in err
    code, _, err = terminal("trial", "show", "c2")
    assert (code, err) == (
        2,
        "error: `c2` fits 2 trials; one is expected\nhelp: write more of it: c2/kind, c2/strong\n",
    )


def test_an_unknown_name_lists_what_there_is(terminal: Terminal) -> None:
    code, _, err = terminal("candidate", "show", "nobody")
    assert (code, err) == (
        2,
        "error: `nobody` is no candidate of this log\nhelp: known: c1, c2, c3, c4, c5, c6 (`keyturn lineage show`)\n",
    )


def test_an_exact_name_wins_over_longer_ones() -> None:
    assert context.find("thing", "a", {"a": 1, "ab": 2}, where="there") == 1


def test_pages_go_on_where_the_last_one_ended(terminal: Terminal) -> None:
    code, body = terminal.json("person", "list", "--limit", "1")
    assert (code, [each["id"] for each in body["items"]], body["next"], body["total"]) == (0, ["ada"], "ada", 2)
    code, body = terminal.json("person", "list", "--limit", "1", "--after", "ada")
    assert ([each["id"] for each in body["items"]], body["next"]) == (["ben"], None)
    assert terminal("person", "list", "--limit", "0")[0] == 2
    code, body = terminal.json("log", "list", "--limit", "2", "--after", "0")
    assert ([each["index"] for each in body["items"]], body["next"]) == ([1, 2], 2)
    assert terminal("log", "list", "--after", "x")[0] == 2


# --- errors


def refused() -> Refused:
    findings = tuple(Finding(f"rule_{n}", f"reason {n}", f"remedy {n}") for n in (1, 2))
    return Refused(Decision(Gate.RELEASE, findings, Digest("sha256:" + "0" * 64), 3))


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (refused(), 1),
        (MalformedInput("what", help="do"), 2),
        (TamperDetected("what", help="do"), 3),
        (Unavailable("what", help="do"), 4),
        (Conflict("what", help="do"), 5),
        (PermissionError(13, "Permission denied", "log.db"), 4),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_fault_has_its_exit_code(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int
) -> None:
    def fail(root: Path | None) -> None:
        raise fault

    monkeypatch.setattr(app, "open_project", fail, raising=False)
    left, out, err = terminal("status")
    assert (left, out) == (code, "")
    assert "Traceback" not in err
    assert err.strip()


def test_an_interruption_is_one_line(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(root: Path | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "open_project", interrupt, raising=False)
    code, _, err = terminal("run")
    assert (code, err.strip().count("\n")) == (130, 0)


def test_a_refusal_prints_every_finding(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path | None) -> None:
        raise refused()

    monkeypatch.setattr(app, "open_project", fail, raising=False)
    code, out, err = terminal("status", "--json")
    assert err == "error: reason 1\nhelp: remedy 1\nerror: reason 2\nhelp: remedy 2\n"
    assert (code, json.loads(out)["reasons"]) == (1, [["reason 1", "remedy 1"], ["reason 2", "remedy 2"]])


def test_every_mistake_of_a_policy_is_named_by_its_line(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        rows = ((3, Problem("people[0].id", "`id` is missing", "add `id`")), (9, Problem("pace", "is odd", "mend it")))
        raise PolicyProblems(path, rows)

    monkeypatch.setattr(app, "read_policy", fail, raising=False)
    code, _, err = terminal("policy", "check")
    assert code == 2
    assert err == (
        "error: keyturn.toml, line 3: people[0].id: `id` is missing\nhelp: add `id`\n"
        "error: keyturn.toml, line 9: pace: is odd\nhelp: mend it\n"
    )


@pytest.mark.parametrize("words", [("fly",), ("policy",), ("trial", "show"), ("status", "--proj", "x")])
def test_wrong_usage_is_two_lines_and_2(terminal: Terminal, words: tuple[str, ...]) -> None:
    code, out, err = terminal(*words)
    lines = err.strip().split("\n")
    assert (code, out, len(lines)) == (2, "", 2)
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("help: `keyturn")


def test_wrong_usage_is_one_object_for_a_script(terminal: Terminal) -> None:
    code, body = terminal.json("trial", "show")
    assert (code, body["exit_code"]) == (2, 2)
    assert body["error"].endswith("TRIAL")


# --- checks of what others hand over


def verified(*doubts: tuple[int, str, str]) -> Verified:
    return Verified(not doubts, doubts, None, None, True, True, ("ada",), ())


def test_a_doubted_permit_is_untrusted_with_every_doubt_numbered(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = verified((4, "the head is too old", "fetch a fresh bundle"), (9, "the weights differ", ""))
    monkeypatch.setattr(app, "verify_permit", lambda bundle, **_: found, raising=False)
    code, out, _ = terminal("verify", "permit", "b", "--trust", "t")
    assert code == 3
    assert out.startswith("REFUSED  2 doubts\nUNWITNESSED · SIMULATED PEOPLE\n")
    assert "✖ 4. the head is too old\n     help: fetch a fresh bundle\n✖ 9. the weights differ\n" in out


def test_a_sound_permit_says_that_no_weights_were_looked_at(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "verify_permit", lambda bundle, **_: verified(), raising=False)
    code, out, _ = terminal("verify", "permit", "b", "--trust", "t")
    assert code == 0
    assert "no weights were looked at" in out
    assert "no weights" not in terminal("verify", "permit", "b", "--trust", "t", "--weights", "w")[1]


def test_a_log_with_a_problem_is_tampered(terminal: Terminal) -> None:
    terminal.project.problems = ((17, "quorum_must_be_met", "cleared without a quorum"),)
    code, out, _ = terminal("log", "replay")
    assert code == 3
    assert "✖ entry 17: quorum_must_be_met: cleared without a quorum" in out


def test_a_trial_whose_logged_state_was_changed_differs(terminal: Terminal) -> None:
    from dataclasses import replace

    from keyturn.core.events import TrialAdvanced

    events = terminal.project.story.events
    place = next(n for n, e in enumerate(events) if isinstance(e, TrialAdvanced) and e.trial == "c1/kind")
    event = events[place]
    assert isinstance(event, TrialAdvanced)
    total = event.process["total"]
    assert isinstance(total, float)
    events[place] = replace(event, process={**event.process, "total": total + 2.0**-40})
    code, out, _ = terminal("trial", "replay", "c1/kind")
    assert code == 3
    assert f"✖ entry {place}: the logged state after item" in out


def test_a_permit_is_written_for_a_loading_node(terminal: Terminal, tmp_path: Path) -> None:
    bundle, trust = tmp_path / "x.permit", tmp_path / "trust.json"
    code, body = terminal.json("permit", "show", "p-c5", "--bundle", str(bundle), "--trust", str(trust))
    assert (code, body["word"], bundle.read_text(), trust.read_text()) == (0, "VALID", "p-c5", "trust")


# --- colours


class Console(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_and_only_if_nobody_minds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert screen.wants_colour(Console())
    assert not screen.wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not screen.wants_colour(Console())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not screen.wants_colour(Console())


def test_an_export_is_not_taken_for_a_damaged_log(terminal: Terminal, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "log.tar", "w") as made:
        made.addfile(tarfile.TarInfo("manifest.json"))
    code, _, err = terminal("verify", "log", str(tmp_path / "log.tar"))
    assert code == 2
    assert "is an export; a log is expected\nhelp: `keyturn log replay FILE --trust FILE`" in err


def test_the_log_s_keys_are_printed_whole(terminal: Terminal) -> None:
    code, out, _ = terminal("log", "key")
    assert code == 0
    assert out.splitlines() == terminal.json("log", "key")[1]["vkeys"]
