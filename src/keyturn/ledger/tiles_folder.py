"""The static tree of a log on disk: written file by file, the checkpoint last, and never over another history.

A crash leaves the old checkpoint with all its files, or the new one with all of its own; a file once written in full
is never changed. Checking computes every file again from the entries. Serving the folder needs no code of ours.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.core.errors import KeyturnError, TamperDetected, Unavailable, UntrustedInput
from keyturn.ledger import checkpoint, note, tiles, tree
from keyturn.ledger.check import PROBLEMS_MAX, Problem
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.store import Store
from keyturn.ledger.tiles import CHECKPOINT, ENTRIES, HEIGHT, WIDTH, Tile

DRAFT = ".new"
"""What a file is called while it is written: a dot, its name, and this."""

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


def publish(store: Store, log: note.Verifier, folder: Path) -> Published:
    """Bring the folder to the newest signed checkpoint, writing only what it lacks.

    Raises UntrustedInput for the folder of another log, TamperDetected for one that shows another history than ours
    or a file of other bytes, Unavailable when nothing is signed yet or the disk does not take it.
    """
    signed = store.checkpoint()
    if signed is None:
        raise Unavailable("no checkpoint is signed yet, so there is nothing to publish", help="`keyturn run`")
    head = checkpoint.open_checkpoint(signed, log).checkpoint
    with _held(folder):
        before = _published_size(store, log, folder)
        writer = _Writer(folder)
        sizes = [checkpoint.parse_body(each).size for each in store.checkpoints()]
        wanted = set(tiles.tiles_of(head.size, after=before))
        wanted |= tiles.partials_of([size for size in sizes if size > before], head.size)
        for tile in sorted(wanted):
            writer.add(tile.name, _content(store, folder, tile))
        writer.sync()
        _require_root(folder, head)
        writer.replace(CHECKPOINT, signed)
        return Published(head.size, before, writer.files, writer.written, _prune(folder))


def _content(store: Store, folder: Path, tile: Tile) -> bytes:
    """The bytes of a file, from the entries or from the full files of the level below, which lie there already."""
    if tile.level == ENTRIES:
        return tiles.bundle(tuple(store.leaves(tile.start, tile.end)))
    if tile.level == 0:
        return b"".join(tree.leaf_hash(leaf) for leaf in store.leaves(tile.start, tile.end))
    below = (Tile(tile.level - 1, n) for n in range(tile.start, tile.end))
    return b"".join(tiles.top(tiles.hashes_of((folder / each.name).read_bytes(), each.width)) for each in below)


def _published_size(store: Store, log: note.Verifier, folder: Path) -> int:
    """Return how many entries the checkpoint in the folder covers, 0 without one; raises as `publish` does."""
    try:
        kept = (folder / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        strangers = sorted(each.name for each in folder.iterdir() if each.name not in {"tile", f".{CHECKPOINT}{DRAFT}"})
        if strangers:
            message = f"the folder `{folder}` holds `{strangers[0]}` and no checkpoint; it is no published log"
            raise UntrustedInput(message, help="name an empty or a new folder") from None
        return 0
    try:
        said = checkpoint.open_checkpoint(kept, log).checkpoint
    except UntrustedInput as fault:
        message = f"the folder `{folder}` is of another log: {fault.message}"
        raise UntrustedInput(message, help=_ELSEWHERE) from fault
    held = store.head().size
    if said.size > held or store.root_at(said.size) != said.root:
        found = f"{held} entries" if said.size > held else f"another root for the first {said.size}"
        message = f"the folder `{folder}` shows {said.size} signed entries; this log has {found}"
        raise TamperDetected(message, help=_ELSEWHERE, proof=kept.decode("utf-8"))
    return said.size


def _names(folder: Path) -> Iterator[str]:
    """Every file of the folder by its path in it, drafts of a publishing that was cut off left out; links included."""
    for place, inner, files in os.walk(folder):
        links = [name for name in inner if (Path(place) / name).is_symlink()]
        for name in sorted((*files, *links)):
            if not (name.startswith(".") and name.endswith(DRAFT)):
                yield (Path(place) / name).relative_to(folder).as_posix()


def _prune(folder: Path) -> int:
    """Remove the partial files whose full one is there, and say how many: C2SP tlog-tiles lets them go then."""
    count = 0
    for place in sorted((folder / "tile").rglob("*.p")):
        if not place.with_suffix("").is_file():
            continue
        for each in sorted(place.iterdir()):
            tile = tiles.parse_name(each.relative_to(folder).as_posix())
            if tile is not None or each.name.endswith(DRAFT):
                each.unlink()
                count += tile is not None
        if not any(place.iterdir()):
            place.rmdir()
    return count


@dataclass(slots=True)
class _Writer:
    """Writes files into the folder, each whole or not at all, and counts them."""

    folder: Path
    files: int = 0
    written: int = 0
    touched: set[Path] = field(default_factory=set)

    def add(self, name: str, data: bytes) -> None:
        """Write a file that never changes; one of the same bytes may be there, one of others is TamperDetected."""
        place = self.folder / name
        if os.path.lexists(place):
            if place.is_symlink() or place.read_bytes() != data:
                message = f"`{place}` is there with other bytes than the log has"
                raise TamperDetected(message, help="`keyturn log fsck DIR` says all that differs")
            return
        self._write(place, data)

    def replace(self, name: str, data: bytes) -> None:
        """Write a file over what is there, unless it is the same already, and make it durable."""
        place = self.folder / name
        if not place.is_file() or place.is_symlink() or place.read_bytes() != data:
            self._write(place, data)
            self.sync()

    def sync(self) -> None:
        """Make the names of all written files durable."""
        for each in sorted(self.touched, reverse=True):
            handle = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        self.touched.clear()

    def _write(self, place: Path, data: bytes) -> None:
        self._make(place.parent)
        draft = place.with_name(f".{place.name}{DRAFT}")
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(place)
        self.touched.add(place.parent)
        self.files += 1
        self.written += len(data)

    def _make(self, place: Path) -> None:
        """The folder of a file, and those above it, none of them a link out of the folder."""
        if place == self.folder:
            return
        self._make(place.parent)
        if place.is_symlink():
            raise TamperDetected(f"`{place}` is a link; a folder of the log is expected", help=_ELSEWHERE)
        if not place.is_dir():
            place.mkdir(mode=0o755)
            self.touched.add(place.parent)


def _require_root(folder: Path, head: Checkpoint) -> None:
    """What was written must lead to what was signed, or nobody is shown the new checkpoint."""
    look = tiles.nodes(head.size, lambda tile: (folder / tile.name).read_bytes())
    if tree.root_from(head.size, look) != head.root:
        message = f"the files in `{folder}` do not lead to the signed root of {head.size} entries"
        raise TamperDetected(message, help="`keyturn log fsck DIR` says what differs; the checkpoint was not replaced")


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """One writer at a time, in a folder that is made where it is missing; what the disk refuses is `Unavailable`."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
    except OSError as fault:
        where = fault.filename or folder
        message = f"`{where}` cannot be published into: {(fault.strerror or str(fault)).lower()}"
        raise Unavailable(message, help="see who owns the folder and whether the disk is full") from fault


