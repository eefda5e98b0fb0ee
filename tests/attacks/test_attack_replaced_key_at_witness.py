"""The attack: a log key that was replaced, because it was stolen, still speaks to a witness or an auditor.

One head is enough: a witness that cosigned it, or an auditor that mirrored it, is lost to the true log.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from keyturn.app.auditor import folder as auditors
from keyturn.app.witnessing import folder as witnesses
from keyturn.core import events as ev
from keyturn.core.errors import Conflict, UntrustedInput
from keyturn.ledger import checkpoint, note, tiles_folder, tree
from keyturn.ledger.places.folder import Folder
from keyturn.ledger.store import Store
from keyturn.ledger.witnessing import request
from keyturn.verify import trust as trusts
from tests.attacks.rotated import (
    LOG,
    NEXT_LOG,
    NEXT_SERVICE,
    LogKey,
    adopted,
    begin,
    events_of,
    governor,
    leaves_of,
    released,
    vkey,
)
from tests.ledger.exports import quiet
from tests.ledger.signers import Key
from tests.verify.scene import document, nodes, root_over, stated
from tests.witness.cast import GrownLog, witness_of

OLD = LogKey(LOG.name)
BEFORE = GrownLog.of(size=5)
AFTER = GrownLog(Key("log.example", "the next key"), BEFORE.told)
FORGED = GrownLog(BEFORE.key, [*BEFORE.told, b"release c9"])


# --- a witness --------------------------------------------------------------------------------------------


@pytest.fixture
def witness(tmp_path):
    """One that cosigned under the old key, and was told the new one."""
    made = witness_of(tmp_path / "w.db", BEFORE)
    assert made.add_checkpoint(BEFORE.asks(0)).status == 200
    made.memory.trust("log.example", AFTER.key.verifier())
    yield made
    made.memory.close()


def both(log):
    return checkpoint.sign(log.head, AFTER.key, BEFORE.key)


def distrust(witness, key=BEFORE.key, **more):
    return witness.memory.distrust("log.example", key.verifier(), **more)


def test_after_a_head_by_the_new_key_the_old_one_alone_is_refused_and_the_true_log_goes_on(witness):
    assert witness.add_checkpoint(AFTER.asks(5)).status == 200
    answer = witness.add_checkpoint(FORGED.asks(5))
    assert (answer.status, b"only an older key signed this" in answer.body) == (403, True)
    assert witness.add_checkpoint(AFTER.grow(1).asks(5)).status == 200


def test_that_holds_from_the_first_head_that_both_signed(witness):
    longer = BEFORE.grow(2)
    assert witness.add_checkpoint(longer.asks(5, signed=both(longer))).status == 200
    assert witness.add_checkpoint(longer.grow(1).asks(7)).status == 403
    assert witness.add_checkpoint(longer.asks(7)).status == 403, "the same head, stripped of the new signature"
    further = longer.grow(1)
    assert witness.add_checkpoint(further.asks(7, signed=both(further))).status == 200
    assert witness.add_checkpoint(AFTER.grow(4).asks(8)).status == 200, "the new key alone, as after the overlap"


def test_a_distrusted_key_is_refused_before_the_new_one_ever_signed(witness):
    assert distrust(witness) == 1
    answer = witness.add_checkpoint(FORGED.asks(5))
    assert (answer.status, b"no known key signed" in answer.body) == (403, True)
    assert witness.memory.seen("log.example").head == BEFORE.head
    assert witness.add_checkpoint(AFTER.grow(1).asks(5)).status == 200


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("old", [5, 4])
def test_a_fork_by_the_old_key_alone_convicts_nobody(witness, told, old):
    assert witness.add_checkpoint(AFTER.asks(5)).status == 200
    if told:
        distrust(witness)
    fork = GrownLog(BEFORE.key, [*BEFORE.told[:4], b"release c9"])
    assert witness.add_checkpoint(fork.asks(old)).status == 403
    assert witness.memory.forks("log.example") == ()
    true = GrownLog(AFTER.key, fork.told)
    assert witness.add_checkpoint(true.asks(old)).status == 409
    assert len(witness.memory.forks("log.example")) == 1, "the log's own key does convict it"


def test_a_key_that_is_distrusted_while_an_auditor_thinks_signs_nothing(tmp_path):
    auditor = witness_of(tmp_path / "a.db", BEFORE, AFTER, judge=lambda _: distrust(auditor) and None)
    answer = auditor.add_checkpoint(BEFORE.asks(0))
    assert (answer.status, b"not trusted here any more" in answer.body) == (403, True)
    assert auditor.memory.seen("log.example") is None
    auditor.memory.close()


def test_the_last_key_goes_only_by_name_and_what_was_cosigned_stays(witness):
    distrust(witness)
    with pytest.raises(Conflict, match="the last key of the log"):
        distrust(witness, AFTER.key)
    assert distrust(witness, AFTER.key, forget=True) == 0
    assert witness.add_checkpoint(AFTER.asks(5)).status == 404
    (log,) = witness.memory.logs()
    assert (log.keys, log.seen.head) == ((), BEFORE.head)
    witness.memory.trust("log.example", AFTER.key.verifier())
    assert witness.add_checkpoint(GrownLog(AFTER.key, [b"another history"]).asks(0)).status == 409


def test_keys_told_in_the_wrong_order_are_mended_by_distrust(tmp_path):
    """The limit: whoever tells the old key last makes it the newest; the refusal passes when it is taken away."""
    witness = witness_of(tmp_path / "w.db", AFTER, BEFORE)
    assert witness.add_checkpoint(BEFORE.asks(0, signed=both(BEFORE))).status == 200
    assert witness.add_checkpoint(AFTER.grow(1).asks(5)).status == 403
    distrust(witness)
    assert witness.add_checkpoint(AFTER.grow(1).asks(5)).status == 200
    witness.memory.close()


# --- an auditor -------------------------------------------------------------------------------------------


class Audited:
    """A project whose governor's keys were replaced, and an auditor that knows both log keys."""

    def __init__(self, home, *log):
        self.home, self.pub, self.keys = home, home / "pub", log
        self.made = begin(home)
        self.permit = released(self.made)
        adopted(self.made, document(governor=governor(NEXT_SERVICE, *log)))
        self.a1 = home / "a1"
        trusts.write(self.made.trust, home / "trust.json")
        auditors.create(self.a1, "auditor.example/a1", trust=home / "trust.json", tiles=str(self.pub))
        witnesses.trust(self.a1, vkey(NEXT_LOG))
        self.publish()

    def publish(self):
        self.show(leaves_of(self.made), *self.keys)

    def show(self, leaves, *signers):
        """Static files over these entries, under a head by these keys."""
        shutil.rmtree(self.pub, ignore_errors=True)
        self.pub.mkdir()
        (self.home / "shown.db").unlink(missing_ok=True)
        with Store.open(self.home / "shown.db", create=True) as store:
            store.append(leaves, expected=None)
            head = store.head()
            store.save_checkpoint(head.size, head.root, signed(leaves, *signers))
            tiles_folder.publish(store, note.parse_vkey(vkey(signers[0])), Folder(self.pub))

    def goes_on(self):
        """The true log, longer by what its governor writes next."""
        self.made.log.append(lambda stamp: ev.PermitRevoked(**stamp, permit=self.permit, reason="x"))
        self.made.log.publish()
        self.publish()

    def forged(self):
        """The true entries, and one by the old service key under the old world."""
        status = next(each for each in reversed(events_of(self.made)) if isinstance(each, ev.StatusPublished))
        policy = self.made.log.state.policies[0].digest
        return [*leaves_of(self.made), stated(replace(status, counter=99, policy_version=1, policy_digest=policy))]

    def check(self):
        return auditors.check(self.a1, quiet)

    def forgive(self):
        """The scene's candidate came from nowhere, which is illegal: so that it alone does not hold the auditor."""
        for entry in {mark.entry for mark in auditors.show(self.a1).standing}:
            auditors.pardon(self.a1, entry, reason="the scene", tell=quiet)


