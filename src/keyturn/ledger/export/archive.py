"""A whole log in one file for an auditor: a plain tar archive of the static files of C2SP tlog-tiles, and a manifest.

The same log gives the same bytes, and a reader takes no archive that this would not have written: it holds exactly the
names that the manifest implies, in their order, uncompressed. It never says whether what it reads is true.

Version 2 also holds blobs, and names those that it withholds; files of version 1 hold none and stay readable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import BinaryIO

from keyturn.core.errors import MalformedInput, TamperDetected, invariant
from keyturn.core.terms import Json
from keyturn.ledger import note, tree
from keyturn.ledger.checkpoint import SIZE_MAX
from keyturn.wire import canonical
from keyturn.wire.blobs.blob import BLOB_BYTES_MAX
from keyturn.wire.digest import parse
from keyturn.wire.leaf import LEAF_BYTES_MAX

FORMAT = "urn:keyturn:log-export:v2"
FIRST_FORMAT = "urn:keyturn:log-export:v1"
"""What was written before there were blobs."""

TILE = 256
"""How many hashes or entries a full tile holds (C2SP tlog-tiles)."""

BLOCK = 512
END = bytes(2 * BLOCK)
MANIFEST_BYTES_MAX = 16_000_000
ENTRIES_BYTES_MAX = TILE * (2 + LEAF_BYTES_MAX)
_HELP = "do not rely on this file; ask for another copy, and keep this one as evidence"
_ROOT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the file says that it holds; nobody signed it, so everything in it is compared with what is signed.

    `blobs` and `withheld` are digests in rising order: what is in the file, and what entries name that is not.
    """

    origin: str
    genesis: str
    log_key: str
    size: int
    root: str
    checkpoints: tuple[int, ...]
    blobs: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    format: str = FORMAT


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint with its signatures; `size` is that of its name, None for the one that is called `checkpoint`."""

    size: int | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Entries:
    """The exact bytes of the entries of one bundle, from the entry `first` on; `width` is how many belong there."""

    first: int
    width: int
    leaves: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """The hashes of one tile, from the hash `first` of level `level` on."""

    level: int
    first: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """The exact bytes of a blob that entries name by `digest`; whether they are those is for the reader to check."""

    digest: str
    encoded: bytes


@dataclass(slots=True)
class Levels:
    """The hashes of all tiles over the entries so far: level 0 the entries' own, above it one for each full tile."""

    hashes: list[list[bytes]] = field(default_factory=lambda: [[]])
    frontier: tree.Frontier = field(default_factory=tree.Frontier)

    @property
    def size(self) -> int:
        """How many entries."""
        return len(self.hashes[0])

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Take more leaf hashes."""
        self.frontier = self.frontier.extend(leaves)
        for leaf in leaves:
            value = leaf
            for level in self.hashes:
                level.append(value)
                if len(level) % TILE:
                    break
                value = tree.Frontier().extend(level[-TILE:]).root()
            else:
                self.hashes.append([value])

    def root(self) -> bytes:
        """The root over the entries so far."""
        return self.frontier.root()


Part = Manifest | Note | Entries | Tile | Shown


def write(
    file: BinaryIO,
    manifest: Manifest,
    notes: Sequence[bytes],
    leaves: Iterable[bytes],
    blobs: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Write a log that ends in its newest checkpoint; `notes` stand in the order of `manifest.checkpoints`.

    `blobs` are the bytes of each of `manifest.blobs`.
    """
    invariant(len(notes) == len(manifest.checkpoints) > 0, "every checkpoint has its note")
    _put(file, "manifest.json", _encode(manifest))
    _put(file, "checkpoint", notes[-1])
    for size, data in zip(manifest.checkpoints, notes, strict=True):
        _put(file, f"checkpoints/{size}", data)
    levels, rest = Levels(), iter(leaves)
    for n, width in _widths(manifest.size):
        bundle = [leaf for _, leaf in zip(range(width), rest, strict=False)]
        levels.extend([tree.leaf_hash(leaf) for leaf in bundle])
        _put(file, _name("entries", n, width), b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in bundle))
    sound = (levels.size, levels.root().hex()) == (manifest.size, manifest.root)
    invariant(sound, "a manifest names the log that is written")
    for level, n, width in _tiles(manifest.size):
        _put(file, _name(str(level), n, width), b"".join(levels.hashes[level][n * TILE : n * TILE + width]))
    for digest in manifest.blobs:
        _put(file, f"blobs/{digest.removeprefix('sha256:')}", blobs[digest])
    file.write(END)


def read(file: BinaryIO) -> Iterator[Part]:
    """Yield what the file holds, the manifest first; raises `TamperDetected` at the first place that is out of form.

    What was yielded before stands. Nothing is read that is longer than its kind may be, whatever the file declares.
    """
    manifest = _decode(_take(file, "manifest.json", MANIFEST_BYTES_MAX))
    yield manifest
    yield Note(None, _take(file, "checkpoint", note.NOTE_BYTES_MAX))
    for size in manifest.checkpoints:
        yield Note(size, _take(file, f"checkpoints/{size}", note.NOTE_BYTES_MAX))
    for n, width in _widths(manifest.size):
        name = _name("entries", n, width)
        yield Entries(n * TILE, width, _leaves(name, _take(file, name, ENTRIES_BYTES_MAX)))
    for level, n, width in _tiles(manifest.size):
        name = _name(str(level), n, width)
        data = _take(file, name, width * tree.HASH_BYTES)
        if len(data) != width * tree.HASH_BYTES:
            raise _broken(f"`{name}` holds {len(data)} bytes; {width} hashes are expected")
        yield Tile(level, n * TILE, tuple(data[at : at + 32] for at in range(0, len(data), tree.HASH_BYTES)))
    for digest in manifest.blobs:
        yield Shown(digest, _take(file, f"blobs/{digest.removeprefix('sha256:')}", BLOB_BYTES_MAX))
    if file.read(len(END) + 1) != END:
        raise _broken("something stands after the last file of the archive, or its end is missing")


