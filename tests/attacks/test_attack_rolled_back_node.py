"""The attack: show a loading node an older world, or another one. It remembers, and what it knows never shrinks."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import pytest

from keyturn.core.errors import Conflict, Unavailable
from keyturn.core.terms import Instant
from keyturn.verify import trust as trusts
from keyturn.verify.check import check
from keyturn.verify.load import Refused, load
from keyturn.verify.trust import Seen
from keyturn.wire import dsse
from tests.verify.scene import ACTION, SCOPE, Hand, Key, doubts, seen_of


def remembering(scene, seen):
    return replace(scene.trust, seen=seen)


@pytest.fixture
def pinned(scene, tmp_path):
    """A trust file that remembers the honest log."""
    path = tmp_path / "node" / "trust.json"
    path.parent.mkdir()
    trusts.write(remembering(scene, seen_of(scene)), path)
    return trusts.read(path)


def loaded(weights, bundle, scene, trust):
    return load(weights, bundle, trust=trust, action=ACTION, scope=SCOPE, now=scene.now)


# --- rollback, fork, freeze


def test_an_older_head_is_a_rollback(scene):
    later, size = Hand([*scene.leaves], scene), len(scene.leaves)
    later.status()
    seen = check(later.show(), scene.trust, action=ACTION, scope=SCOPE, now=scene.now).seen
    message = f"the log has {size} entries; this node has seen {size + 1}: a rollback"
    assert doubts(scene.honest, scene, trust=remembering(scene, seen)) == [(2, message)]


def test_the_same_size_with_another_root_is_a_fork(scene):
    hand = Hand.of(scene)
    hand.status(at=Instant(scene.status.at + 1))
    found = doubts(hand.show(), scene, trust=remembering(scene, seen_of(scene)))
    size = len(scene.leaves)
    message = f"the log does not continue the {size} entries that this node has seen: a fork, or no proof"
    assert found == [(2, message)]


def test_a_log_that_was_rewritten_and_grew_is_a_fork(scene):
    hand = Hand.of(scene)
    hand.leaves[3] = b"rewritten"
    hand.status()
    hand.status()
    size = len(scene.leaves)
    found = doubts(hand.show(old_size=size), scene, trust=remembering(scene, seen_of(scene)))
    assert [number for number, _ in found] == [2]


def test_a_missing_consistency_proof_is_refused_and_a_true_one_accepted(scene):
    hand, size = Hand([*scene.leaves], scene), len(scene.leaves)
    hand.status()
    trust = remembering(scene, seen_of(scene))
    assert doubts(hand.show(old_size=size), scene, trust=trust) == []
    for bundle in (
        hand.show(),
        hand.show(old_size=size - 1),
        replace(hand.show(old_size=size), consistency=()),
        replace(hand.show(old_size=size), consistency=(*hand.show(old_size=size).consistency, bytes(32))),
    ):
        assert [number for number, _ in doubts(bundle, scene, trust=trust)] == [2]


@pytest.mark.parametrize("change", [{"counter": 0}, {"policy_version": 0}, {"at": 1}])
def test_a_status_that_takes_back_what_was_seen_is_refused(scene, change):
    hand, size = Hand([*scene.leaves], scene), len(scene.leaves)
    hand.status(**change)
    found = doubts(hand.show(old_size=size), scene, trust=remembering(scene, seen_of(scene)))
    assert found == [(5, "the status is older than one that this node has seen")]


def test_an_older_status_leaf_put_last_again_is_refused(scene):
    hand, size = Hand([*scene.leaves], scene), len(scene.leaves)
    hand.add(next(data for data in scene.leaves if b"StatusPublished" in dsse.decode(data).payload))
    found = doubts(hand.show(old_size=size), scene, trust=remembering(scene, seen_of(scene)))
    assert found == [(5, "the status is older than one that this node has seen")]


def test_a_revocation_that_was_seen_is_never_taken_back(scene):
    hand, name = Hand([*scene.leaves], scene), scene.permit.permit
    hand.status(revoked=(name,))
    seen = check(hand.show(), scene.trust, action=ACTION, scope=SCOPE, now=scene.now).seen
    assert seen.revoked == (name,)
    size = len(hand.leaves)
    hand.status(counter=seen.counter + 1, revoked=())
    message = f"the status no longer names the revoked permit `{name}`, which this node has seen revoked"
    assert doubts(hand.show(old_size=size), scene, trust=remembering(scene, seen)) == [(6, message)]


# --- what a refusal teaches is kept


def test_a_halt_that_was_shown_is_not_forgotten_for_an_older_bundle(scene, weights, pinned):
    """The node refuses a halted bundle; whoever then hands it the fresh enough bundle from before is refused too."""
    hand, size = Hand([*scene.leaves], scene), len(scene.leaves)
    hand.status(halted=True)
    with pytest.raises(Refused, match="the loop is halted"):
        loaded(weights, hand.show(old_size=size), scene, pinned)
    kept = trusts.read(pinned.path)
    assert kept.seen.size == size + 1
    with pytest.raises(Refused) as refused:
        loaded(weights, scene.honest, scene, kept)
    message = f"the log has {size} entries; this node has seen {size + 1}: a rollback"
    assert [(doubt.check, doubt.message) for doubt in refused.value.doubts] == [(2, message)]


def test_a_bundle_that_nobody_we_trust_signed_teaches_nothing(scene, weights, pinned):
    hand = Hand([*scene.leaves], scene)
    hand.status()
    with pytest.raises(Refused):
        loaded(weights, hand.show(old_size=len(scene.leaves), log=Key("mallory")), scene, pinned)
    assert trusts.read(pinned.path) == pinned


def test_an_accepted_load_moves_the_memory_forward(scene, weights, pinned):
    hand, size = Hand([*scene.leaves], scene), len(scene.leaves)
    hand.status()
    done = loaded(weights, hand.show(old_size=size), scene, pinned)
    assert done.trust == trusts.read(pinned.path)
    assert done.trust.seen.size == size + 1


# --- the file itself


def test_the_memory_never_goes_backwards_even_between_two_loads(scene, pinned):
    """Two loads read the same memory; the slower one knows less and must not overwrite what the faster one learnt."""
    newest = replace(pinned.seen, size=pinned.seen.size + 9, counter=50)
    trusts.remember(pinned, newest)
    with pytest.raises(Conflict, match="the trust file changed since it was read: another load has seen more of the"):
        trusts.remember(pinned, replace(pinned.seen, size=pinned.seen.size + 2))
    assert trusts.read(pinned.path).seen == newest


def test_two_loads_of_one_bundle_do_not_disturb_each_other(pinned):
    newest = replace(pinned.seen, size=pinned.seen.size + 9)
    trusts.remember(pinned, newest)
    assert trusts.remember(pinned, newest).seen == newest


def test_many_loads_at_once_leave_one_whole_file_with_the_newest_memory(pinned):
    heads = [replace(pinned.seen, size=pinned.seen.size + n, counter=pinned.seen.counter + n) for n in range(1, 9)]
    outcomes = []

    def race(seen):
        try:
            outcomes.append(trusts.remember(pinned, seen).seen)
        except Conflict:
            outcomes.append(None)

    threads = [threading.Thread(target=race, args=(seen,)) for seen in heads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [each for each in outcomes if each is not None]
    assert trusts.read(pinned.path).seen == winner
    assert sorted(each.name for each in pinned.path.parent.iterdir()) == ["trust.json", "trust.lock"]


def test_a_crash_while_writing_leaves_the_old_memory(pinned, monkeypatch):
    before = pinned.path.read_bytes()

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keyturn.verify.trust.os.fsync", fails)
    with pytest.raises(Unavailable, match="cannot be written: No space left on device"):
        trusts.remember(pinned, replace(pinned.seen, size=pinned.seen.size + 1))
    assert pinned.path.read_bytes() == before


def test_a_node_that_cannot_remember_does_not_load(scene, weights, pinned):
    trusts.write(replace(pinned, seen=Seen()), pinned.path)
    pinned.path.with_suffix(".lock").mkdir()
    with pytest.raises(Unavailable, match=r"the trust file .* cannot be written"):
        loaded(weights, scene.honest, scene, trusts.read(pinned.path))


def test_a_trap_in_the_place_of_the_draft_is_not_followed(pinned, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    pinned.path.with_suffix(f".{os.getpid()}.tmp").symlink_to(victim)
    trusts.remember(pinned, replace(pinned.seen, size=pinned.seen.size + 1))
    assert victim.read_text() == "precious"


def test_a_trust_file_behind_a_linked_folder_is_kept_too(pinned, tmp_path):
    (tmp_path / "link").symlink_to(pinned.path.parent)
    trust = trusts.read(tmp_path / "link" / "trust.json")
    newest = replace(pinned.seen, size=pinned.seen.size + 1)
    trusts.remember(trust, newest)
    assert trusts.read(pinned.path).seen == newest


def test_a_trust_file_that_was_exchanged_meanwhile_is_not_written(pinned):
    moved = replace(pinned, genesis="sha256:" + "9" * 64)
    with pytest.raises(Conflict):
        trusts.remember(moved, replace(pinned.seen, size=pinned.seen.size + 1))
    assert trusts.read(pinned.path) == pinned


# --- the whole node, put back


def test_a_node_restored_from_a_backup_is_bounded_by_freshness_alone(scene, weights, pinned, tmp_path):
    """Its memory went back with it: it believes the bundle of that day until that is stale, and no longer."""
    backup = pinned.path.read_bytes()
    hand, size = Hand([*scene.leaves], scene), len(scene.leaves)
    hand.status(halted=True)
    with pytest.raises(Refused, match="the loop is halted"):
        loaded(weights, hand.show(old_size=size), scene, pinned)
    pinned.path.write_bytes(backup)
    assert loaded(weights, scene.honest, scene, trusts.read(pinned.path)).files
    late = replace(scene, now=Instant(scene.status.at + 3_601_000))
    with pytest.raises(Refused, match="the status is 3601 seconds old"):
        loaded(weights, scene.honest, late, trusts.read(pinned.path))
    with pytest.raises(Refused, match="the loop is halted"):
        loaded(weights, hand.show(old_size=size), scene, trusts.read(pinned.path))
