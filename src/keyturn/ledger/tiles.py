"""The log as static files (C2SP tlog-tiles v0.1.0): which files a tree of a size has, their names and their bytes.

It names, packs and unpacks; `tiles_folder` writes them, and `fsck` compares them with the log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput, invariant
from keyturn.ledger import tree

WIDTH = 256
"""How many hashes or entries a full file holds."""

HEIGHT = 8
"""How many levels of the tree one level of tiles spans."""

ENTRIES = -1
"""The level of entry bundles, which are cut like the tiles of level 0."""

CHECKPOINT = "checkpoint"

_NAME = re.compile(r"tile/(0|[1-9]|[1-5][0-9]|6[0-3]|entries)/((?:x[0-9]{3}/)*)([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_HELP = "publish the log anew into an empty folder: `keyturn log tiles DIR`"


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """One file: a tile of `level`, or with `ENTRIES` a bundle of entries; `width` below 256 makes it partial."""

    level: int
    n: int
    width: int = WIDTH

    @property
    def full(self) -> bool:
        """Whether nothing can be added to it any more."""
        return self.width == WIDTH

    @property
    def start(self) -> int:
        """The place of its first hash or entry within its level."""
        return self.n * WIDTH

    @property
    def end(self) -> int:
        """The place after its last hash or entry within its level."""
        return self.start + self.width

    @property
    def name(self) -> str:
        """Its path below the prefix, such as `tile/0/x001/x234/067` or `tile/entries/000.p/12`."""
        digits = f"{self.n:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        place = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
        level = "entries" if self.level == ENTRIES else str(self.level)
        return f"tile/{level}/{place}" + ("" if self.full else f".p/{self.width}")


def parse_name(name: str) -> Tile | None:
    """The file that this path below the prefix names; None for any other spelling."""
    match = _NAME.fullmatch(name)
    if not match:
        return None
    level = ENTRIES if match[1] == "entries" else int(match[1])
    tile = Tile(level, int(match[2].replace("x", "").replace("/", "") + match[3]), int(match[4] or WIDTH))
    return tile if tile.width <= WIDTH and tile.name == name else None


def tiles_of(size: int, *, after: int = 0) -> Iterator[Tile]:
    """Every file of a tree of `size` leaves that the tree of `after` leaves did not have in full, lowest level first.

    Each level has its full files and at most one partial one; an empty one does not exist.
    """
    for level in (ENTRIES, *range(_levels(size))):
        shift = HEIGHT * max(level, 0)
        had, has = after >> shift, size >> shift
        yield from (Tile(level, n) for n in range(had // WIDTH, has // WIDTH))
        if has % WIDTH and has != had:
            yield Tile(level, has // WIDTH, has % WIDTH)


def partials_of(sizes: Collection[int], size: int) -> set[Tile]:
    """The partial files of earlier published sizes that the tree of `size` leaves does not yet hold in full.

    Whoever holds a checkpoint of such a size may ask for them; a full file takes their place.
    """
    found: set[Tile] = set()
    for level in (ENTRIES, *range(_levels(size))):
        shift = HEIGHT * max(level, 0)
        last = (size >> shift) // WIDTH
        places = {each >> shift for each in sizes if each <= size}
        found |= {Tile(level, last, each % WIDTH) for each in places if each // WIDTH == last and each % WIDTH}
    return found


def bundle(leaves: Sequence[bytes]) -> bytes:
    """Return an entry bundle: each entry after its length in two bytes."""
    invariant(all(len(leaf) <= 0xFFFF for leaf in leaves), "the store keeps no entry longer than a bundle can hold")
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def unbundle(data: bytes) -> tuple[bytes, ...]:
    """Return the entries of a bundle; raises MalformedInput for one that is cut short."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        entry = data[at + 2 : at + 2 + length]
        if len(data) - at < 2 or len(entry) != length:
            raise MalformedInput(f"found a bundle that is cut short after entry {len(found)}", help=_HELP)
        found.append(entry)
        at += 2 + length
    return tuple(found)


def hashes_of(data: bytes, width: int) -> tuple[bytes, ...]:
    """Return the hashes of a tile; raises MalformedInput when it does not hold exactly `width` of them."""
    if len(data) != width * tree.HASH_BYTES:
        message = f"found a tile of {len(data)} bytes; {width} hashes have {width * tree.HASH_BYTES}"
        raise MalformedInput(message, help=_HELP)
    return tuple(data[at : at + tree.HASH_BYTES] for at in range(0, len(data), tree.HASH_BYTES))


def nodes(size: int, read: Callable[[Tile], bytes]) -> tree.Nodes:
    """Return a look-up of complete subtrees in the tiles of a tree of `size` leaves; `read` hands out their bytes.

    With it, `tree` finds the root and makes every proof from the static files alone.
    """

    def look(level: int, n: int) -> bytes:
        kept, up = divmod(level, HEIGHT)
        start = n << up
        place = start // WIDTH
        tile = Tile(kept, place, min((size >> HEIGHT * kept) - place * WIDTH, WIDTH))
        hashes = hashes_of(read(tile), tile.width)[start - tile.start : start - tile.start + (1 << up)]
        invariant(len(hashes) == 1 << up, "only complete subtrees are asked for")
        return top(hashes)

    return look


def top(hashes: Sequence[bytes]) -> bytes:
    """Return the hash over a complete subtree from those of one level in it, a power of two of them."""
    while len(hashes) > 1:
        hashes = [tree.node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def _levels(size: int) -> int:
    """How many levels of tiles a tree of this size has."""
    return max(1, -(-size.bit_length() // HEIGHT)) if size else 0