def signed(leaves, *signers):
    hashes = [tree.leaf_hash(each) for each in leaves]
    return checkpoint.sign(checkpoint.Checkpoint(LOG.name, len(hashes), root_over(hashes)), *signers)


def asked(leaves, old, *signers):
    hashes = [tree.leaf_hash(each) for each in leaves]
    proof = tree.prove_consistency(old=old, new=len(hashes), nodes=nodes(hashes)) if 0 < old < len(hashes) else ()
    return request.encode(request.Request(old, tuple(proof), signed(leaves, *signers)))


@pytest.fixture(params=["alone", "beside the old one"])
def audited(tmp_path, request):
    made = Audited(tmp_path, *((NEXT_LOG,) if request.param == "alone" else (NEXT_LOG, OLD)))
    yield made
    made.made.log.store.close()


@pytest.mark.parametrize("junk", [True, False])
def test_static_files_under_the_replaced_key_leave_the_auditor_as_it_was(audited, junk):
    before = audited.check()
    audited.show([*leaves_of(audited.made), b"junk"] if junk else audited.forged(), OLD)
    with pytest.raises(UntrustedInput, match="the keys in force at the head's 27 entries did not sign it"):
        audited.check()
    shown = auditors.show(audited.a1)
    assert (shown.mirrored, shown.marks) == (before.size, before.shown.marks)
    audited.goes_on()
    assert (audited.check().size, audited.check().shown.marks) == (before.size + 2, before.shown.marks)


