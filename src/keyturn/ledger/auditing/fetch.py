"""Fetch the entries of a log, in order, from its static files (C2SP tlog-tiles v0.1.0), whoever serves them.

It asks a port for files by name and bounds what it takes. What it hands out nobody has vouched for yet: the caller
compares the root over it with a signed one before it keeps anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from keyturn.core.errors import MalformedInput, TamperDetected, Unavailable
from keyturn.ledger.note import NOTE_BYTES_MAX
from keyturn.ledger.tiles import CHECKPOINT, ENTRIES, WIDTH, Tile, unbundle

BUNDLE_BYTES_MAX = WIDTH * (2 + 0xFFFF)
"""The longest bundle that the format can carry: longer entries than a log may hold must be seen, to be named."""

_LATER = "nothing was kept; ask again once the log's static files are there"


class Absent(Unavailable):
    """There is no file of this name (yet)."""


class Tiles(Protocol):
    """Where a log's static files lie: a folder, a web server, a bucket."""

    def read(self, name: str, bytes_max: int) -> bytes:
        """The file of this name below the prefix, such as `checkpoint` or `tile/entries/000.p/12`.

        Raises `Absent` where there is none, `Unavailable` where it cannot be had now or is longer than `bytes_max`.
        """


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is fetched at once: entries, bytes, seconds. Who signs a size is believed about nothing else."""

    entries_max: int = 250_000
    bytes_max: int = 256 << 20
    seconds_max: float = 120.0


BOUNDS = Bounds()


def newest(tiles: Tiles) -> bytes:
    """The checkpoint that the static files show, unverified. Raises `Absent` and `Unavailable` as the port does."""
    return tiles.read(CHECKPOINT, NOTE_BYTES_MAX)


def entries(
    tiles: Tiles, start: int, end: int, *, bounds: Bounds = BOUNDS, elapsed: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """Yield the exact bytes of the entries from `start` up to `end`, none of them vouched for.

    Raises `Unavailable` where a file cannot be had or the bounds do not suffice, `TamperDetected` where a file is no
    bundle of the entries that belong there.
    """
    if end - start > bounds.entries_max:
        message = f"{end - start} entries are missing; at most {bounds.entries_max} are fetched at once"
        raise Unavailable(message, help="fetch in steps, from checkpoints in between: `keyturn auditor check`")
    until, left = elapsed() + bounds.seconds_max, bounds.bytes_max
    for n in range(start // WIDTH, -(-end // WIDTH)) if start < end else ():
        found = _bundle(tiles, n, min(end - n * WIDTH, WIDTH))
        left -= sum(map(len, found))
        if left < 0 or elapsed() > until:
            limit = f"{bounds.bytes_max} bytes" if left < 0 else f"{bounds.seconds_max:.0f} seconds"
            raise Unavailable(f"the entries up to {end} did not come within {limit}", help=_LATER)
        yield from found[max(start - n * WIDTH, 0) :]


def _bundle(tiles: Tiles, n: int, width: int) -> tuple[bytes, ...]:
    """The first `width` entries of a bundle; a full file may have taken the place of the partial one."""
    tile = Tile(ENTRIES, n, width)
    try:
        data = tiles.read(tile.name, BUNDLE_BYTES_MAX)
    except Absent:
        if tile.full:
            raise
        tile = Tile(ENTRIES, n)
        data = tiles.read(tile.name, BUNDLE_BYTES_MAX)
    try:
        found = unbundle(data)
    except MalformedInput as fault:
        raise _foreign(f"`{tile.name}`: {fault.message}") from fault
    if len(found) != tile.width:
        raise _foreign(f"`{tile.name}` holds {len(found)} entries; {tile.width} are expected")
    return found[:width]


def _foreign(message: str) -> TamperDetected:
    return TamperDetected(message, help="nothing was kept; tell whoever serves these files, and the log's operator")
