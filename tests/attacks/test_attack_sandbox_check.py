"""The containment check is faked, hidden, borrowed or kept too long: what rests on it is attested as T0 and refused.

Whoever has the governor's account can write a file with a right digest; that is not played here (LIMITATIONS.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from keyturn.app.machine.containment import Containment
from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.errors import Unavailable
from keyturn.core.terms import Digest, Tier
from keyturn.flow.ports import Attested, Interrupted
from keyturn.flow.run import run
from keyturn.sandbox.port import Attestation, Spec
from keyturn.sandbox.standing import checking, file
from tests.fakes.runner import FakeRunner
from tests.fakes.suite import FakeSuite, fake_suite
from tests.fakes.world import World
from tests.sandbox.fake import FakeBackend, FakeRunning

__all__ = ["fake_suite"]

DAY = 86400


class Sound(FakeRunning):
    """A parked sandbox in which everything is as it should be."""

    def attest(self) -> Attestation:
        return Attestation(Tier.T2, {"backend": "fake"})


class Machine(FakeBackend):
    """A backend that can be looked at from another machine, by changing what it is made of."""

    made_of: dict[str, str]

    def profile(self) -> Mapping[str, str]:
        return self.made_of

    def park(self) -> Sound:
        spec = Spec("improve", ("python", "x"), self.runtime())
        return Sound(self, "improve-1", spec, lambda room: 0)


@dataclass
class Governor:
    """A governor's look at its own sandbox, as often as it is started."""

    backend: Machine
    told: list[str] = field(default_factory=list)
    halted: bool = False

    def tick(self) -> None:
        if self.halted:
            raise Interrupted

    def launches(self, *, days: float = 7) -> Attested:
        """Begin a step, and attest what it would launch."""
        containment = Containment(self.backend, self.told.append, self.tick)
        containment.ensure(int(days * DAY))
        return containment.attest(self.backend.park())

    def attests(self, *, days: float = 7) -> Attested:
        """Attest without having begun a step: no check is run."""
        containment = Containment(self.backend, self.told.append, self.tick, int(days * DAY))
        return containment.attest(self.backend.park())


@pytest.fixture
def governor(fake_suite: FakeSuite) -> Iterator[Governor]:
    backend = Machine({})
    backend.made_of = {"kernel": "6.1", "backend": "fake 1"}
    yield Governor(backend)
    backend.close()


def refused(seen: Attested, why: str) -> None:
    assert seen.tier == "T0"
    assert any(why in problem for problem in seen.problems), seen.problems


def edited(change: Callable[[dict[str, object]], object]) -> None:
    """Change the kept result behind its back."""
    place = file.place()
    body = json.loads(place.read_bytes())
    change(body)
    place.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def test_a_governor_checks_once_says_so_and_then_only_looks(governor: Governor, fake_suite: FakeSuite) -> None:
    first = governor.launches()
    assert (first.tier, first.problems, fake_suite.runs) == ("T2", (), 1)
    assert governor.told == [
        "checks the sandbox: 4 probes, some seconds; kept for 7 days",
        "the sandbox is checked: 3 of 3 probes held, which earns T2, in 0 s",
    ]
    assert governor.launches() == first
    assert (fake_suite.runs, len(governor.told)) == (1, 2)


def test_what_is_attested_before_any_check_is_refused(governor: Governor, fake_suite: FakeSuite) -> None:
    refused(governor.attests(), "it was never checked on this machine")
    assert fake_suite.runs == 0


def test_an_edited_result_is_none(governor: Governor, fake_suite: FakeSuite) -> None:
    fake_suite.tier, fake_suite.breached = Tier.T1, (1,)
    assert governor.launches().tier == "T1"
    edited(lambda body: body.update(tier="T2", held=3, failed=[]))
    refused(governor.attests(), "is not what a check writes")
    assert (governor.launches().tier, fake_suite.runs) == ("T1", 2)


