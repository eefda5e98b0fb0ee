"""A permit waits for the witnesses that a policy names, whoever among them is slow, silent or lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.agenda import Step
from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.core.policy import Party
from keyturn.core.terms import Instant
from keyturn.flow.log import Log
from keyturn.flow.permit import SCOPE, bundle, handed
from keyturn.flow.ports import Cosigned
from keyturn.flow.run import run
from keyturn.ledger import checkpoint
from keyturn.ledger.note import parse_vkey
from keyturn.verify import trust as trusts
from keyturn.verify.check import check
from tests.fakes.witnesses import Witnesses, party, table
from tests.fakes.world import World
from tests.world.story import lawful


def witnessed(tmp_path: Path, witnesses: dict[str, Any]) -> World:
    """A founded project whose policy names these witnesses, all of them awake."""
    home = tmp_path / "home"
    world = World.founded(home, None, witnesses=witnesses)
    world.witnesses = Witnesses(lambda: Instant(world.clock.at))
    return world


def founding(world: World) -> Step:
    """Everybody signs for the founding; what the governor stops at then."""
    world.approve(world.hold().dossier)
    return world.run()


def parties_of(log: Log) -> tuple[Party, ...]:
    assert log.state.current is not None
    return log.state.current.policy.witnesses.parties


def newest(world: World, permit: str | None = None, *, later_seconds: int = 0) -> list[tuple[int, str]]:
    """What a loading node says of the newest bundle."""
    trust = trusts.read(world.home / "trust.json")
    with world.log() as log:
        made = bundle(log, permit or list(log.state.permits)[-1], old_size=trust.seen.size)
    now = Instant(world.clock.at + later_seconds * 1000)
    return [(each.check, each.message) for each in check(made, trust, action="release", scope=SCOPE, now=now).doubts]


def test_the_whole_story_under_two_witnesses_is_lawful_and_its_permits_load(tmp_path: Path) -> None:
    world = witnessed(tmp_path, table(2, "w1", "w2", "w3"))
    assert isinstance(world.play(), agenda.AwaitWarrant | agenda.AwaitAudit)
    assert world.lineage.parent.number > 0
    assert world.state.is_witnessed
    assert lawful(world) == []
    assert newest(world) == []
    assert "CheckpointWitnessed" in world.kinds()


def test_no_permit_is_issued_while_one_witness_too_few_answers(tmp_path: Path) -> None:
    world = witnessed(tmp_path, table(2, "w1", "w2"))
    assert world.witnesses is not None
    world.hold()
    world.witnesses.silent = {"w2"}
    step = founding(world)
    assert step == agenda.Witness(
        ("1 of 2 independent witnesses cosigned", "`w2` is silent: it does not answer"),
    )
    assert world.state.permits == {}
    assert world.run() == step  # asking again changes nothing by itself, and adds nothing to the log
    size = world.state.size
    world.run()
    assert world.state.size == size
    world.witnesses.silent = set()
    assert isinstance(world.run(), agenda.AwaitWarrant)
    assert len(world.state.permits) == 1
    assert lawful(world) == []


def test_without_any_way_to_ask_nothing_is_permitted(tmp_path: Path) -> None:
    world = witnessed(tmp_path, table(1, "w1"))
    world.witnesses = None
    assert founding(world) == agenda.Witness(("the newest head is not signed yet",))
    assert world.state.permits == {}


def test_an_auditor_is_asked_for_apart(tmp_path: Path) -> None:
    rows = [party("w1"), party("aud", auditor=True)]
    world = witnessed(tmp_path, {"required": 1, "auditors": 1, "parties": rows})
    assert world.witnesses is not None
    world.witnesses.silent = {"aud"}
    step = founding(world)
    assert isinstance(step, agenda.Witness)
    assert step.lacking[0] == "0 of 1 independent auditors cosigned"
    world.witnesses.silent = {"w1"}
    assert isinstance(world.run(), agenda.AwaitWarrant)


def test_a_head_that_nobody_witnessed_is_shown_to_nobody(tmp_path: Path) -> None:
    world = witnessed(tmp_path, table(1, "w1"))
    assert world.witnesses is not None
    founding(world)
    size = world.state.witnessed
    world.witnesses.silent = {"w1"}
    with world.log() as log:
        permit = next(iter(log.state.permits))
        log.record(log._status)
        log.publish()
        assert log.state.published > size
        saved = log.store.checkpoint()
        shown = log.shown()
        assert saved is not None
        assert shown is not None
        assert checkpoint.parse_body(saved).size == log.state.published
        assert checkpoint.parse_body(shown).size == size
        assert checkpoint.parse_body(bundle(log, permit).checkpoint).size == size


class Once:
    """Witnesses that answer once and never again."""

    def __init__(self, witnesses: Witnesses) -> None:
        self.witnesses = witnesses

    def cosign(self, *args: Any, **named: Any) -> Cosigned:
        """As the port's."""
        answer = self.witnesses.cosign(*args, **named)
        self.witnesses.silent = {"w1"}
        return answer