def check_folder(store: Store, log: note.Verifier, folder: Path) -> tuple[Problem, ...]:
    """Compare every file of a published folder with the log's entries; nothing means that a stranger can rely on it.

    The store itself must have been checked before. Raises Unavailable as the store does.
    """
    try:
        size = _published_size(store, log, folder)
    except KeyturnError as fault:
        proof = str(getattr(fault, "proof", ""))
        return (Problem("folder_must_be_of_this_log", fault.message, _EVIDENCE, proof),)
    problems = [] if size else [Problem("folder_must_have_a_checkpoint", "the folder has no checkpoint", _REBUILD)]
    return (*problems, *_shortened([*_differences(store, folder, size)]))


def rebuild(store: Store, log: note.Verifier, folder: Path) -> Published:
    """Make every derived file anew that is not what the log says, and publish; raises as `publish`.

    Only files with the names of derived files are ever replaced or removed.
    """
    size = _published_size(store, log, folder)
    writer = _Writer(folder)
    good = _Expected(store)
    for name in list(_names(folder)):
        tile = tiles.parse_name(name)
        if tile is not None and _found(folder, name) != good.of(tile):
            (folder / name).unlink()
    for tile in tiles.tiles_of(size):
        writer.add(tile.name, good.of(tile) or b"")
    writer.sync()
    done = publish(store, log, folder)
    return Published(done.size, done.before, done.files + writer.files, done.written + writer.written, done.pruned)


class _Expected:
    """What each file must hold, from the entries alone: not even the kept inner hashes are believed."""

    def __init__(self, store: Store) -> None:
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


def _differences(store: Store, folder: Path, size: int) -> Iterator[Problem]:
    good, there = _Expected(store), set(_names(folder))
    for tile in tiles.tiles_of(size):
        if tile.name not in there:
            yield Problem("folder_must_be_whole", f"`{tile.name}` is missing", _REBUILD)
    for name in sorted(there - {CHECKPOINT}):
        named = tiles.parse_name(name)
        if named is None:
            yield Problem("folder_must_hold_the_log_only", f"`{name}` is no file of a log", "find out who put it there")
        elif _found(folder, name) != good.of(named):
            yield Problem("files_must_follow_from_entries", f"`{name}` is not what its entries give", _REBUILD)


def _found(folder: Path, name: str) -> bytes | None:
    """The bytes of a file; None for a link, which could show something else tomorrow."""
    place = folder / name
    return None if place.is_symlink() or not place.is_file() else place.read_bytes()


def _shortened(problems: list[Problem]) -> Iterator[Problem]:
    yield from problems[:PROBLEMS_MAX]
    if len(problems) > PROBLEMS_MAX:
        more = len(problems) - PROBLEMS_MAX
        yield Problem("folder_must_be_whole", f"{more} more problems were found in the folder", _REBUILD)