def test_nor_does_an_auditor_that_fetches_everything_anew_believe_them(audited):
    before = audited.check()
    (audited.a1 / "mirror.db").unlink()
    audited.show([*leaves_of(audited.made), b"junk"], OLD)
    with pytest.raises(UntrustedInput, match="did not sign it"):
        audited.check()
    audited.publish()
    assert audited.check().shown.marks == before.shown.marks


def test_a_second_root_by_the_replaced_key_is_no_second_history(audited):
    marks = audited.check().shown.marks
    leaves = leaves_of(audited.made)
    audited.show([*leaves[:-1], b"junk"], OLD)
    with pytest.raises(UntrustedInput, match="did not sign it"):
        audited.check()
    assert auditors.show(audited.a1).marks == marks


def test_an_early_head_is_read_with_the_key_of_its_day(audited):
    audited.check()
    index = audited.made.log.state.policies[1].index
    audited.show(leaves_of(audited.made)[:index], OLD)
    assert audited.check().size == index
    audited.show(leaves_of(audited.made)[:index], NEXT_LOG)
    with pytest.raises(UntrustedInput, match=f"at the head's {index} entries"):
        audited.check()


def test_by_the_door_the_replaced_key_gets_nothing_and_leaves_no_evidence(audited):
    audited.check()
    audited.forgive()
    leaves = leaves_of(audited.made)
    size = len(leaves)
    with auditors.opened(audited.a1, quiet) as (mirror, pinned, _), auditors.served(audited.a1, mirror, pinned) as door:
        assert door.add_checkpoint(asked(leaves, 0, *audited.keys)).status == 200
        audited.show([*leaves, b"junk"], OLD)
        assert door.add_checkpoint(asked([*leaves, b"junk"], size, OLD)).status == 403
        assert door.add_checkpoint(asked([*leaves[:-1], b"junk"], size, OLD)).status == 403
        assert door.memory.forks(LOG.name) == ()
        audited.goes_on()
        longer = leaves_of(audited.made)
        assert door.add_checkpoint(asked(longer, size, *audited.keys)).status == 200
    assert auditors.show(audited.a1).standing == ()


@pytest.mark.parametrize("mirror_is", ["whole", "gone", "behind"])
def test_where_memory_would_believe_it_the_decided_log_does_not(tmp_path, mirror_is):
    """During the overlap the auditor was told of the pinned key only: it knows from the log that both must sign."""
    audited = Audited(tmp_path, NEXT_LOG, OLD)
    audited.check()
    audited.forgive()
    witnesses.distrust(audited.a1, vkey(NEXT_LOG))
    leaves = leaves_of(audited.made)
    size = len(leaves)
    with auditors.opened(audited.a1, quiet) as (mirror, pinned, _), auditors.served(audited.a1, mirror, pinned) as door:
        assert door.add_checkpoint(asked(leaves, 0, *audited.keys)).status == 200
    if mirror_is != "whole":
        (audited.a1 / "mirror.db").unlink()
    with auditors.opened(audited.a1, quiet) as (mirror, pinned, _), auditors.served(audited.a1, mirror, pinned) as door:
        if mirror_is == "behind":
            early = leaves[: audited.made.log.state.policies[1].index]
            audited.show(early, OLD)
            mirror.advance(signed(early, OLD))
        fork = door.add_checkpoint(asked([*leaves[:-1], b"junk"], size, OLD))
        said = b"not this log: " if mirror_is == "whole" else b"not yet: "
        assert (fork.status, fork.body.startswith(said)) == (403, True)
        assert door.memory.forks(LOG.name) == ()
        audited.show([*leaves, b"junk"], OLD)
        longer = door.add_checkpoint(asked([*leaves, b"junk"], size, OLD))
        assert (longer.status, longer.body.startswith(b"not this log: the keys in force")) == (422, True)
        audited.publish()
        assert door.add_checkpoint(asked(leaves, size, *audited.keys)).status == 200
        true = door.add_checkpoint(asked([*leaves[:-1], b"junk"], size, *audited.keys))
        assert (true.status, len(door.memory.forks(LOG.name))) == (409, 1), "all keys in force do convict the log"
    audited.made.log.store.close()
