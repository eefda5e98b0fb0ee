"""The Merkle tree of RFC 6962 section 2.1: hashes, the frontier, and proofs in pairs of `prove_` and `check_`.

Hashes are 32 raw bytes. Everything is pure: nodes are handed in, and a check says yes or no and never why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput, invariant

HASH_BYTES = 32
"""The length of every hash in the tree."""

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of the tree without leaves."""

Nodes = Callable[[int, int], bytes]
"""`nodes(level, n)`: the hash over the 2**level leaves from n * 2**level on, all of which exist."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf; its first byte keeps it apart from every node."""
    return hashlib.sha256(b"\0" + leaf).digest()


def leaf_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """Return the hashes of many leaves; the same as `leaf_hash` of each, without a call of ours for each."""
    sha256 = hashlib.sha256
    return [sha256(b"\0" + leaf).digest() for leaf in leaves]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node from those of its two children."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that is needed to append: the hashes of the complete subtrees from the left, largest first."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        good = len(self.hashes) == self.size.bit_count() and all(len(h) == HASH_BYTES for h in self.hashes)
        invariant(self.size >= 0 and good, "a frontier has one hash per set bit of its size")

    def append(self, leaf: bytes) -> Frontier:
        """Return the frontier after one more leaf hash."""
        return self.extend((leaf,))

    def extend(
        self, leaves: Sequence[bytes], *, complete: Callable[[int, int, list[bytes]], None] | None = None
    ) -> Frontier:
        """Return the frontier after more leaf hashes, made level by level: one call per hash and little else.

        `complete(level, n, hashes)` hears of the nodes that closed on each level above the leaves, from the `n`-th on.
        """
        before, after, sha256 = list(self.hashes), self.size + len(leaves), hashlib.sha256
        row, hashes = list(leaves), []
        for level in range(after.bit_length()):
            if self.size >> level & 1:
                row.insert(0, before.pop())
            if len(row) & 1:
                hashes.append(row.pop())
            each = iter(row)
            row = [sha256(b"\1" + left + right).digest() for left, right in zip(each, each, strict=True)]
            if row and complete is not None:
                complete(level + 1, self.size >> level + 1, row)
        return Frontier(after, tuple(reversed(hashes)))

    def root(self) -> bytes:
        """Return the root of the tree with this many leaves."""
        if not self.hashes:
            return EMPTY_ROOT
        found = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            found = node_hash(left, found)
        return found


def root_from(size: int, nodes: Nodes) -> bytes:
    """Return the root over the first `size` leaves."""
    return _range_root(0, size, nodes) if size else EMPTY_ROOT


def frontier_from(size: int, nodes: Nodes) -> Frontier:
    """Return the frontier over the first `size` leaves."""
    hashes: list[bytes] = []
    start = 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            hashes.append(nodes(level, start >> level))
            start += 1 << level
    return Frontier(size, tuple(hashes))


def prove_inclusion(*, index: int, size: int, nodes: Nodes) -> tuple[bytes, ...]:
    """Return the hashes that lead from the leaf at `index` to the root over `size` leaves (RFC 6962, 2.1.1)."""
    if not 0 <= index < size:
        raise MalformedInput(f"found the index {index}; 0 to {size - 1} are in the tree", help="ask for a leaf in it")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_root(middle, end, nodes))
            end = middle
        else:
            path.append(_range_root(start, middle, nodes))
            start = middle
    return tuple(reversed(path))


def check_inclusion(*, index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether `proof` shows that the leaf hash `leaf` is at `index` under `root` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or not _hashes((leaf, *proof)):
        return False
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def prove_consistency(*, old: int, new: int, nodes: Nodes) -> tuple[bytes, ...]:
    """Return the hashes that show that the tree of `new` leaves begins with that of `old` (RFC 6962, 2.1.2)."""
    if not 0 <= old <= new:
        raise MalformedInput(f"found the sizes {old} and {new}; the older is expected first", help="swap the sizes")
    path: list[bytes] = []
    start, end, whole = 0, new, True
    while 0 < old < end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_range_root(middle, end, nodes))
            end = middle
        else:
            path.append(_range_root(start, middle, nodes))
            start, whole = middle, False
    if old and not whole:
        path.append(_range_root(start, end, nodes))
    return tuple(reversed(path))


def check_consistency(*, old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether `proof` shows that the newer tree begins with the older (RFC 9162, 2.1.4.2).

    The empty tree is the beginning of every tree: with `old` 0 the answer is yes for the empty proof and the
    empty tree's root, as C2SP tlog-witness requires, and no for anything else.
    """
    if not 0 <= old <= new or not _hashes(proof):
        return False
    if old == 0:
        return not proof and old_root == EMPTY_ROOT and (new > 0 or new_root == EMPTY_ROOT)
    if old == new:
        return not proof and old_root == new_root
    path = list(proof)
    if old.bit_count() == 1:
        path.insert(0, old_root)
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    older = newer = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            newer = node_hash(newer, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and older == old_root and newer == new_root


def _hashes(candidates: Iterable[bytes]) -> bool:
    """A sibling of another length could move the border between the two halves of a node."""
    return all(len(each) == HASH_BYTES for each in candidates)


def _split(width: int) -> int:
    """The largest power of two below `width`."""
    return 1 << (width - 1).bit_length() - 1


def _range_root(start: int, end: int, nodes: Nodes) -> bytes:
    """The hash over the leaves from `start` up to `end`; `start` is a multiple of the width's next power of two."""
    width = end - start
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return nodes(level, start >> level)
    middle = start + _split(width)
    return node_hash(_range_root(start, middle, nodes), _range_root(middle, end, nodes))
