"""The attack: take the halt out of what is shown. A thief of all the governor's keys signs what is left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core import events as ev
from keyturn.core.terms import Instant
from keyturn.flow import halt
from keyturn.verify import trust as trusts
from keyturn.verify.load import Refused, load
from tests.attacks.forging import leaves_in, signed_log, verified
from tests.fakes.world import Key, LogKey
from tests.verify.scene import ACTION, SCOPE, Hand, doubts, stated
from tests.world import story


def halt_of(scene) -> ev.HaltRequested:
    status = scene.status
    return ev.HaltRequested(
        id="h", at=status.at, actor="ada", policy=status.policy, halt="h-00000001", by="ada", reason="it lies"
    )


@pytest.fixture
def halted(scene):
    """The honest log with a halt and a status that says so."""
    hand = Hand([*scene.leaves], scene)
    hand.add(stated(halt_of(scene)))
    hand.status(halted=True)
    return hand


# --- in a bundle


def test_the_halted_bundle_itself_is_refused(scene, halted):
    assert doubts(halted.show(), scene) == [(6, "the loop is halted; nothing may load")]


def test_a_status_from_before_the_halt_is_not_the_last_entry(scene, halted):
    before = len(scene.leaves) - 1
    last = len(halted.leaves) - 1
    message = f"the status is entry {before}, not the last, {last}: a halt could hide behind it"
    assert doubts(halted.show(status=before), scene) == [(3, message)]


def test_a_bundle_from_before_the_halt_ends_with_its_freshness(scene):
    """A node that saw nothing of the halt cannot know; how long that lasts is the policy's word."""
    assert doubts(scene.honest, scene) == []
    late = Instant(scene.status.at + 3_601_000)
    assert doubts(scene.honest, scene, now=late) == [(9, "the status is 3601 seconds old; the limit is 3600 seconds")]


def test_a_node_that_saw_the_halt_is_shown_no_log_without_it(scene, weights, halted, tmp_path):
    trusts.write(scene.trust, tmp_path / "trust.json")

    def refusal(bundle):
        trust = trusts.read(tmp_path / "trust.json")
        with pytest.raises(Refused) as refused:
            load(weights, bundle, trust=trust, action=ACTION, scope=SCOPE, now=scene.now)
        return [(doubt.check, doubt.message) for doubt in refused.value.doubts]

    assert refusal(halted.show()) == [(6, "the loop is halted; nothing may load")]
    size = len(halted.leaves)
    assert refusal(scene.honest)[0][1] == f"the log has {size - 2} entries; this node has seen {size}: a rollback"
    dropped = Hand([*scene.leaves], scene)
    for _ in range(3):
        dropped.status()
    found = refusal(dropped.show(old_size=size))
    assert found == [(2, f"the log does not continue the {size} entries that this node has seen: a fork, or no proof")]


# --- in the log


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A whole story with two halts, as its log was left."""
    patch = pytest.MonkeyPatch()
    patch.setattr(halt, "TRACE_SECONDS", 0.2)
    world = story.founded(tmp_path_factory.mktemp("played") / "home")
    story.told(world)
    patch.undo()
    return world


def without(world, *kinds):
    """The leaves of the story without every entry of these kinds."""
    return [
        data for data, kind in zip(leaves_in(world.home / "log.db"), world.kinds(), strict=True) if kind not in kinds
    ]


def test_the_story_itself_verifies(played, capsys):
    assert verified(capsys, played.home / "log.db") == (0, [])
    assert played.kinds().count("HaltRequested") == 2


@pytest.mark.parametrize(
    "kinds",
    [
        ("HaltRequested",),
        ("HaltProven",),
        ("HaltRequested", "HaltProven"),
        ("HaltRequested", "HaltProven", "LoopResumed"),
    ],
)
def test_no_log_from_which_a_halt_was_taken_decides_the_same(played, tmp_path, capsys, kinds):
    """Signed anew from end to end. What people signed names places in the log, and statuses name the halt."""
    forged = signed_log(tmp_path / "log.db", without(played, *kinds), LogKey())
    code, found = verified(capsys, forged)
    assert code == 3
    assert found


def test_a_status_that_denies_the_halt_is_named_by_whoever_decides_the_log_again(played, tmp_path, capsys):
    """Cut off after the halt, with a status by the service key that says that none stands."""
    kinds = played.kinds()
    place = kinds.index("HaltProven") + 1
    before = next(each for each in reversed(played.events()[:place]) if isinstance(each, ev.StatusPublished))
    last = played.events()[place - 1]
    denied = replace(before, id="denied", at=last.at, counter=before.counter + 1, halted=False)
    leaves = [*leaves_in(played.home / "log.db")[:place], stated(denied, Key("service"))]
    code, found = verified(capsys, signed_log(tmp_path / "log.db", leaves, LogKey()))
    assert code == 3
    assert f"{place} status_published_must_be_lawful it says halted: False; a halt stands: True" in found


def test_a_log_cut_off_before_the_halt_is_found_by_whoever_kept_a_checkpoint(played, tmp_path, capsys):
    """Alone it is the log of that day: without witnesses nothing in it can show what was cut off."""
    place = played.kinds().index("HaltRequested")
    published = max(n for n, kind in enumerate(played.kinds()[:place], 1) if kind == "StatusPublished")
    cut = signed_log(tmp_path / "log.db", leaves_in(played.home / "log.db")[:published], LogKey())
    assert verified(capsys, cut) == (0, [])
    own = trusts.read(played.home / "trust.json")
    with played.log() as log:
        seen = trusts.Seen(log.head.size, log.head.root.hex())
    trusts.write(replace(own, seen=seen), tmp_path / "seen.json")
    code, found = verified(capsys, cut, "--trust", str(tmp_path / "seen.json"))
    assert code == 3
    assert "log_must_not_shrink" in found[0]
