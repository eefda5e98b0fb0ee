"""One part of the log, recomputed alone: entries of one whole subtree, or what there is of the last one.

Parts join without looking at an entry again: a finished part is one hash of the tree above, and every frontier inside
it is the frontier of the parts before, followed by its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from keyturn.ledger import tree
from keyturn.ledger.rows import STRIDE
from keyturn.ledger.stores.port import LogStore, Page

LEVEL = 16
"""A part is a subtree of this level: 65,536 entries, a tenth of a second."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be recomputed: a log of so many entries in parts of 2**`level`, and the sizes whose roots matter."""

    size: int
    wanted: tuple[int, ...]
    level: int

    @property
    def parts(self) -> int:
        """How many parts there are; the last may be short."""
        return -(-self.size >> self.level)

    def range(self, part: int) -> tuple[int, int]:
        """The first entry of a part, and the first beyond it."""
        return part << self.level, min(part + 1 << self.level, self.size)

    def inside(self, part: int) -> tuple[int, ...]:
        """The wanted sizes that end within a part."""
        start, end = self.range(part)
        return tuple(size for size in self.wanted if start < size < end)


@dataclass(slots=True)
class Found:
    """What the entries of one part make, and where they differ from what was kept.

    `gaps` are ranges of missing entries; after the first no hash of the part is known any more. `next` is the index
    after the last entry that is there, 0 without any. `heads` are the part's own frontiers at the wanted sizes.
    """

    frontier: tree.Frontier = field(default_factory=tree.Frontier)
    heads: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    edited: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    wrong: list[tuple[int, int]] = field(default_factory=list)
    next: int = 0

    def to_json(self) -> dict[str, Any]:
        """Everything, for another process."""
        return {
            "size": self.frontier.size,
            "hashes": [each.hex() for each in self.frontier.hashes],
            "heads": [[size, [each.hex() for each in hashes]] for size, hashes in self.heads.items()],
            "edited": [[index, kept.hex(), found.hex()] for index, kept, found in self.edited],
            "gaps": self.gaps,
            "wrong": self.wrong,
            "next": self.next,
        }

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Self:
        """What another process of ours found."""
        return cls(
            tree.Frontier(said["size"], tuple(map(bytes.fromhex, said["hashes"]))),
            {size: tuple(map(bytes.fromhex, hashes)) for size, hashes in said["heads"]},
            [(index, bytes.fromhex(kept), bytes.fromhex(found)) for index, kept, found in said["edited"]],
            [(start, stop) for start, stop in said["gaps"]],
            [(level, n) for level, n in said["wrong"]],
            said["next"],
        )


def recompute(store: LogStore, task: Task, part: int) -> Found:
    """Hash the entries of one part again and compare with what was kept beside them."""
    (start, end), found = task.range(part), Found()
    walk, at = _Walk(task.inside(part), found), start
    for page in store.scan(end, start=start):
        at = walk.step(page, at)
    if at < end:
        found.gaps.append((at, end))
    for level, hashes in walk.made.items():
        found.wrong += differing(store, level, start >> level, hashes)
    return found


@dataclass(slots=True)
class _Walk:
    """The entries of one part from left to right."""

    wanted: tuple[int, ...]
    found: Found
    made: dict[int, list[bytes]] = field(default_factory=dict)

    def step(self, page: Page, at: int) -> int:
        """Take the next entries, of which `at` is expected first; returns the index that is expected after them."""
        found, hashes = self.found, tree.leaf_hashes(page.leaves)
        if hashes != page.hashes:
            both = zip(page.indexes, page.hashes, hashes, strict=True)
            found.edited += [(index, kept, made) for index, kept, made in both if kept != made]
        after = page.indexes[-1] + 1
        if len(page.leaves) != after - at:
            found.gaps += _gaps(page, at)
        found.next = after
        if found.gaps:
            return after
        begun = at
        for stop in (*(size for size in self.wanted if at < size < after), after):
            found.frontier = found.frontier.extend(hashes[at - begun : stop - begun], complete=self._complete)
            if stop in self.wanted:
                found.heads[stop] = found.frontier.hashes
            at = stop
        return after

    def _complete(self, level: int, n: int, hashes: list[bytes]) -> None:
        """Keep the inner hashes that a log keeps; they come from left to right, from the part's first on."""
        if level % STRIDE == 0:
            self.made.setdefault(level, []).extend(hashes)


def differing(store: LogStore, level: int, n: int, hashes: list[bytes]) -> list[tuple[int, int]]:
    """The level and number of each kept inner hash, from the `n`-th on, that is not this one."""
    kept = store.kept_hashes(level, n, n + len(hashes))
    if kept == hashes:
        return []
    return [(level, n + at) for at, value in enumerate(hashes) if kept[at] != value]


def _gaps(page: Page, at: int) -> Iterator[tuple[int, int]]:
    for index in page.indexes:
        if index > at:
            yield at, index
        at = index + 1
