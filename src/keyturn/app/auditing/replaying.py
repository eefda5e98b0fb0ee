"""Decide a log again from an export: the tree, every signature, every decision, without the project that made it.

It collects everything that is wrong. What the file says about itself is a claim, compared with what is signed; which
founding the signatures rest on, only a pinned trust file can say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.core import events as ev
from keyturn.core.errors import KeyturnError, MalformedInput, TamperDetected
from keyturn.core.terms import Digest
from keyturn.ledger import checkpoint, tree
from keyturn.ledger.auditing.walk import Pin, Walk, Wrong
from keyturn.ledger.export import archive
from keyturn.ledger.history import log_keys
from keyturn.verify import trust as trusts
from keyturn.wire.blobs.blob import decode, named_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROBLEMS_MAX = 20
"""How many problems of one rule are named; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What an export showed; `pinned` only if a trust file said on which founding it must rest."""

    entries: int
    decisions: int
    checkpoints: int
    root_hex: str
    origin: str
    genesis: str
    simulated: bool
    pinned: bool
    problems: tuple[Wrong, ...]
    shown: int
    withheld: int
    witnesses: tuple[str, ...]


def replay_export(path: Path, *, trust: Path | None, tell: Callable[[str], None]) -> Replayed:
    """Recompute and decide again what the file holds; raises only where there is no such file, or no such trust."""
    pinned = trusts.read(trust) if trust is not None else None
    audit = _Audit(Walk(tell))
    try:
        with path.open("rb") as file:
            for part in archive.read(file):
                audit.take(part)
    except TamperDetected as fault:
        audit.wrong(audit.size, "file_must_be_an_export", fault.message)
    except OSError as fault:
        message = f"the export `{path}` cannot be read: {(fault.strerror or str(fault)).lower()}"
        raise MalformedInput(message, help="name the file that `keyturn log export` wrote") from fault
    return audit.end(pinned)


def pin_of(trust: trusts.Trust) -> Pin:
    """What a trust file pins about a log."""
    return Pin(trust.genesis, trust.seen.size, trust.seen.root)


@dataclass(slots=True)
class _Audit:
    """What was read so far, and everything that is wrong with it."""

    walk: Walk
    manifest: archive.Manifest | None = None
    notes: list[archive.Note] = field(default_factory=list)
    levels: archive.Levels = field(default_factory=archive.Levels)
    roots: dict[int, bytes] = field(default_factory=dict)
    named: set[Digest] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        return self.levels.size

    def wrong(self, index: int, rule: str, message: str) -> None:
        self.walk.wrong(index, rule, message)

    def take(self, part: archive.Part) -> None:
        """Look at the next part of the file."""
        match part:
            case archive.Manifest():
                self.manifest = part
            case archive.Note():
                self.notes.append(part)
            case archive.Entries():
                self._entries(part)
            case archive.Tile():
                self._tile(part)
            case archive.Shown():
                self._shown(part)

    def _entries(self, part: archive.Entries) -> None:
        if len(part.leaves) != part.width:
            message = (
                f"the bundle from entry {part.first} on holds {len(part.leaves)} entries; {part.width} belong there"
            )
            self.wrong(part.first, "log_must_be_whole", message)
        wanted = set(self.manifest.checkpoints) if self.manifest else set[int]()
        for data in part.leaves:
            event = self.walk.take(data)
            self.named.update(named_by(event) if event is not None else ())
            self.levels.extend((tree.leaf_hash(data),))
            if self.size in wanted:
                self.roots[self.size] = self.levels.root()

    def _tile(self, part: archive.Tile) -> None:
        """Compare kept hashes with the entries': the ones of level 0 say which entry was touched."""
        found = self.levels.hashes[part.level] if part.level < len(self.levels.hashes) else []
        places = {value: part.first + at for at, value in enumerate(part.hashes)}
        for place, kept in enumerate(part.hashes, part.first):
            value = found[place] if place < len(found) else None
            if value == kept:
                continue
            if part.level:
                message = f"the kept hash {place} of tile level {part.level} is not its entries'"
                self.wrong(place << 8 * part.level, "hashes_must_follow_from_entries", message)
            elif value in places:
                message = f"entry {place} holds what was appended as entry {places[value]}"
                self.wrong(place, "entries_must_keep_their_order", message)
            else:
                message = f"entry {place} is missing or is not what was appended"
                self.wrong(place, "entries_must_stay_as_appended", message)

    def _shown(self, part: archive.Shown) -> None:
        """A blob is exactly what its digest commits to, an entry names it, and nobody cleared its erasure."""
        digest, size = Digest(part.digest), self.size
        try:
            decode(part.encoded, digest)
        except TamperDetected as fault:
            self.wrong(size, "blobs_must_be_what_was_logged", fault.message)
            return
        self.shown.add(digest)
        if digest in self.walk.history.state.erased:
            message = f"the blob {digest[:15]}… is in the file, and the log says that it was erased"
            self.wrong(size, "erased_blobs_must_stay_away", message)

    def _told(self, said: archive.Manifest) -> None:
        """The manifest tells of exactly the blobs that entries name."""
        told = {Digest(each) for each in (*said.blobs, *said.withheld)}
        if said.format == archive.FIRST_FORMAT or not self.walk.decided:
            return
        for digest in sorted(self.named - told):
            message = f"an entry names the blob {digest[:15]}…; the manifest neither holds nor withholds it"
            self.wrong(self.size, "blobs_must_be_shown_or_withheld", message)
        for digest in sorted(told - self.named):
            message = f"the manifest tells of the blob {digest[:15]}…; no entry names it"
            self.wrong(self.size, "blobs_must_be_named_by_entries", message)
        for each in sorted({*said.blobs} & {*said.withheld}):
            message = f"the manifest both holds and withholds the blob {each[:15]}…"
            self.wrong(self.size, "blobs_must_be_shown_or_withheld", message)

    def end(self, pinned: trusts.Trust | None) -> Replayed:
        """Compare the whole with what is signed and with what is pinned."""
        founded, said = self.walk.founded, self.manifest
        self.walk.against(pin_of(pinned) if pinned else None, self._root_at)
        signed = 0
        basis = pinned.founded if pinned is not None else founded
        if basis is not None:
            same = founded is not None and founded.genesis == basis.genesis
            keys = log_keys(basis, self.walk.history.state.policies if same else ())
            signed = sum(self._note(each, keys) for each in self.notes)
        if said is not None:
            self._manifest(said, founded)
            self._told(said)
        return Replayed(
            self.size,
            self.walk.decisions,
            signed,
            self.levels.root().hex(),
            founded.origin if founded else "",
            founded.genesis if founded else "",
            founded.demo if founded else False,
            pinned is not None,
            tuple(_shortened(self.walk.problems)),
            len(self.shown),
            len(self.named - self.shown),
            self._witnesses(),
        )

    def _witnesses(self) -> tuple[str, ...]:
        """Which independent parties cosigned the newest checkpoint; what is wrong with it, other checks tell."""
        state, newest = self.walk.history.state, next((each.data for each in self.notes if each.size is None), None)
        if state.project is None or state.current is None or newest is None:
            return ()
        try:
            return checkpoint.witnesses_of(
                newest, log_keys(state.project, state.policies), state.current.policy.witnesses
            )
        except KeyturnError:
            return ()

    def _note(self, each: archive.Note, key: checkpoint.Keys) -> bool:
        """Whether this checkpoint is the log's and over these entries; the newest stands twice and counts once."""
        size = each.size or (self.manifest.size if self.manifest else 0)
        try:
            head = checkpoint.open_checkpoint(each.data, key).checkpoint
        except KeyturnError as fault:
            self.wrong(size, "checkpoints_must_be_signed", f"the checkpoint of size {size}: {fault.message}")
            return False
        root = self.roots.get(head.size)
        if head.size != size:
            self.wrong(size, "checkpoints_must_be_signed", f"the checkpoint of size {head.size} is called {size}")
        elif root is None:
            message = f"a signed checkpoint has {head.size} entries; {self.size} were read"
            self.wrong(self.size, "log_must_not_lose_entries", message)
        elif root != head.root:
            message = f"the first {size} entries have the root {root.hex()}; the signed checkpoint {head.root.hex()}"
            self.wrong(size, "log_must_be_what_was_signed", message)
        else:
            return each.size is not None
        return False

    def _manifest(self, said: archive.Manifest, founded: ev.ProjectFounded | None) -> None:
        if (self.size, self.levels.root().hex()) != (said.size, said.root):
            message = f"{self.size} entries have another root or number than the {said.size} that the manifest names"
            self.wrong(self.size, "root_must_follow_from_entries", message)
        named = (said.origin, said.genesis, said.log_key)
        if founded is not None and named != (founded.origin, founded.genesis, founded.log_key):
            self.wrong(0, "manifest_must_name_the_founding", "the manifest names another founding than the log holds")
        newest = [each.data for each in self.notes if each.size in {None, said.size}]
        if len(set(newest)) > 1:
            message = "the file `checkpoint` is not the newest of `checkpoints`"
            self.wrong(said.size, "manifest_must_name_the_newest_checkpoint", message)

    def _root_at(self, size: int) -> bytes:
        return tree.root_from(size, self._node)

    def _node(self, level: int, n: int) -> bytes:
        leaves = self.levels.hashes[0][n << level : (n + 1) << level]
        return tree.Frontier().extend(leaves).root()


def _shortened(problems: list[Wrong]) -> Iterator[Wrong]:
    counts: dict[str, int] = {}
    for row in problems:
        counts[row[1]] = counts.get(row[1], 0) + 1
        if counts[row[1]] <= PROBLEMS_MAX:
            yield row
    for rule, many in counts.items():
        if many > PROBLEMS_MAX:
            yield Wrong(0, rule, f"{many - PROBLEMS_MAX} more problems of this kind were found")
