"""An entry is accepted, durable, published, witnessed, in this order, and never goes back."""

from __future__ import annotations

import pytest

from keyturn.ledger.commit.states import EntryState, Reach


@pytest.mark.parametrize(
    ("index", "word"),
    [
        (0, "witnessed"),
        (2, "witnessed"),
        (3, "published"),
        (6, "published"),
        (7, "durable"),
        (9, "durable"),
        (10, "accepted"),
    ],
)
def test_the_sizes_of_a_log_say_how_far_each_entry_has_come(index, word):
    assert Reach(durable=10, published=7, witnessed=3).state_of(index).word == word


def test_the_states_have_an_order_and_no_entry_goes_back_as_a_log_grows():
    assert [each.word for each in sorted(EntryState)] == ["accepted", "durable", "published", "witnessed"]
    story = [Reach(0, 0, 0), Reach(5, 0, 0), Reach(6, 5, 0), Reach(9, 6, 0), Reach(9, 9, 6), Reach(12, 9, 9)]
    for index in range(12):
        states = [each.state_of(index) for each in story]
        assert states == sorted(states)
