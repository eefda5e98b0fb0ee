"""The same bytes handed in again: no new bets, no other claim, no second generation of the same bytes."""

from __future__ import annotations

from pathlib import Path

from tests.attacks.hostile import govern

BREAKS_AT_RANDOM = """
read()
write({"type": "ready"})
while True:
    frame = read()
    outputs = [3 if os.urandom(1)[0] < 64 else column(board) for board in frame["items"]]
    write({"type": "answer", "block": frame["block"], "outputs": outputs})
"""


def test_the_same_bytes_go_on_with_their_old_bets(tmp_path: Path) -> None:
    ended = govern(tmp_path, answer=BREAKS_AT_RANDOM, candidates=2)
    first, second = ended.state.candidates.values()
    assert first.root == second.root
    assert second.status == "rejected"
    for threshold in ended.state.current.policy.thresholds if ended.state.current else ():
        old, new = (ended.state.trials[f"{each.name}/{threshold.id}"] for each in (first, second))
        assert (old.values, old.verdict) == (new.values, new.verdict)
        assert ended.state.lineage is not None
        assert ended.state.lineage.charges[threshold.id].count(first.root) == 1
    ended.require_lawful()


def test_the_same_bytes_cannot_be_handed_in_under_another_claim(tmp_path: Path) -> None:
    """The bets on a modest claim went on under a proud one, which so was never tried."""
    improve = """
    modest = os.environ["KEYTURN_SEED"].endswith("1")
    produce(CANDIDATE, '{"win_rate_against_parent": %s}' % ("0.9" if modest else "0.1"))
    """
    ended = govern(tmp_path, improve=improve, candidates=2)
    first, second = ended.state.candidates.values()
    assert (first.root, first.status, second.status) == (second.root, "rejected", "rejected")
    assert f"{second.name}/claim" not in ended.state.trials
    assert ended.kinds == ["forged-claim"], "only the first one's claim was shown to be false"
    ended.require_lawful()


def test_a_copy_of_a_generation_is_refused_before_any_trial(tmp_path: Path) -> None:
    improve = (
        'for name in os.listdir("/parent"):\n    open("/out/" + name, "wb").write(open("/parent/" + name, "rb").read())'
    )
    ended = govern(tmp_path, improve=improve, candidates=2)
    assert [candidate.status for candidate in ended.state.candidates.values()] == ["rejected", "rejected"]
    assert ended.state.trials == {}
    ended.require_lawful()
