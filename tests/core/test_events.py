"""A leaf of the log is exactly one event, and nothing that we do not know is read as one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from keyturn.core import events as ev
from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Instant
from tests.core.examples import Story, digest, fold, loop


def full() -> Story:
    """A story with every kind of event in it."""
    story = loop().released("c1").proven("c2")
    story.append(story.approval(story.dossier("c2"), "ada", refuse=True))
    story.add(ev.CandidateRejected, candidate="c2", findings=({"rule": "nobody_must_have_refused"},))
    story.begun().judged("p1", refused={"p2": "program_must_run"}, closing=True)
    story.produced("c3")
    story.planned("c3", "kind")
    story.add(ev.AnswersReserved, trial="c3/kind", output_bytes=262_144)
    story.add(ev.CandidateShadowed, candidate="c3", root=digest("c3"), adopted=True, findings=())
    story.add(ev.LevelRaised, lineage="toy", candidate="c3", threshold="strong", level=1)
    story.audited(digest("c1"))
    story.halted()
    story.halted(proven=False, name="h-2")
    story.add(ev.HaltDrilled, by="person:ada", receipt={"state": "STOPPED"}, daemons=20, checks={"kill": "ok"})
    story.add(ev.SandboxSwept, receipt={"state": "STOPPED", "processes_before": 3})
    dossier = story.seal("ResumeLoop", {"halt": "h-1"})
    story.add(ev.LoopResumed, halt="h-1", dossier=dossier)
    story.add(ev.LoopFrozen, freeze="f-1", by="x", reason="", until_at=Instant(story.at + 1000), held={"state": "HELD"})
    story.add(ev.LoopThawed, freeze="f-1", by="person:ada")
    incident = {"incident": "i-1", "summary": "x", "attempt": 0, "candidate": "", "facts": {"a": [1.5]}}
    story.append(story.event(ev.IncidentOpened, **incident, exercise=False, kind="decoy"))
    signed = {"person": "ada", "genesis": digest("genesis"), "reason": "", "origin": "toy.example/log", "key": "k"}
    story.add(ev.AwarenessSigned, incident="i-1", moment="aware_at", moment_at=story.at, **signed)
    story.add(ev.PermitRevoked, permit="p-c1", reason="recalled")
    erasure = story.seal("EraseBlob", {"erases": digest("blob"), "why": "asked for"})
    story.add(ev.BlobErased, blob=digest("blob"), dossier=erasure, reason="asked for")
    story.status()
    story.add(ev.CheckpointWitnessed, size=story.state.published, root="00" * 32, parties=("w1",), note="a note")
    return story


def test_every_kind_of_event_survives_the_way_into_the_log_and_back() -> None:
    events = full().events
    assert {type(event).__name__ for event in events} == set(ev.EVENTS)
    for event in events:
        assert ev.from_json(json.loads(json.dumps(ev.to_json(event)))) == event


def test_a_log_of_an_earlier_release_reads_and_says_what_it_always_said() -> None:
    """It counted no answers: the field is not there, which means none, and is not written either."""
    event = next(event for event in full().events if isinstance(event, ev.TrialAdvanced))
    body = ev.to_json(event)
    assert "output_bytes" not in body
    assert ev.from_json(body) == event
    assert ev.from_json({**body, "output_bytes": 7}) == replace(event, output_bytes=7)


def test_replay_is_exact() -> None:
    story = full()
    read = [ev.from_json(json.loads(json.dumps(ev.to_json(event)))) for event in story.events]
    assert fold(read) == story.state


BODY = {
    "type": "PermitRevoked",
    "id": "e1",
    "at": 5,
    "actor": "governor",
    "policy": "",
    "permit": "p-1",
    "reason": "recalled",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "LevelLowered"}, "`LevelLowered` is not an event"),
        ({"type": None}, "`None` is not an event"),
        ({"type": 3}, "`3` is not an event"),
        ({"type": "Event"}, "`Event` is not an event"),
        ({"surprise": 1}, "event `PermitRevoked` lacks [] and has surplus ['surprise']"),
        ({"permit": ...}, "event `PermitRevoked` lacks ['permit'] and has surplus []"),
        ({"at": "5"}, "`PermitRevoked.at` is `5`, which is not what the event holds"),
        ({"at": 5.0}, "`PermitRevoked.at` is `5.0`, which is not what the event holds"),
        ({"at": True}, "`PermitRevoked.at` is `True`, which is not what the event holds"),
        ({"permit": None}, "`PermitRevoked.permit` is `None`, which is not what the event holds"),
        ({"permit": ["p-1"]}, "`PermitRevoked.permit` is `['p-1']`, which is not what the event holds"),
    ],
)
def test_an_unread_fact_is_refused(change: dict[str, Any], message: str) -> None:
    body = {key: value for key, value in {**BODY, **change}.items() if value is not ...}
    with pytest.raises(MalformedInput) as refused:
        ev.from_json(body)
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("LineageFounded", "files", {}),
        ("LineageFounded", "files", ["name"]),
        ("TrialAdvanced", "values", ["0.5"]),
        ("TrialAdvanced", "values", [True]),
        ("TrialAdvanced", "process", []),
        ("ProjectFounded", "demo", 0),
        ("ImprovementEnded", "cpu_seconds", False),
    ],
)
def test_a_field_of_another_type_is_refused(kind: str, field: str, value: object) -> None:
    event = next(event for event in full().events if type(event).__name__ == kind)
    body: dict[str, Any] = {**ev.to_json(event), field: value}
    with pytest.raises(MalformedInput, match="which is not what the event holds"):
        ev.from_json(body)


def test_a_whole_number_stands_for_a_real_one() -> None:
    """Canonical JSON writes 1.0 as 1; both mean the same event."""
    event = next(event for event in full().events if isinstance(event, ev.ImprovementEnded))
    assert ev.from_json({**ev.to_json(event), "cpu_seconds": 1}) == event
