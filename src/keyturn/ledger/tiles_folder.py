"""The static tree of a log in a place: written file by file, the checkpoint last, and never over another history.

A crash leaves the old checkpoint with all its files, or the new one with all of its own; a file once written in full
is never changed. Checking computes every file again from the entries. Where the files lie, `places` knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keyturn.core.errors import KeyturnError, TamperDetected, Unavailable, UntrustedInput
from keyturn.ledger import checkpoint, note, tiles, tree
from keyturn.ledger.check import PROBLEMS_MAX, Problem
from keyturn.ledger.checkpoint import Checkpoint, Keys
from keyturn.ledger.places.port import Place
from keyturn.ledger.stores.port import LogStore
from keyturn.ledger.tiles import CHECKPOINT, ENTRIES, HEIGHT, WIDTH, Tile

_REBUILD = "`keyturn log fsck DIR --rebuild` makes it anew from the log"
_EVIDENCE = "keep the folder as it is, and compare its checkpoint with those that others hold"
_ELSEWHERE = "publish into an empty folder, and keep this one as it is: somebody may have to explain it"


@dataclass(frozen=True, slots=True)
class Published:
    """What publishing did: how many entries the folder shows, what was written, how many partial files went."""

    size: int
    before: int
    files: int
    written: int
    pruned: int


def lay(store: LogStore, log: note.Verifier | Keys, place: Place) -> None:
    """Write the files of the newest signed checkpoint and not the checkpoint itself: for whoever is to cosign it.

    Raises as `publish` does.
    """
    signed = store.checkpoint()
    if signed is not None:
        with place.held():
            _lay(store, log, _Writer(place), checkpoint.open_checkpoint(signed, log).checkpoint)


def publish(store: LogStore, log: note.Verifier | Keys, place: Place, shown: bytes | None = None) -> Published:
    """Bring the folder to the checkpoint `shown` (None: the newest signed), writing only what it lacks.

    Raises UntrustedInput for the folder of another log, TamperDetected for one that shows another history than ours
    or a file of other bytes, Unavailable when nothing is signed yet or the disk does not take it.
    """
    signed = store.checkpoint() if shown is None else shown
    if signed is None:
        raise Unavailable("no checkpoint is signed yet, so there is nothing to publish", help="`keyturn run`")
    head = checkpoint.open_checkpoint(signed, log).checkpoint
    with place.held():
        writer = _Writer(place)
        before = _lay(store, log, writer, head)
        writer.replace(CHECKPOINT, signed)
        return Published(head.size, before, writer.files, writer.written, _prune(place))


def _lay(store: LogStore, log: note.Verifier | Keys, writer: _Writer, head: Checkpoint) -> int:
    """Write every file of this head that is not there yet, and return how many entries were published before."""
    place = writer.place
    before = _published_size(store, log, place)
    sizes = [checkpoint.parse_body(each).size for each in store.checkpoints()]
    wanted = set(tiles.tiles_of(head.size, after=before))
    wanted |= tiles.partials_of([size for size in sizes if size > before], head.size)
    for tile in sorted(wanted):
        writer.add(tile.name, _content(store, place, tile))
    place.sync()
    _require_root(place, head)
    return before


def _content(store: LogStore, place: Place, tile: Tile) -> bytes:
    """The bytes of a file, from the entries or from the full files of the level below, which lie there already."""
    if tile.level == ENTRIES:
        return tiles.bundle(tuple(store.leaves(tile.start, tile.end)))
    if tile.level == 0:
        return b"".join(tree.leaf_hash(leaf) for leaf in store.leaves(tile.start, tile.end))
    below = (Tile(tile.level - 1, n) for n in range(tile.start, tile.end))
    return b"".join(tiles.top(tiles.hashes_of(_bytes(place, each.name), each.width)) for each in below)


def _published_size(store: LogStore, log: note.Verifier | Keys, place: Place) -> int:
    """Return how many entries the checkpoint in the folder covers, 0 without one; raises as `publish` does."""
    kept = place.read(CHECKPOINT)
    if kept is None:
        stranger = next((name for name in place.names() if name != "tile" and not name.startswith("tile/")), None)
        if stranger is not None:
            message = f"{place.title} holds `{stranger}` and no checkpoint; it is no published log"
            raise UntrustedInput(message, help="name an empty or a new folder")
        return 0
    try:
        said = checkpoint.open_checkpoint(kept, log).checkpoint
    except UntrustedInput as fault:
        message = f"{place.title} is of another log: {fault.message}"
        raise UntrustedInput(message, help=_ELSEWHERE) from fault
    held = store.head().size
    if said.size > held or store.root_at(said.size) != said.root:
        found = f"{held} entries" if said.size > held else f"another root for the first {said.size}"
        message = f"{place.title} shows {said.size} signed entries; this log has {found}"
        raise TamperDetected(message, help=_ELSEWHERE, proof=kept.decode("utf-8"))
    return said.size


def _prune(place: Place) -> int:
    """Remove the partial files whose full one is there, and say how many: C2SP tlog-tiles lets them go then."""
    names, count = set(place.names()), 0
    for name in sorted(names):
        tile = tiles.parse_name(name)
        if tile is not None and not tile.full and Tile(tile.level, tile.n).name in names:
            place.remove(name)
            count += 1
    return count


def _bytes(place: Place, name: str) -> bytes:
    """The bytes of a file that must be there; raises TamperDetected."""
    found = place.read(name)
    if found is None:
        message = f"`{name}` is missing from {place.title}"
        raise TamperDetected(message, help="`keyturn log fsck DIR` says all that differs")
    return found


@dataclass(slots=True)
class _Writer:
    """Writes files into the place and counts them."""

    place: Place
    files: int = 0
    written: int = 0

    def add(self, name: str, data: bytes) -> None:
        """Write a file that never changes; raises as the place does."""
        self._count(self.place.write_once(name, data), data)

    def replace(self, name: str, data: bytes) -> None:
        """Write a file over what is there, unless it is the same already."""
        self._count(self.place.replace(name, data), data)

    def _count(self, new: bool, data: bytes) -> None:
        self.files += new
        self.written += len(data) if new else 0


def _require_root(place: Place, head: Checkpoint) -> None:
    """What was written must lead to what was signed, or nobody is shown the new checkpoint."""
    look = tiles.nodes(head.size, lambda tile: _bytes(place, tile.name))
    if tree.root_from(head.size, look) != head.root:
        message = f"the files in {place.title} do not lead to the signed root of {head.size} entries"
        raise TamperDetected(message, help="`keyturn log fsck DIR` says what differs; the checkpoint was not replaced")


def check_folder(store: LogStore, log: note.Verifier | Keys, place: Place) -> tuple[Problem, ...]:
    """Compare every file of a published folder with the log's entries; nothing means that a stranger can rely on it.

    The store itself must have been checked before. Raises Unavailable as the store does.
    """
    try:
        size = _published_size(store, log, place)
    except Unavailable:
        raise
    except KeyturnError as fault:
        proof = str(getattr(fault, "proof", ""))
        return (Problem("folder_must_be_of_this_log", fault.message, _EVIDENCE, proof),)
    problems = [] if size else [Problem("folder_must_have_a_checkpoint", "the folder has no checkpoint", _REBUILD)]
    return (*problems, *_shortened([*_differences(store, place, size)]))


def rebuild(store: LogStore, log: note.Verifier | Keys, place: Place, shown: bytes | None) -> Published:
    """Make every derived file anew that is not what the log says, and publish; raises as `publish`.

    `shown` is the newest checkpoint that may be shown; a newer one that the folder shows already stays. Only files with
    the names of derived files are ever replaced or removed.
    """
    size = _published_size(store, log, place)
    if shown is None or checkpoint.parse_body(shown).size < size:
        shown = place.read(CHECKPOINT)
    if shown is None:
        raise Unavailable("no checkpoint may be shown before its witnesses cosigned it", help="`keyturn status`")
    writer = _Writer(place)
    good = _Expected(store)
    for name in list(place.names()):
        tile = tiles.parse_name(name)
        if tile is not None and place.read(name) != good.of(tile):
            place.remove(name)
    for tile in tiles.tiles_of(size):
        writer.add(tile.name, good.of(tile) or b"")
    place.sync()
    done = publish(store, log, place, shown)
    return Published(done.size, done.before, done.files + writer.files, done.written + writer.written, done.pruned)


class _Expected:
    """What each file must hold, from the entries alone: not even the kept inner hashes are believed."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._size = store.head().size
        self._levels = [[tree.leaf_hash(leaf) for leaf in store.leaves(0, self._size)]]
        while len(below := self._levels[-1]) >= WIDTH:
            whole = range(0, len(below) - WIDTH + 1, WIDTH)
            self._levels.append([tiles.top(below[at : at + WIDTH]) for at in whole])

    def of(self, tile: Tile) -> bytes | None:
        """The bytes of a file; None where the log does not reach so far."""
        if tile.end > self._size >> HEIGHT * max(tile.level, 0):
            return None
        if tile.level == ENTRIES:
            return tiles.bundle(tuple(self._store.leaves(tile.start, tile.end)))
        return b"".join(self._levels[tile.level][tile.start : tile.end])


def _differences(store: LogStore, place: Place, size: int) -> Iterator[Problem]:
    good, there = _Expected(store), set(place.names())
    for tile in tiles.tiles_of(size):
        if tile.name not in there:
            yield Problem("folder_must_be_whole", f"`{tile.name}` is missing", _REBUILD)
    for name in sorted(there - {CHECKPOINT}):
        named = tiles.parse_name(name)
        if named is None:
            yield Problem("folder_must_hold_the_log_only", f"`{name}` is no file of a log", "find out who put it there")
        elif place.read(name) != good.of(named):
            yield Problem("files_must_follow_from_entries", f"`{name}` is not what its entries give", _REBUILD)


def _shortened(problems: list[Problem]) -> Iterator[Problem]:
    yield from problems[:PROBLEMS_MAX]
    if len(problems) > PROBLEMS_MAX:
        more = len(problems) - PROBLEMS_MAX
        yield Problem("folder_must_be_whole", f"{more} more problems were found in the folder", _REBUILD)
