"""Every mistake in a policy is named by its place, in one sentence that says what was found and what was expected."""

from __future__ import annotations

import base64
import copy
import hashlib
import math
from collections.abc import Callable
from typing import Any

import pytest

from keyturn.core.policy import Policy
from keyturn.core.policy_change import change, needs_quorum
from keyturn.core.policy_contradictions import Problem
from keyturn.core.policy_reading import PUBLIC, read_policy
from keyturn.core.terms import Custody, Gate, Tier
from tests.core.examples import document, gate, key, person, policy, suite

Change = Callable[[dict[str, Any]], object]


def problems(change: Change) -> list[tuple[str, str]]:
    text = document()
    change(text)
    read = read_policy(text)
    assert isinstance(read, tuple), "this policy was accepted"
    return [(problem.path, problem.message) for problem in read]


def put(path: str, value: object) -> Change:
    """Set what `path` names; a number in it is a row."""

    def change(text: dict[str, Any]) -> None:
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        place: Any = text
        for part in way:
            place = place[part]
        place[last] = value

    return change


def drop(path: str) -> Change:
    def change(text: dict[str, Any]) -> None:
        *way, last = path.split(".")
        place: Any = text
        for part in way:
            place = place[int(part) if part.isdigit() else part]
        del place[last]

    return change


def add(path: str, row: dict[str, Any]) -> Change:
    return lambda text: text[path].append(row)


def both(*changes: Change) -> Change:
    return lambda text: [change(text) for change in changes]


