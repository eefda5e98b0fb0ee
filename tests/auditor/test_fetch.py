"""The entries of a log out of its static files: whole, in order, bounded, and none of them believed."""

from __future__ import annotations

import itertools

import pytest

from keyturn.core.errors import TamperDetected, Unavailable
from keyturn.ledger.auditing import fetch
from keyturn.ledger.auditing.fetch import Absent, Bounds
from tests.auditor.scene import Shelf

LEAVES = tuple(b"entry %d" % n for n in range(600))


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 600])
@pytest.mark.parametrize("start", [0, 1, 255, 256, 300])
def test_what_is_missing_comes_in_order_at_every_edge(start, size):
    if start <= size:
        assert tuple(fetch.entries(Shelf(LEAVES[:size]), start, size)) == LEAVES[start:size]


def test_only_the_files_that_hold_something_new_are_asked_for():
    shelf = Shelf(LEAVES)
    list(fetch.entries(shelf, 520, 600))
    assert shelf.asked == ["tile/entries/002.p/88"]
    assert list(fetch.entries(shelf, 600, 600)) == []
    assert len(shelf.asked) == 1


def test_a_partial_file_that_a_full_one_replaced_is_read_from_the_full_one():
    assert tuple(fetch.entries(Shelf(LEAVES), 300, 400)) == LEAVES[300:400]


def test_a_partial_file_of_another_width_is_not_taken_instead():
    with pytest.raises(Absent):
        list(fetch.entries(Shelf(LEAVES[:40]), 0, 39))


def test_a_missing_file_is_told_apart_from_a_wrong_one():
    shelf = Shelf(LEAVES)
    del shelf.files["tile/entries/001"]
    with pytest.raises(Absent, match="tile/entries/001"):
        list(fetch.entries(shelf, 0, 600))
    for wrong in (shelf.files["tile/entries/000"][:-1], shelf.files["tile/entries/002.p/88"], b""):
        shelf.files["tile/entries/001"] = wrong
        with pytest.raises(TamperDetected, match="tile/entries/001"):
            list(fetch.entries(shelf, 0, 600))


def test_a_signed_size_alone_makes_nobody_fetch_for_ever():
    with pytest.raises(Unavailable, match="at most 250000 are fetched at once"):
        list(fetch.entries(Shelf(LEAVES), 0, 2**53 - 1))
    with pytest.raises(Unavailable, match="did not come within 2000 bytes"):
        list(fetch.entries(Shelf(LEAVES), 0, 600, bounds=Bounds(bytes_max=2000)))
    slow = itertools.count(0, 7)
    with pytest.raises(Unavailable, match="did not come within 10 seconds"):
        list(fetch.entries(Shelf(LEAVES), 0, 600, bounds=Bounds(seconds_max=10), elapsed=lambda: float(next(slow))))
