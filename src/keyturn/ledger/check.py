"""The whole log, recomputed: every leaf hashed again and compared with what was kept, signed and seen elsewhere.

It reads and never repairs. What it cannot know is what nobody ever signed: hand in the checkpoints that witnesses,
auditors or loading nodes keep, because a log and its own checkpoints may have been cut off together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from keyturn.core.errors import KeyturnError, TamperDetected
from keyturn.ledger import checkpoint, note, tree
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.rows import STRIDE
from keyturn.ledger.stores.port import Head, LogStore, Page

PROBLEMS_MAX = 20
"""How many problems of one kind are named; the rest are counted."""

_RESTORE = "do not act on this log; restore it from a copy, and keep this one as evidence"
_COMPARE = "give both notes to the witnesses and to everybody who relies on this log"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a log: the rule, what was found and expected, what to do, what shows it."""

    rule: str
    message: str
    help: str = _RESTORE
    proof: str = ""


def check_store(store: LogStore, vkey: str | checkpoint.Keys, *, known: Sequence[bytes] = ()) -> tuple[Problem, ...]:
    """Recompute the log from its leaves and return everything that is wrong with it; nothing means sound.

    `vkey` is the log's verifier key, pinned out of band, or its keys over time as a replay from that pin shows them;
    `known` are signed checkpoints that somebody else kept. Raises MalformedInput for a bad `vkey`, Unavailable as the
    store does.
    """
    log = note.parse_vkey(vkey) if isinstance(vkey, str) else vkey
    signed, problems = _opened(log, store.checkpoints(), known)
    head, frontier, count = store.kept()
    walk = _Walk(store, tuple(sorted({head.size, *(each.head.size for each in signed)})))
    for page in store.scan(head.size):
        walk.step(page)
    found = [*problems, *walk.end(head, frontier, count)]
    found += [problem for each in signed for problem in _against(each, walk, signed)]
    return tuple(_shortened(found))


def require_sound(store: LogStore, vkey: str | checkpoint.Keys, *, known: Sequence[bytes] = ()) -> Head:
    """Return the head of a sound log; raises TamperDetected with the first problem and the proof of all."""
    problems = check_store(store, vkey, known=known)
    if problems:
        first = next((each for each in problems if each.proof), problems[0])
        proof = "\n".join(each.proof for each in problems if each.proof)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise TamperDetected(problems[0].message + more, help=first.help, proof=proof)
    return store.head()


def require_continued(store: LogStore, *, size: int, root: str) -> None:
    """Raise TamperDetected unless the log begins with the `size` entries of that root, which somebody remembers."""
    held = store.head().size
    if size > held or (size and store.root_at(size).hex() != root):
        message = f"the log does not continue the {size} entries that were seen; it holds {held}"
        raise TamperDetected(message, help="restore the log from a newer copy, and keep this one as evidence")


@dataclass(frozen=True, slots=True)
class _Signed:
    """A head that the log's key signed, with the note that shows it, and who kept it."""

    head: Checkpoint
    note: str
    ours: bool