def test_a_permit_below_no_witnessed_head_is_handed_to_nobody(tmp_path: Path) -> None:
    world = witnessed(tmp_path, table(1, "w1"))
    assert world.witnesses is not None
    world.approve(world.hold().dossier)
    with world.governor() as governor:
        governor.log.witnessing = Once(world.witnesses)
        run(governor)
        permit = next(iter(governor.state.permits))
        with pytest.raises(Unavailable, match="the newest checkpoint that may be shown has"):
            bundle(governor.log, permit)


def test_no_bundle_hides_a_revocation_behind_an_older_witnessed_head(tmp_path: Path) -> None:
    world = witnessed(tmp_path, table(1, "w1"))
    assert world.witnesses is not None
    founding(world)
    with world.log() as log:
        permit = next(iter(log.state.permits))
        world.witnesses.silent = {"w1"}
        log.record(lambda stamp: ev.PermitRevoked(**stamp, permit=permit, reason="recalled"), actor="ada")
        assert bundle(log, permit).status.index < log.store.head().size - 1  # older; the governor itself reads on
        with pytest.raises(Unavailable, match="`w1` is silent: it does not answer"):
            handed(log, permit)
        world.witnesses.silent = set()
        size = checkpoint.parse_body(bundle(log, permit).checkpoint).size
        made = handed(log, permit, old_size=size)
        assert made.old_size == size
        assert made.consistency
        assert made.status.index > size
        with pytest.raises(MalformedInput, match="has seen 9999 entries"):
            handed(log, permit, old_size=9999)


def test_what_witnesses_swear_to_grows_old(tmp_path: Path) -> None:
    world = witnessed(tmp_path, table(1, "w1"))
    founding(world)
    assert newest(world, later_seconds=86_000) == []
    [(number, message), (also, status)] = newest(world, later_seconds=86_500)
    assert (number, also) == (9, 9)
    assert status.startswith("the status is ")
    assert message.startswith("0 of 1 independent witnesses cosigned this head within the last 86400 seconds; `w1` did")


def test_a_witness_whose_clock_runs_ahead_keeps_no_permit_alive(tmp_path: Path) -> None:
    world = witnessed(tmp_path, table(1, "w1"))
    world.witnesses = Witnesses(lambda: Instant(world.clock.at + 10_000_000))
    founding(world)
    assert [number for number, _ in newest(world)] == [9]


def test_a_crash_between_cosignatures_and_their_record_is_made_good(tmp_path: Path) -> None:
    world = witnessed(tmp_path, table(1, "w1"))
    world.approve(world.hold().dossier)
    with world.governor() as governor:
        log = governor.log
        log.record(log._status)
        log.sign_published()
        saved = log.store.checkpoint()
        assert saved is not None
        assert world.witnesses is not None
        parties = parties_of(log)
        asked = world.witnesses.cosign(
            saved, parties, size=0, prove=lambda old: log.store.prove_consistency(old, log.state.size)
        )
        head = checkpoint.parse_body(saved)
        log.store.save_checkpoint(head.size, head.root, asked.note)
    assert isinstance(world.crashed().run(), agenda.AwaitWarrant)
    assert lawful(world) == []


def test_named_but_not_required_witnesses_are_asked_and_shown_and_hold_up_nothing(tmp_path: Path) -> None:
    world = witnessed(tmp_path, table(0, "w1", allow_unwitnessed=True))
    assert world.witnesses is not None
    world.hold()
    assert world.state.is_witnessed
    world.witnesses.silent = {"w1"}
    assert isinstance(founding(world), agenda.AwaitWarrant)
    assert not world.state.is_witnessed
    assert newest(world) == []


def test_the_operators_own_witness_is_asked_and_makes_nothing_witnessed(tmp_path: Path) -> None:
    rows = [party("own", independent=False)]
    world = witnessed(tmp_path, {"required": 0, "allow_unwitnessed": True, "parties": rows})
    world.hold()
    assert not world.state.is_witnessed
    with world.log() as log:
        saved = log.store.checkpoint()
        assert saved is not None
        parties = parties_of(log)
        assert list(checkpoint.cosigners(saved, log.log_keys, parties)) == ["own"]


def test_the_vkey_that_a_witness_must_know_is_the_logs(tmp_path: Path) -> None:
    world = witnessed(tmp_path, table(1, "w1"))
    with world.log() as log:
        assert log.log_keys.at(0) == (parse_vkey(trusts.read(world.home / "trust.json").founded.log_key),)