def test_a_result_from_before_the_machine_was_started_anew_is_none(
    governor: Governor, fake_suite: FakeSuite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    governor.launches()
    boot = tmp_path / "boot_id"
    boot.write_text("another boot\n", encoding="ascii")
    monkeypatch.setattr(checking, "BOOT_ID", boot)
    refused(governor.attests(), "another boot was checked")
    assert (governor.launches().tier, fake_suite.runs) == ("T2", 2)


@pytest.mark.parametrize("what", ["kernel", "backend", "engine"])
def test_a_result_of_another_machine_or_another_sandbox_is_none(
    governor: Governor, fake_suite: FakeSuite, what: str
) -> None:
    governor.launches()
    governor.backend.made_of[what] = "of another machine"
    refused(governor.attests(), f"another {what} was checked")
    assert (governor.launches().tier, fake_suite.runs) == ("T2", 2)


def test_a_result_of_an_older_suite_is_none(governor: Governor, fake_suite: FakeSuite) -> None:
    governor.launches()
    fake_suite.digest = Digest("sha256:" + "6" * 64)
    refused(governor.attests(), "another suite was checked")
    assert (governor.launches().tier, fake_suite.runs) == ("T2", 2)


def test_a_result_that_is_too_old_is_refused_and_made_anew(governor: Governor, fake_suite: FakeSuite) -> None:
    governor.launches()
    kept, _ = file.read(file.place())
    assert kept is not None
    then = replace(kept.when, at=kept.when.at - 2 * DAY * 1000)
    file.write(file.place(), replace(kept, when=then))
    refused(governor.attests(days=1), "seconds old; 86400 is the most")
    assert governor.attests(days=3).tier == "T2"
    assert (governor.launches(days=1).tier, fake_suite.runs) == ("T2", 2)


def test_a_failed_check_is_not_repeated_until_it_holds(governor: Governor, fake_suite: FakeSuite) -> None:
    fake_suite.tier, fake_suite.breached = Tier.T0, (1, 3)
    refused(
        governor.launches(), "the last check failed: 1 of 3 probes held; not host-secret (breach), loopback (breach)"
    )
    fake_suite.tier, fake_suite.breached = Tier.T2, ()
    refused(governor.launches(), "the last check failed")
    assert fake_suite.runs == 1


def test_a_failed_check_that_was_hidden_is_run_again(governor: Governor, fake_suite: FakeSuite) -> None:
    fake_suite.tier, fake_suite.breached = Tier.T0, (1,)
    governor.launches()
    file.place().unlink()
    refused(governor.launches(), "the last check failed")
    assert fake_suite.runs == 2


def test_a_halt_breaks_a_check_off_and_the_last_result_stays(governor: Governor, fake_suite: FakeSuite) -> None:
    governor.launches()
    before = file.place().read_bytes()

    def halt() -> None:
        governor.halted = True

    fake_suite.during, fake_suite.tier = halt, Tier.T0
    governor.backend.made_of["kernel"] = "6.2"
    with pytest.raises(Interrupted):
        governor.launches()
    assert file.place().read_bytes() == before


def test_a_halt_during_the_last_probe_leaves_no_result_either(governor: Governor, fake_suite: FakeSuite) -> None:
    count = iter(range(4))

    def halt() -> None:
        governor.halted = next(count) == 3  # behind the last word that the suite says

    fake_suite.during, fake_suite.tier = halt, Tier.T0
    with pytest.raises(Interrupted):
        governor.launches()
    assert file.read(file.place()) == (None, "")


def test_nothing_is_launched_on_what_was_refused(governor: Governor, tmp_path: Path) -> None:
    seen = governor.attests()
    world = World.founded(tmp_path / "home")
    world.until(agenda.AwaitWarrant, warrants=0)
    world.warrant()
    world.approve(world.hold().dossier)
    with world.governor() as at_work:
        runner = at_work.halter
        assert isinstance(runner, FakeRunner)
        runner.tier, runner.problems = seen.tier, seen.problems
        with pytest.raises(Unavailable, match="never checked") as raised:
            run(at_work)
    assert "keyturn sandbox check" in raised.value.help
    assert runner.launches == 0
    [recorded] = [event for event in world.events() if isinstance(event, ev.SandboxAttested)]
    assert (recorded.tier, recorded.problems) == ("T0", seen.problems)