# --- the names of C2SP tlog-tiles


def _widths(count: int) -> Iterator[tuple[int, int]]:
    """The tiles of a level with so many hashes: number and width, the last one partial."""
    full, rest = divmod(count, TILE)
    yield from ((n, TILE) for n in range(full))
    if rest:
        yield full, rest


def _tiles(size: int) -> Iterator[tuple[int, int, int]]:
    level = 0
    while count := size >> 8 * level:
        yield from ((level, n, width) for n, width in _widths(count))
        level += 1


def _name(level: str, n: int, width: int) -> str:
    groups = [f"{n % 1000:03}"]
    while n := n // 1000:
        groups.insert(0, f"x{n % 1000:03}")
    return f"tile/{level}/{'/'.join(groups)}" + ("" if width == TILE else f".p/{width}")


def _leaves(name: str, data: bytes) -> tuple[bytes, ...]:
    """The entries of a bundle: each with its length in two bytes before it."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        leaf = data[at + 2 : at + 2 + length]
        if len(leaf) != length or not length or len(found) == TILE:
            raise _broken(f"`{name}` is no bundle of entries: its entry {len(found)} is cut off, empty or one too many")
        found.append(leaf)
        at += 2 + length
    return tuple(found)


# --- the manifest


def _encode(manifest: Manifest) -> bytes:
    body: dict[str, Json] = {name: getattr(manifest, name) for name in ("origin", "genesis", "log_key", "size", "root")}
    body |= {"format": manifest.format, "checkpoints": list(manifest.checkpoints)}
    if manifest.format != FIRST_FORMAT:
        body |= {"blobs": list(manifest.blobs), "withheld": list(manifest.withheld)}
    return canonical.encode(body)


def _decode(data: bytes) -> Manifest:
    try:
        body = canonical.decode(data)
        version = body.get("format") if isinstance(body, dict) else None
        if not isinstance(body, dict) or version not in (FORMAT, FIRST_FORMAT):
            raise _broken(f"the manifest is not of the format `{FORMAT}` or `{FIRST_FORMAT}`")
        texts = (body.get(name) for name in ("origin", "genesis", "log_key", "root"))
        origin, genesis, log_key, root = (each if isinstance(each, str) else "" for each in texts)
        listed = body.get("checkpoints")
        sizes = tuple(_whole(each) for each in listed) if isinstance(listed, list) else ()
        told = (_digests(body.get("blobs")), _digests(body.get("withheld")), str(version))
        manifest = Manifest(origin, genesis, log_key, _whole(body.get("size")), root, sizes, *told)
        if _encode(manifest) != data:
            raise _broken("the manifest says more or less than is expected of it, or in another spelling")
    except MalformedInput as fault:
        raise _broken(f"the manifest cannot be read: {fault.message}") from fault
    rising = all(one < two for one, two in zip((0, *sizes), sizes, strict=False))
    if not rising or not sizes or sizes[-1] != manifest.size or not _ROOT.fullmatch(root):
        raise _broken("the manifest does not end in its newest checkpoint, or its checkpoints are not in order")
    return manifest


def _digests(value: Json) -> tuple[str, ...]:
    """Digests in rising order, each once; nothing where the manifest of an earlier version names none."""
    found = tuple(parse(each) for each in value) if isinstance(value, list) else ()
    if list(found) != sorted(set(found)):
        raise _broken("the manifest names blobs twice or not in order")
    return found


def _whole(value: Json) -> int:
    if type(value) is not int or not 0 < value <= SIZE_MAX:
        raise _broken("the manifest holds a size that is none")
    return value


# --- the archive: POSIX ustar, with regular files only and every field but name and size fixed


def _header(name: str, size: int) -> bytes:
    fields = (name.encode("ascii").ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size)
    before = b"".join(fields) + b"00000000000\0"
    after = b"0".ljust(101, b"\0") + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2
    total = sum(before) + sum(after) + 8 * ord(" ")
    return (before + b"%06o\0 " % total + after).ljust(BLOCK, b"\0")


def _put(file: BinaryIO, name: str, data: bytes) -> None:
    file.write(_header(name, len(data)) + data + bytes(-len(data) % BLOCK))


def _take(file: BinaryIO, name: str, most: int) -> bytes:
    """The bytes of the next file, which must be called `name`; its header has one spelling only."""
    header = file.read(BLOCK)
    digits = header[124:135]
    if len(header) < BLOCK or not re.fullmatch(rb"[0-7]{11}", digits):
        raise _broken(f"the archive ends, or is none, where `{name}` is expected")
    size = int(digits, 8)
    if header != _header(name, size):
        found = header[:100].rstrip(b"\0").decode("utf-8", "replace")
        raise _broken(f"the archive holds `{found[:100]}`, or a header out of form, where `{name}` is expected")
    if size > most:
        raise _broken(f"`{name}` declares {size} bytes; {most} is the most")
    data = file.read(size + -size % BLOCK)
    if len(data) != size + -size % BLOCK or any(data[size:]):
        raise _broken(f"`{name}` is cut off, or something is hidden behind it")
    return data[:size]


def _broken(message: str) -> TamperDetected:
    return TamperDetected(message, help=_HELP)
