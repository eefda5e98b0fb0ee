"""The four states of an entry, in their order: accepted, durable, published, witnessed.

Pure: sizes are handed in. A state is never taken back, as a log only grows and keeps its signed heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class EntryState(IntEnum):
    """How far an entry has come; a later state holds all that an earlier one promises."""

    ACCEPTED = 0
    """In memory, from the moment that it was handed in: a crash loses it, and whoever handed it in was told nothing."""
    DURABLE = 1
    """On disk, from the moment that the data sync returned: a crash loses it no more."""
    PUBLISHED = 2
    """Under a head that the log's key signed: the operator cannot take it back without a second signature."""
    WITNESSED = 3
    """Under a head that enough witnesses of the policy cosigned: the operator cannot take it back unseen."""

    @property
    def word(self) -> str:
        """The state in a word."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Reach:
    """How many entries of a log are at least durable, published and witnessed."""

    durable: int
    published: int
    witnessed: int

    def state_of(self, index: int) -> EntryState:
        """The state of an accepted entry that has this index, or will have it."""
        if index < self.witnessed:
            return EntryState.WITNESSED
        if index < self.published:
            return EntryState.PUBLISHED
        return EntryState.DURABLE if index < self.durable else EntryState.ACCEPTED
