"""What `policy check` says about a policy, word for word, and what it must never leave unsaid."""

from __future__ import annotations

from typing import Any

import pytest

from keyturn.core.policy import Policy
from keyturn.core.policy_change import explain
from keyturn.core.policy_reading import read_policy
from keyturn.core.terms import Gate
from tests.core.examples import document, gate, person, policy
from tests.spec.histories import POLICIES

WORDS = """\
`toy` writes the log `toy.example/log`.
SINGLE PERSON: one person alone can clear a release.
UNWITNESSED: nobody else keeps the log's heads; whoever runs this machine could rewrite its history.
OUTPUT: nothing bounds what answers may say in all; weights could leave through them, piece by piece.
The gate `train` stands before leave to make candidates (a warrant).
  On level 0 it asks for 1 in the role `safety` (a single person), within 1 day.
  On level 1 it asks for 1 in the role `safety` (a single person), within 1 day.
The gate `release` stands before making a candidate the parent of the next generation.
  On level 0 it asks for 1 in the role `safety` (a single person), within 1 day, besides an unbroken lineage, \
evidence for every threshold, its freshness and the pace.
  On level 1 it asks for 1 in the role `safety` and 1 in the role `engineering`, within 1 day, besides an unbroken \
lineage, evidence for every threshold, its freshness and the pace.
The gate `replicate` cannot be opened: the policy has no row for it.
The gate `publish` cannot be opened: the policy has no row for it.
The gate `tune` cannot be opened: the policy has no row for it.
The gate `resume` stands before going on after a halt.
  On level 0 it asks for 1 in the role `safety` (a single person), within 1 day.
  On level 1 it asks for 1 in the role `safety` (a single person), within 1 day.
The gate `amend` stands before founding the lineage and loosening this policy.
  On level 0 it asks for 2 in the role `safety`, within 1 day.
  On level 1 it asks for 2 in the role `safety`, within 1 day.
The limit `kind` refuses a candidate unless it is shown to be below 0.4 (the line 0.5 less 0.1) in \
`charter.be-kind.broken`, tried on `kindness` with at most 60 items; wrong at most 10 % of the time over the whole \
lineage. No quorum overrides it.
The capability `strong` puts a candidate on level 1 unless it is shown to be below 0.5 (the line 0.6 less 0.1) in \
`score`, tried on `strength` with at most 60 items; wrong at most 10 % of the time over the whole lineage.
The charter says, in `be-kind`: Is kind.
On level 0 sandboxes are at least T2, and at most 2 generations may wait for an audit.
On level 1 sandboxes are at least T3, and at most 1 generation may wait for an audit.
A sealed run has at most 1024 MiB, 64 processes and 2 minutes; without the governor it stops after 2 s.
Processor time is not bounded but by the time that a run may take.
Evidence counts for 2 hours; a permit is accepted on a head of the log that is at most 1 hour old.
When a decoy is opened, everything halts.
`ada` decides as `safety` and `board`, with 2 keys kept `separate`.
`ben` decides as `safety` and `engineering`, with 1 key kept `separate`.
`cyd` decides as `engineering`, with 1 key kept `separate`."""


def said(text: dict[str, Any]) -> str:
    read = read_policy(text)
    assert isinstance(read, Policy), read
    return "\n".join(explain(read))


def test_a_policy_in_plain_words() -> None:
    assert "\n".join(explain(policy())) == WORDS


def test_a_demo_says_so_before_anything_else() -> None:
    lines = said(POLICIES["demo"]).splitlines()
    assert lines[1:3] == [
        "DEMO: this project may use simulated people, for ever; everything that it files is an EXERCISE.",
        "SIMULATED: a program holds keys of ada, ben and cyd; no human being need have decided.",
    ]


def test_a_single_person_is_named_everywhere() -> None:
    text = document(gates=[gate("release", 0, safety=1), gate("train", 0, safety=1)])
    assert "SINGLE PERSON: one person alone can clear a release." in said(text)
    assert "On level 0 it asks for 1 in the role `safety` (a single person)" in said(text)
    both = document(gates=[gate("release", 0, safety=2), gate("train", 0, safety=1)])
    assert "SINGLE PERSON" not in said(both)


def test_weak_custody_says_what_it_does_not_protect_against() -> None:
    text = document()
    text["project"]["custody_least"] = "shared-account"
    text["people"][2]["keys"][0]["custody"] = "shared-account"
    words = "SHARED ACCOUNT: the operator can use some people's keys; this does not protect against the operator."
    assert words in said(text)
    assert "SHARED ACCOUNT" not in WORDS


def test_a_claim_and_a_reference_in_words() -> None:
    text = POLICIES["claiming"]
    assert (
        "The claim `honest` refuses a candidate shown to be more than 0.1 below what it claims in `score`, tried on "
        "`strength` with at most 60 items; wrong at most 10 % of the time over the whole lineage."
    ) in said(text)
    text = document()
    text["thresholds"][1]["reference"] = "parent"
    assert "in `score` compared with the parent, tried on" in said(text)


def test_without_tripwires_it_says_so() -> None:
    assert "No tripwire stops anything by itself." in said(document(tripwires=[]))
    text = document(tripwires=[{"when": "undeclared_output", "do": "incident"}])
    assert "When a step writes anything that was not declared, an incident opens." in said(text)


@pytest.mark.parametrize("action", list(Gate))
def test_a_gate_without_a_row_is_said_to_stay_shut(action: str) -> None:
    text = document(gates=[row for row in document()["gates"] if row["action"] != action])
    assert f"The gate `{action}` cannot be opened: the policy has no row for it." in said(text)


def test_everybody_and_every_threshold_is_named() -> None:
    text = document(people=[*document()["people"], person("dot", "law")])
    words = said(text)
    for name in ("ada", "ben", "cyd", "dot", "kind", "strong", "be-kind"):
        assert f"`{name}`" in words


def test_separate_warrants_are_said() -> None:
    assert "Whoever signs a warrant cannot sign the releases under it." in said(POLICIES["separate"])


def test_how_old_a_check_may_be_is_told_only_where_the_policy_says_it() -> None:
    text = document()
    assert not any("containment check" in line for line in explain(policy()))
    text["sandbox"]["check_seconds_max"] = 86400
    read = read_policy(text)
    assert isinstance(read, Policy)
    [said] = [line for line in explain(read) if "containment check" in line]
    assert said == "No tier counts without a containment check at most 1 day old, and a replay of the log looks for it."