ROWS: list[tuple[str, Change, str, str]] = [
    # what a table may hold
    ("unknown key at the top", put("colour", "red"), "colour", "`colour` is not a key of this table"),
    ("unknown key in a table", put("project.colour", 1), "project.colour", "`colour` is not a key of this table"),
    ("unknown key in a row", put("people.1.age", 3), "people[1].age", "`age` is not a key of this table"),
    ("a limit that raises", put("thresholds.0.raises_to", 1), "thresholds[0].raises_to",
     "`raises_to` is not a key of this table"),
    ("missing table", drop("pace"), "pace", "`pace` is missing; a table is expected"),
    ("missing list", drop("people"), "people", "`people` is missing; a list of tables is expected"),
    ("missing key", drop("thresholds.0.line"), "thresholds[0].line",
     "`line` is missing; a number from 0.001 to 0.999 is expected"),
    ("missing schema", drop("schema"), "schema", "`schema` is missing; a whole number from 1 to 1 is expected"),
    ("a later schema", put("schema", 2), "schema", "`schema` is 2; 1 to 1 is expected"),
    ("a table that is none", put("lease", 3), "lease", "`lease` is `3`; a table is expected"),
    ("a list that is none", put("gates", {}), "gates", "`gates` is `{}`; a list of tables is expected"),
    ("a row that is no table", put("gates", ["release"]), "gates[0]", "`gates[0]` is not a table"),
    ("empty people", put("people", []), "people", "`people` is empty; at least one is expected"),
    ("empty charter", put("charter", []), "charter", "`charter` is empty; at least one is expected"),
    ("empty thresholds", put("thresholds", []), "thresholds", "`thresholds` is empty; at least one is expected"),
    # types
    ("text for a number", put("pace.unaudited_max", "3"), "pace.unaudited_max",
     "`unaudited_max` is `'3'`; a whole number from 1 to 1000 is expected"),
    ("bool as a number", put("pace.unaudited_max", True), "pace.unaudited_max",
     "`unaudited_max` is `True`; a whole number from 1 to 1000 is expected"),
    ("bool as a line", put("thresholds.0.line", True), "thresholds[0].line",
     "`line` is `True`; a number from 0.001 to 0.999 is expected"),
    ("number as a bool", put("project.demo", 1), "project.demo", "`demo` is `1`; true or false is expected"),
    ("number as a name", put("people.0.id", 7), "people[0].id", "`id` is `7`; a text is expected"),
    ("number as a kind", put("thresholds.0.kind", 7), "thresholds[0].kind", "`kind` is `7`; a text is expected"),
    ("a fraction of persons", put("gates.0.quorum.0.persons", 1.5), "gates[0].quorum[0].persons",
     "`persons` is `1.5`; a whole number from 1 to 100 is expected"),
    ("not a number", put("thresholds.0.line", math.nan), "thresholds[0].line",
     "`line` is nan; 0.001 to 0.999 is expected"),
    ("an infinite lease", put("lease.seconds", math.inf), "lease.seconds", "`seconds` is inf; 0.5 to 60 is expected"),
    ("a text for a list", put("people.0.roles", "safety"), "people[0].roles",
     "`roles` is `'safety'`; a list of texts is expected"),
    ("a number in a list", put("people.0.roles", ["safety", "board", 1]), "people[0].roles",
     "`roles` holds something that is not a text"),
    # ranges and spellings
    ("0 of n", put("gates.0.quorum.0.persons", 0), "gates[0].quorum[0].persons",
     "`persons` is 0; 1 to 100 is expected"),
    ("no error at all", put("thresholds.0.lifetime_error", 0), "thresholds[0].lifetime_error",
     "`lifetime_error` is 0; 1e-09 to 0.2 is expected"),
    ("a coin toss", put("thresholds.0.lifetime_error", 0.5), "thresholds[0].lifetime_error",
     "`lifetime_error` is 0.5; 1e-09 to 0.2 is expected"),
    ("a line at the end", put("thresholds.0.line", 1.0), "thresholds[0].line",
     "`line` is 1; 0.001 to 0.999 is expected"),
    ("a negative margin", put("thresholds.0.margin", -0.1), "thresholds[0].margin",
     "`margin` is -0.1; 0 to 0.9 is expected"),
    ("a raise to level 0", put("thresholds.1.raises_to", 0), "thresholds[1].raises_to",
     "`raises_to` is 0; 1 to 9 is expected"),
    ("no pace", put("pace.unaudited_max", 0), "pace.unaudited_max", "`unaudited_max` is 0; 1 to 1000 is expected"),
    ("a capital name", put("people.0.id", "Ada"), "people[0].id",
     "`id` is `Ada`; a text like `[a-z0-9][a-z0-9-]{0,40}` is expected"),
    ("a way out of the folder", put("subject.files.0.name", "../log.db"), "subject.files[0].name",
     "`name` is `../log.db`; a text like `[A-Za-z0-9][A-Za-z0-9._-]{0,80}` is expected"),
    ("a short digest", put("subject.founder", "sha256:abc"), "subject.founder",
     "`founder` is `sha256:abc`; a text like `sha256:[0-9a-f]{64}` is expected"),
    ("a key with a line feed", put("people.0.keys.0.public", key("ada-0") + "\n"), "people[0].keys[0].public",
     f"`public` is `{key('ada-0')}\n`; a text like `{PUBLIC.pattern}` is expected"),
    ("an unknown kind of threshold", put("thresholds.0.kind", "wish"), "thresholds[0].kind",
     "`kind` is `wish`; one of limit, capability, claim is expected"),
    ("an unknown reference", put("thresholds.0.reference", "uncle"), "thresholds[0].reference",
     "`reference` is `uncle`; one of , parent, audited, founder is expected"),
    ("an unknown kind of key", put("people.0.keys.0.kind", "rsa"), "people[0].keys[0].kind",
     "`kind` is `rsa`; one of ed25519, ssh, simulated is expected"),
    ("an unknown tier", put("levels.0.sandbox", "T9"), "levels[0].sandbox",
     "`sandbox` is `T9`; one of T0, T1, T2, T3, T4 is expected"),
    ("an unknown gate", put("gates.0.action", "escape"), "gates[0].action",
     "`action` is `escape`; one of train, release, replicate, publish, tune, resume, amend is expected"),
    ("an unknown tripwire", put("tripwires.0.when", "bored"), "tripwires[0].when",
     "`when` is `bored`; one of decoy_opened, processes_left, limit_reached, undeclared_output is expected"),
    ("a tripwire that looks on", put("tripwires.0.do", "watch"), "tripwires[0].do",
     "`do` is `watch`; one of halt, incident is expected"),
    ("no command", put("subject.improve", []), "subject.improve", "`improve` is empty; at least one item is expected"),
    ("no roles", put("people.0.roles", []), "people[0].roles", "`roles` is empty; at least one item is expected"),
    ("no key", put("people.0.keys", []), "people[0].keys", "`keys` is empty; at least one is expected"),
    ("no quorum", put("gates.0.quorum", []), "gates[0].quorum", "`quorum` is empty; at least one is expected"),
    # what no table shows alone
    ("empty require", put("gates.0.require", []), "gates[0].require",
     "`require` is empty; at least one item is expected"),
    ("a release without pace", put("gates.2.require", ["lineage", "evidence", "fresh", "quorum"]), "gates[2].require",
     "`release` does not require `pace`"),
    ("a requirement that nothing keeps", put("gates.0.require", ["quorum", "luck"]), "gates[0].require",
     "`luck` is not a requirement of `train`"),
    ("the same person twice", add("people", person("ada", "safety", keys=0) | {"keys": person("x", "y")["keys"]}),
     "people", "`ada` stands more than once"),
    ("one key for two people", put("people.1.keys.0.public", key("ada-0")), "people.keys",
     f"`{key('ada-0')}` stands more than once"),
    ("the same threshold twice", lambda t: t["thresholds"].append(t["thresholds"][0]), "thresholds",
     "`kind` stands more than once"),
    ("the same suite twice", add("suites", suite("kindness", "other")), "suites", "`kindness` stands more than once"),
    ("the same level twice", add("levels", {"id": 1, "sandbox": "T2"}), "levels", "`1` stands more than once"),
    ("the same clause twice", lambda t: t["charter"].append(t["charter"][0]), "charter",
     "`be-kind` stands more than once"),
    ("the same file twice", lambda t: t["subject"]["files"].append(t["subject"]["files"][0]), "subject.files",
     "`subject.py` stands more than once"),
    ("the same gate twice", add("gates", gate("train", 0, safety=1)), "gates",
     "`train at level 0` stands more than once"),
    ("a bank that is no suite", put("charter.0.bank", "dreams"), "charter[0].bank",
     "`dreams` is not a suite of this policy; known: kindness, strength"),
    ("unknown suite", put("thresholds.1.suite", "dreams"), "thresholds[1].suite",
     "`dreams` is not a suite of this policy; known: kindness, strength"),
    ("a charter that nothing tests", put("thresholds.0.suite", "strength"), "charter[0]",
     "no `limit` threshold tests the clause `be-kind`; an untested charter is decoration"),
    ("no level 0", both(put("levels.0.id", 2), put("gates", [gate("train", 1, safety=1)])), "levels",
     "there is no level 0, on which every lineage starts"),
    ("a raise to nowhere", put("thresholds.1.raises_to", 4), "thresholds[1].raises_to",
     "`4` is not a level of this policy; known: 0, 1"),
    ("a margin as wide as the line", put("thresholds.0.margin", 0.5), "thresholds[0].margin",
     "the margin 0.5 leaves nothing below the line 0.5"),
    ("a gate on an unknown level", put("gates.7.level", 5), "gates[7].level",
     "`5` is not a level of this policy; known: 0, 1"),
    ("a gate that we cannot open: publish", add("gates", gate("publish", 0, safety=1)), "gates[8].action",
     "the gate `publish` cannot be opened by this Keyturn; a row for it would promise too much"),
    ("a gate that we cannot open: replicate", add("gates", gate("replicate", 0, safety=1)), "gates[8].action",
     "the gate `replicate` cannot be opened by this Keyturn; a row for it would promise too much"),
    ("a gate that we cannot open: tune", add("gates", gate("tune", 0, safety=1)), "gates[8].action",
     "the gate `tune` cannot be opened by this Keyturn; a row for it would promise too much"),
    ("a role that nobody holds", put("gates.0.quorum", [{"role": "pope", "persons": 1}]), "gates[0].quorum[0]",
     "1 person(s) in the role `pope` are asked for; 0 are enrolled"),
    ("more persons than there are", put("gates.0.quorum", [{"role": "safety", "persons": 3}]), "gates[0].quorum[0]",
     "3 person(s) in the role `safety` are asked for; 2 are enrolled"),
    ("a role with two seats", put("gates.0.quorum", [{"role": "safety", "persons": 1}] * 2), "gates[0].quorum",
     "the role `safety` has more than one seat; one seat with the number of persons is expected"),
    ("one person for every seat",
     put("gates.0.quorum", [{"role": "safety", "persons": 2}, {"role": "board", "persons": 1}]), "gates[0].quorum",
     "3 distinct persons are asked for; only 2 could sit: nobody could meet this quorum"),
    ("enough people, but not for these seats",
     both(put("people.0.roles", ["safety", "board", "law"]), put("people.1.roles", ["safety"]),
          put("gates", [gate("train", 0, board=1, law=1, safety=1)])), "gates[0].quorum",
     "3 distinct persons are asked for; only 2 could sit: nobody could meet this quorum"),
    ("a warrant that leaves nobody to release",
     both(put("project.separate_warrant", True), put("people.1.roles", ["engineering"]),
          put("gates", [gate("train", 0, safety=1), gate("release", 0, safety=1)])), "gates[1].quorum",
     "`separate_warrant` asks for 2 distinct persons for warrant and release; only 1 could sit"),
    ("no witness and none forgone", put("witnesses.allow_unwitnessed", False), "witnesses.allow_unwitnessed",
     "no witness is required and `allow_unwitnessed` is not true; no permit could ever be issued"),
    ("simulated key without demo", put("people.2.keys.0.kind", "simulated"), "people[2].keys[0].kind",
     "`cyd` has a simulated key, but `demo` is not true"),
    ("custody too weak", put("people.2.keys.0.custody", "shared-account"), "people[2].keys[0].custody",
     "custody `shared-account` is weaker than the least, `host`"),
    ("custody left unsaid", drop("people.2.keys.0.custody"), "people[2].keys[0].custody",
     "custody `shared-account` is weaker than the least, `host`"),
    ("the service as a person", put("people.2.id", "service"), "people[2].id",
     "`service` is a part of Keyturn; a human being is expected"),
    ("the subject as a person", put("people.2.id", "subject"), "people[2].id",
     "`subject` is a part of Keyturn; a human being is expected"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "path", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_mistake_is_named_in_full(change: Change, path: str, message: str) -> None:
    assert problems(change) == [(path, message)]


def test_no_row_above_stands_twice() -> None:
    assert len({row[0] for row in ROWS}) == len(ROWS)


def test_all_mistakes_are_named_at_once_and_in_the_order_of_reading() -> None:
    found = problems(both(put("schema", 2), put("people.0.id", "Ada"), put("lease.seconds", 0), put("colour", 1)))
    assert [path for path, _ in found] == ["schema", "people[0].id", "lease.seconds", "colour"]


def test_a_mistake_says_what_to_do() -> None:
    text = document(colour=1)
    [problem] = read_policy(text)  # type: ignore[misc]  # it is no policy
    assert problem == Problem(
        "colour",
        "`colour` is not a key of this table",
        "remove it; the keys are: applicability, charter, freshness, gates, governor, lease, levels, pace, people, "
        "project, sandbox, schema, subject, suites, thresholds, tripwires, witnesses",
    )


def test_a_policy_is_read_as_it_is_written() -> None:
    text = document()
    before = copy.deepcopy(text)
    read = policy()
    assert text == before
    assert read.document == text
    assert read.custody_least is Custody.HOST
    assert read.levels[0].unaudited_max == 2, "a level without a pace of its own has that of the policy"
    assert read.levels[1].unaudited_max == 1
    assert read.levels[1].sandbox is Tier.T3
    assert read.row(Gate.RELEASE, 1) is not None
    assert read.row(Gate.PUBLISH, 0) is None
    assert read.holder(key("ben-0")) == read.person("ben")
    assert read.holder(key("nobody")) is None


def test_what_is_left_out_is_never_the_looser_choice() -> None:
    text = document()
    for name in ("demo", "custody_least"):
        text["project"].pop(name, None)
    del text["tripwires"]
    read = read_policy(text)
    assert isinstance(read, Policy)
    assert read.demo is False
    assert read.separate_warrant is False
    assert read.tripwires == ()
    text["witnesses"].pop("allow_unwitnessed")
    assert isinstance(read_policy(text), tuple)


def test_one_of_one_is_shown_as_a_single_person() -> None:
    for level, rows in (("some", (1, 2)), ("every", (1, 1)), ("no", (2, 2))):
        text = document()
        text["gates"] = [gate("release", number, safety=persons) for number, persons in enumerate(rows)]
        read = read_policy(text)
        assert isinstance(read, Policy)
        assert read.single_person is (level != "no")


@pytest.mark.parametrize("junk", [None, 0, "", [], {}, [[]], True, 1e999, "x" * 100])
def test_junk_anywhere_is_refused_and_never_raises(junk: object) -> None:
    for name in document():
        text: dict[str, Any] = {**document(), name: junk}
        fine = junk == [] and name == "tripwires"
        assert isinstance(read_policy(text), Policy if fine else tuple), name


SERVICE = key("next-service")


def vkey(name: str) -> str:
    """A verifier key of a log, in one piece."""
    typed = b"\x01" + bytes(32)
    said = hashlib.sha256(name.encode() + b"\n" + typed).hexdigest()[:8]
    return f"{name}+{said}+{base64.b64encode(typed).decode()}"


ELSEWHERE = vkey("elsewhere.example/log")
OURS = vkey("toy.example/log")


@pytest.mark.parametrize(
    ("table", "path", "said"),
    [
        ({"service_key": "short"}, "governor.service_key", "`service_key` is `short`"),
        ({"service_key": key("ada-0")}, "governor", "`ada` is given a key of the governor's"),
        ({"log_keys": []}, "governor.log_keys", "`log_keys` is empty"),
        ({"log_keys": ["junk"]}, "governor.log_keys", "`junk` is no verifier key"),
        ({"log_keys": [ELSEWHERE]}, "governor.log_keys", "is not of the log `toy.example/log`"),
        (
            {"log_keys": [OURS] * 2},
            "governor.log_keys",
            "2 log keys, 1 of them distinct; 1 to 8 distinct are expected",
        ),
        ({"colour": 1}, "governor.colour", "`colour` is not a key of this table"),
    ],
)
def test_a_mistake_among_the_governor_s_keys_is_named(table: dict[str, Any], path: str, said: str) -> None:
    found = problems(put("governor", table))
    assert any(place == path and said in message for place, message in found), found


def test_a_policy_without_the_table_leaves_the_founding_s_keys() -> None:
    assert policy().governor.service_key == ""
    assert policy().governor.log_keys == ()
    named = read_policy(document(governor={"service_key": SERVICE}))
    assert isinstance(named, Policy)
    assert named.governor.service_key == SERVICE


def test_another_key_of_the_governor_s_always_needs_people() -> None:
    named = read_policy(document(governor={"service_key": SERVICE}))
    assert isinstance(named, Policy)
    for old, new in ((policy(), named), (named, policy())):
        (difference,) = change(old, new)
        assert (difference.path, difference.effect) == ("governor.service_key", "loosens")
        assert needs_quorum((difference,))
