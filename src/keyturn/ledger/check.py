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
from keyturn.ledger.stores.port import Head, LogStore
from keyturn.ledger.walk import part
from keyturn.ledger.walk.part import Found, Task, differing
from keyturn.ledger.walk.sharing import processes_for, recompute_all

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


def check_store(
    store: LogStore, vkey: str | checkpoint.Keys, *, known: Sequence[bytes] = (), processes: int | None = None
) -> tuple[Problem, ...]:
    """Recompute the log from its leaves and return everything that is wrong with it; nothing means sound.

    `vkey` is the log's verifier key, pinned out of band, or its keys over time as a replay from that pin shows them;
    `known` are signed checkpoints that somebody else kept. A long log is shared between two `processes`, unless told
    otherwise; what is found is the same. Raises MalformedInput for a bad `vkey`, Unavailable as the store does.
    """
    log = note.parse_vkey(vkey) if isinstance(vkey, str) else vkey
    signed, problems = _opened(log, store.checkpoints(), known)
    head, frontier, count = store.kept()
    task = Task(head.size, tuple(sorted({head.size, *(each.head.size for each in signed)})), part.LEVEL)
    walk = _Walk(store, task)
    for each in recompute_all(store, task, processes=processes_for(task) if processes is None else processes):
        walk.step(each)
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
    """The tree as the parts make it, from left to right, and where it differs from what was kept."""

    store: LogStore
    task: Task
    roots: dict[int, bytes] = field(default_factory=lambda: {0: tree.EMPTY_ROOT})
    whole: tree.Frontier = field(default_factory=tree.Frontier)
    frontier: tree.Frontier = field(default_factory=tree.Frontier)
    edited: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    wrong_nodes: list[tuple[int, int]] = field(default_factory=list)
    next: int = 0

    def step(self, found: Found) -> None:
        """Take the next part; after a gap no root can be known any more."""
        self.edited += found.edited
        self.next = found.next or self.next
        if not self.gaps:
            self.wrong_nodes += found.wrong
            for size, hashes in found.heads.items():
                self.roots[size] = tree.Frontier(size, self.whole.hashes + hashes).root()
            self._join(found.frontier)
        for start, stop in found.gaps:
            joined = bool(self.gaps) and self.gaps[-1][1] == start
            self.gaps.append((self.gaps.pop()[0] if joined else start, stop))

    def _join(self, part: tree.Frontier) -> None:
        """A finished part is one hash of the tree above the parts; the last may not be."""
        size = (self.whole.size << self.task.level) + part.size
        if part.size == 1 << self.task.level:
            self.whole = self.whole.extend(part.hashes, complete=self._complete)
            self.frontier = tree.Frontier(size, self.whole.hashes)
        else:
            self.frontier = tree.Frontier(size, self.whole.hashes + part.hashes)
        if size in self.task.wanted:
            self.roots[size] = self.frontier.root()

    @property
    def missing(self) -> Iterator[int]:
        """The first missing entries of every gap."""
        for start, stop in self.gaps:
            yield from range(start, min(stop, start + PROBLEMS_MAX))

    def end(self, head: Head, frontier: tree.Frontier, count: int) -> Iterator[Problem]:
        """Say where what was kept differs, after the last entry."""
        for index in self.missing:
            yield Problem("log_must_be_whole", f"entry {index} is missing; the log says that it has {head.size}")
        if count > head.size:
            yield Problem("log_must_be_whole", f"the file has {count} entries; the log says that it has {head.size}")
        yield from self._edits()
        for level, n in sorted(self.wrong_nodes):
            yield Problem("hashes_must_follow_from_entries", f"the kept hash {n} of level {level} is not its entries'")
        if not self.gaps and (root := self.roots[head.size]) != head.root:
            message = f"the {head.size} entries have the root {root.hex()}; the log keeps {head.root.hex()}"
            yield Problem("root_must_follow_from_entries", message)
        if not self.gaps and frontier != self.frontier:
            yield Problem("hashes_must_follow_from_entries", "the kept frontier is not its entries'")

    def _complete(self, level: int, n: int, hashes: list[bytes]) -> None:
        if (self.task.level + level) % STRIDE == 0:
            self.wrong_nodes += differing(self.store, self.task.level + level, n, hashes)

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