@dataclass(slots=True)
class _Walk:
    """The tree as the leaves make it, from left to right, and where it differs from what was kept."""

    store: LogStore
    wanted: tuple[int, ...]
    roots: dict[int, bytes] = field(default_factory=lambda: {0: tree.EMPTY_ROOT})
    frontier: tree.Frontier = field(default_factory=tree.Frontier)
    edited: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    wrong_nodes: list[tuple[int, int]] = field(default_factory=list)
    next: int = 0

    def step(self, page: Page) -> None:
        """Take the next entries; after a gap no root can be known any more."""
        hashes = tree.leaf_hashes(page.leaves)
        if hashes != page.hashes:
            both = zip(page.indexes, page.hashes, hashes, strict=True)
            self.edited += [(index, kept, found) for index, kept, found in both if kept != found]
        for index in page.indexes if len(page.leaves) != page.indexes[-1] + 1 - self.next else ():
            self.missing.extend(range(self.next, min(index, self.next + PROBLEMS_MAX)))
            self.next = index + 1
        start, self.next = self.frontier.size, page.indexes[-1] + 1
        if self.missing:
            return
        for stop in (*(size for size in self.wanted if start < size < self.next), self.next):
            self._fold(hashes[self.frontier.size - start : stop - start])

    def end(self, head: Head, frontier: tree.Frontier, count: int) -> Iterator[Problem]:
        """Say where what was kept differs, after the last entry."""
        self.missing.extend(range(self.next, min(head.size, self.next + PROBLEMS_MAX)))
        for index in self.missing:
            yield Problem("log_must_be_whole", f"entry {index} is missing; the log says that it has {head.size}")
        if count > head.size:
            yield Problem("log_must_be_whole", f"the file has {count} entries; the log says that it has {head.size}")
        yield from self._edits()
        for level, n in self.wrong_nodes:
            yield Problem("hashes_must_follow_from_entries", f"the kept hash {n} of level {level} is not its entries'")
        if not self.missing and (root := self.roots[head.size]) != head.root:
            message = f"the {head.size} entries have the root {root.hex()}; the log keeps {head.root.hex()}"
            yield Problem("root_must_follow_from_entries", message)
        if not self.missing and frontier != self.frontier:
            yield Problem("hashes_must_follow_from_entries", "the kept frontier is not its entries'")

    def _fold(self, hashes: list[bytes]) -> None:
        self.frontier = self.frontier.extend(hashes, complete=self._complete)
        if self.frontier.size in self.wanted:
            self.roots[self.frontier.size] = self.frontier.root()

    def _complete(self, level: int, n: int, found: list[bytes]) -> None:
        if level % STRIDE == 0 and (kept := self.store.kept_hashes(level, n, n + len(found))) != found:
            self.wrong_nodes += [(level, n + at) for at, value in enumerate(found) if kept[at] != value]

    def _edits(self) -> Iterator[Problem]:
        places = {kept: index for index, kept, _ in self.edited}
        for index, kept, found in self.edited:
            if found in places:
                message = f"entry {index} holds what was appended as entry {places[found]}"
                yield Problem("entries_must_keep_their_order", message)
            else:
                message = f"entry {index} has the hash {found.hex()}; {kept.hex()} was appended"
                yield Problem("entries_must_stay_as_appended", message)


def _opened(
    log: note.Verifier | checkpoint.Keys, ours: Sequence[bytes], known: Sequence[bytes]
) -> tuple[tuple[_Signed, ...], list[Problem]]:
    signed, problems = [], []
    for data, own in [*((each, True) for each in ours), *((each, False) for each in known)]:
        try:
            head = checkpoint.open_checkpoint(data, log).checkpoint
            signed.append(_Signed(head, data.decode("utf-8"), own))
        except KeyturnError as error:
            whose = "a kept checkpoint" if own else "a checkpoint that was handed in"
            message = f"{whose} is not the log's: {error.message}"
            problems.append(Problem("checkpoints_must_be_signed", message, error.help))
    return tuple(signed), problems


def _against(each: _Signed, walk: _Walk, signed: Sequence[_Signed]) -> Iterator[Problem]:
    """Compare one signed head with the entries, and name a second signed history where there is one."""
    head, whose = each.head, "kept" if each.ours else "handed in"
    for other in signed:
        if other.head.size == head.size and other.head.root < head.root:
            message = f"two roots are signed for the size {head.size}: the log has two histories"
            yield Problem("log_must_have_one_history", message, _COMPARE, f"{other.note}\n{each.note}")
    if head.size > walk.next:
        message = f"the log has {walk.next} entries; a signed checkpoint ({whose}) has {head.size}"
        yield Problem("log_must_not_lose_entries", message, _RESTORE, each.note)
        return
    root = walk.roots.get(head.size)
    if root is not None and root != head.root:
        message = (
            f"the first {head.size} entries have the root {root.hex()}; "
            f"a signed checkpoint ({whose}) has {head.root.hex()}"
        )
        rival = next((o.note for o in reversed(signed) if walk.roots.get(o.head.size) == o.head.root), "")
        yield Problem("log_must_be_what_was_signed", message, _RESTORE, f"{each.note}\n{rival}".rstrip("\n") + "\n")


def _shortened(problems: Sequence[Problem]) -> Iterator[Problem]:
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.rule] = counts.get(problem.rule, 0) + 1
        if counts[problem.rule] <= PROBLEMS_MAX:
            yield problem
    for rule, count in counts.items():
        if count > PROBLEMS_MAX:
            yield Problem(rule, f"{count - PROBLEMS_MAX} more problems of this kind were found")
