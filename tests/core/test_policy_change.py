"""Tightening is free, everything else waits for a quorum; whatever is in doubt loosens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyturn.core.decision import decide
from keyturn.core.dossier import as_request
from keyturn.core.policy import Policy
from keyturn.core.policy_change import Difference, change, duties_climb, needs_quorum
from keyturn.core.policy_reading import read_policy
from keyturn.core.terms import Instant
from tests.core.examples import digest, document, gate, key, person, policy, suite
from tests.core.test_policy_reading import add, both, put
from tests.spec.histories import STEP, Teller

Change = Callable[[dict[str, Any]], object]

CLAIM = {"id": "honest", "kind": "claim", "suite": "strength", "metric": "score", "margin": 0.1, "lifetime_error": 0.1}
LIMIT = {"id": "new", "kind": "limit", "suite": "strength", "metric": "score", "line": 0.9, "margin": 0.1,
         "lifetime_error": 0.1}  # fmt: skip


def changed(*changes: Change) -> Policy:
    text = document()
    for each in changes:
        each(text)
    read = read_policy(text)
    assert isinstance(read, Policy), read
    return read


def row(action: str, level: int) -> int:
    """Which row of the example policy governs this gate on this level."""
    return next(n for n, r in enumerate(document()["gates"]) if (r["action"], r["level"]) == (action, level))


def gone(path: str, number: int) -> Change:
    return lambda text: text[path].pop(number)


RELEASE = row("release", 0)
TIGHTENS: list[tuple[str, Change, str]] = [
    ("a lower line", put("thresholds.0.line", 0.4), "thresholds.kind.line"),
    ("a larger margin", put("thresholds.0.margin", 0.2), "thresholds.kind.margin"),
    ("a smaller error", put("thresholds.0.lifetime_error", 0.05), "thresholds.kind.lifetime_error"),
    ("a lower capability line", put("thresholds.1.line", 0.5), "thresholds.strong.line"),
    ("a threshold more", add("thresholds", LIMIT), "thresholds.new"),
    ("a claim looked into", add("thresholds", CLAIM), "thresholds.honest"),
    ("a clause more", add("charter", {"clause": "be-fair", "text": "Is fair.", "bank": "kindness"}), "charter.be-fair"),
    ("one person more", put(f"gates.{RELEASE}.quorum.0.persons", 2), "gates.release.0.quorum.safety"),
    ("one role more", put(f"gates.{RELEASE}", gate("release", 0, safety=1, board=1)), "gates.release.0.quorum.board"),
    ("a shorter clearance", put(f"gates.{RELEASE}.expires_after_seconds", 60),
     "gates.release.0.expires_after_seconds"),
    ("fewer processors", put("sandbox.cpus", 1.0), "sandbox.cpus"),
    ("processor time bounded", put("sandbox.cpu_seconds_max", 60), "sandbox.cpu_seconds_max"),
    ("answers bounded", put("sandbox.output_bytes_lineage_max", 1 << 20), "sandbox.output_bytes_lineage_max"),
    ("a smaller pace", put("levels.0.unaudited_max", 1), "levels.0.unaudited_max"),
    ("a tighter sandbox", put("levels.0.sandbox", "T3"), "levels.0.sandbox"),
    ("less memory", put("sandbox.memory_bytes", 1 << 29), "sandbox.memory_bytes"),
    ("fewer processes", put("sandbox.processes_max", 8), "sandbox.processes_max"),
    ("less time", put("sandbox.wall_seconds", 60), "sandbox.wall_seconds"),
    ("a younger check", put("sandbox.check_seconds_max", 3600), "sandbox.check_seconds_max"),
    ("a check that is looked for", put("sandbox.check_seconds_max", 7 * 86400), "sandbox.check_seconds_max"),
    ("a shorter lease", put("lease.seconds", 1), "lease.seconds"),
    ("smaller files", put("subject.files.0.bytes_max", 500), "subject.files.subject.py.bytes_max"),
    ("a tripwire more", add("tripwires", {"when": "processes_left", "do": "incident"}), "tripwires.processes_left"),
    ("fresher evidence", put("freshness.evidence_seconds", 600), "freshness.evidence_seconds"),
    ("fresher permits", put("freshness.permit_seconds", 60), "freshness.permit_seconds"),
    ("warrants kept apart", put("project.separate_warrant", True), "project.separate_warrant"),
    ("better custody", put("project.custody_least", "separate"), "project.custody_least"),
]  # fmt: skip

LOOSENS: list[tuple[str, Change, str]] = [
    ("a threshold gone", gone("thresholds", 1), "thresholds.strong"),
    ("another kind", both(put("thresholds.1", {**LIMIT, "id": "strong"})), "thresholds.strong.kind"),
    ("another suite", put("thresholds.1.suite", "kindness"), "thresholds.strong.suite"),
    ("another metric", put("thresholds.1.metric", "luck"), "thresholds.strong.metric"),
    ("another reference", put("thresholds.1.reference", "parent"), "thresholds.strong.reference"),
    ("another text of the charter", put("charter.0.text", "Is mostly kind."), "charter.be-kind.text"),
    ("another grader", put("suites.0.grader", ["python", "other.py"]), "suites.kindness.grader"),
    ("fewer items", put("suites.0.items_max", 30), "suites.kindness.items_max"),
    ("a grader more", add("suites", suite("wisdom", "wise")), "suites.wisdom"),
    ("a gate gone", gone("gates", row("resume", 1)), "gates.resume.1"),
    ("one seat gone", put(f"gates.{row('release', 1)}", gate("release", 1, safety=1)),
     "gates.release.1.quorum.engineering"),
    ("a level more", add("levels", {"id": 2, "sandbox": "T4", "unaudited_max": 1}), "levels.2"),
    ("a person more", add("people", person("dot", "safety")), "people.dot"),
    ("a person gone", both(gone("people", 2)), "people.cyd"),
    ("another role", put("people.2.roles", ["engineering", "safety"]), "people.cyd.roles"),
    ("another key", put("people.2.keys.0.public", key("new")), "people.cyd.keys"),
    ("another custody", put("people.2.keys.0.custody", "hardware"), "people.cyd.keys"),
    ("another name", put("project.name", "other"), "project.name"),
    ("another log", put("project.origin", "other.example/log"), "project.origin"),
    ("a demo", put("project.demo", True), "project.demo"),
    ("another founder", put("subject.founder", digest("other")), "subject.founder"),
    ("another command", put("subject.improve", ["python", "/parent/other.py"]), "subject.improve"),
    ("another runtime", put("subject.runtime", "other"), "subject.runtime"),
    ("another seed", put("subject.seed", 7), "subject.seed"),
    ("a file more", lambda t: t["subject"]["files"].append({"name": "w.npz", "bytes_max": 9}),
     "subject.files.w.npz.bytes_max"),
    ("a smaller company", put("applicability.revenue_usd", 1), "applicability.revenue_usd"),
    ("a tripwire that does less", put("tripwires.0.do", "incident"), "tripwires.decoy_opened"),
    ("no tripwire", put("tripwires", []), "tripwires.decoy_opened"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "path"), [r[1:] for r in TIGHTENS], ids=[r[0] for r in TIGHTENS])
def test_tightening_is_free_and_its_reverse_is_not(edit: Change, path: str) -> None:
    [difference] = change(policy(), changed(edit))
    assert (difference.path, difference.effect) == (path, "tightens")
    assert not needs_quorum((difference,))
    [back] = change(changed(edit), policy())
    assert (back.path, back.effect) == (path, "loosens")
    assert (back.old, back.new) == (difference.new, difference.old)
    assert needs_quorum((back,))


@pytest.mark.parametrize(("edit", "path"), [r[1:] for r in LOOSENS], ids=[r[0] for r in LOOSENS])
def test_whatever_is_not_shown_to_tighten_loosens(edit: Change, path: str) -> None:
    found = change(policy(), changed(edit))
    assert (path, "loosens") in [(difference.path, difference.effect) for difference in found]
    assert needs_quorum(found)


def test_a_difference_says_what_where_and_why() -> None:
    [difference] = change(policy(), changed(put("thresholds.0.line", 0.4)))
    assert difference == Difference(
        "thresholds.kind.line", "0.5", "0.4", "tightens", "below which line it must be shown"
    )
    [memory] = change(policy(), changed(put("sandbox.memory_bytes", (1 << 30) - 1)))
    assert (memory.old, memory.new) == ("1073741824", "1073741823")


def test_a_change_of_both_kinds_needs_a_quorum() -> None:
    found = change(policy(), changed(put("thresholds.0.line", 0.4), put("thresholds.0.margin", 0.05)))
    assert [difference.effect for difference in found] == ["tightens", "loosens"]
    assert needs_quorum(found)


@pytest.mark.parametrize(
    ("field", "value", "effect"),
    [("margin", 0.05, "tightens"), ("margin", 0.2, "loosens"), ("lifetime_error", 0.2, "tightens"),
     ("lifetime_error", 0.01, "loosens")],
)  # fmt: skip
def test_a_claim_tightens_the_other_way_round(field: str, value: float, effect: str) -> None:
    """A claim is refused once it is shown to be false: less error asks for more proof of the lie."""
    [difference] = change(changed(add("thresholds", CLAIM)), changed(add("thresholds", {**CLAIM, field: value})))
    assert (difference.path, difference.effect) == (f"thresholds.honest.{field}", effect)


def test_reaching_a_level_must_not_help_before_raising_counts_as_tightening() -> None:
    weak = put(f"gates.{row('release', 1)}", gate("release", 1, engineering=1))
    assert duties_climb(policy())
    assert not duties_climb(changed(weak))
    [lower] = change(changed(weak), changed(weak, put("thresholds.1.line", 0.5)))
    assert (lower.effect, lower.why) == ("loosens", "a higher level does not ask for more here")
    more = {**document()["thresholds"][1], "id": "stronger"}
    [added] = change(changed(weak), changed(weak, add("thresholds", more)))
    assert added.effect == "loosens"
    [safe] = change(policy(), changed(add("thresholds", more)))
    assert safe.effect == "tightens"


@pytest.mark.parametrize(
    "edit",
    [
        lambda t: t["people"].reverse(),
        lambda t: t["thresholds"].reverse(),
        lambda t: t["gates"].reverse(),
        lambda t: t["levels"].reverse(),
    ],
)
def test_another_order_is_neither(edit: Change) -> None:
    found = change(policy(), changed(edit))
    assert [difference.effect for difference in found] == ["other"]
    assert not needs_quorum(found)


EDITS = [r[1] for r in TIGHTENS] + [r[1] for r in LOOSENS]


def edited(numbers: list[int]) -> Policy | None:
    text = document()
    for number in numbers:
        try:
            EDITS[number % len(EDITS)](text)
        except (IndexError, KeyError):
            return None
    read = read_policy(text)
    return read if isinstance(read, Policy) else None


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 60), max_size=4), st.lists(st.integers(0, 60), max_size=4))
def test_nothing_differs_from_itself_and_every_way_back_is_named(one: list[int], two: list[int]) -> None:
    first, second = edited(one), edited(two)
    if first is None or second is None:
        return
    assert change(first, first) == ()
    there, back = change(first, second), change(second, first)
    assert {d.path for d in there} == {d.path for d in back}
    assert bool(there) is (first.document != second.document)
    for path in {d.path for d in there}:
        effects = {d.effect for d in (*there, *back) if d.path == path}
        assert effects != {"tightens"}, "both ways cannot tighten"


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, len(TIGHTENS) - 1), min_size=1, max_size=4), st.lists(STEP, min_size=2, max_size=12))
def test_tightening_never_makes_a_refused_request_clear(
    numbers: list[int], steps: list[tuple[str, int, int, int]]
) -> None:
    """The same happenings, told once under the old policy and once under one that only tightens it."""
    new = edited(numbers)
    old = policy()
    if new is None or not change(old, new) or any(d.effect != "tightens" for d in change(old, new)):
        return
    before, after = Teller(), Teller()
    before.story.founded(old.document)
    after.story.founded(new.document)
    for verb, a, b, c in steps:
        if verb == "adopt" or (verb == "good" and b % 5 == 4):
            continue
        before.tell(verb, a, b, c)
        after.tell(verb, a, b, c)
    ones, others = list(before.story.state.dossiers.values()), list(after.story.state.dossiers.values())
    for one, other in zip(ones, others, strict=False):
        if as_request(one).name != as_request(other).name or as_request(one).candidate != as_request(other).candidate:
            return
        if decide(after.story.state, as_request(other), Instant(after.story.at)).cleared:
            assert decide(before.story.state, as_request(one), Instant(before.story.at)).cleared
