"""The log and its published folder, computed again from the entries, and the folder made anew where that is asked.

It decides nothing again: that is what `log replay` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keyturn.app.amending.adopting import SIGNATURE_BYTES_MAX, WAITING
from keyturn.app.operating.opening import open_place
from keyturn.app.project import Project
from keyturn.app.publishing.handing import pinned
from keyturn.app.reasons.checking import Kept, check_blobs
from keyturn.app.verifying import keys_over_time
from keyturn.core.errors import KeyturnError, TamperDetected, Unavailable
from keyturn.core.terms import Digest
from keyturn.ledger import checkpoint, tiles_folder
from keyturn.ledger.check import Problem, check_store, require_continued
from keyturn.ledger.history import History
from keyturn.ledger.stores.port import LogStore
from keyturn.ledger.tiles_folder import Published
from keyturn.verify.trust import Seen
from keyturn.wire.blobs.blob import REFERENCE, named_by

FOREIGN = "folder_must_be_of_this_log"
"""A folder of another history is evidence; nothing of it is ever made anew."""


@dataclass(frozen=True, slots=True)
class Fsck:
    """Everything that is wrong with a log, its blobs and its published folder, and what was made anew (None: nothing).

    `blobs` is None where the log does not hold, so that nothing can be said of what it names. `witnesses` are the
    independent parties that cosigned the newest published head.
    """

    entries: int
    root_hex: str
    problems: tuple[Problem, ...]
    rebuilt: Published | None
    blobs: Kept | None
    witnesses: tuple[str, ...]


def check_everything(project: Project, where: str | None, *, rebuild: bool, tidy: bool = False) -> Fsck:
    """Recompute the log from its entries, the blobs that they name, then the folder or bucket from the log.

    With `rebuild` the folder's files are made anew, with `tidy` blobs that nothing names are deleted. Nothing is made
    anew after a log that does not hold, and nothing in the folder of another history; while anything is wrong, nothing
    is deleted. Raises `Unavailable` where this machine cannot check an entry.
    """
    rebuilt, kept = None, None
    with project.store(unchecked=True) as store:
        head = store.head()
        named, history = set[Digest](), History()
        unlawful = _unlawful(store, head.size, history, named)
        trust = pinned(project)
        log = keys_over_time(history.state, trust)
        problems = (*(check_store(store, log) or unlawful), *_shrunk(store, trust.seen))
        if where is not None and not problems:
            place = open_place(project.root, where, create=False)
            problems = tiles_folder.check_folder(store, log, place)
            if rebuild and not any(each.rule == FOREIGN for each in problems):
                table = history.state.current.policy.witnesses if history.state.current else None
                shown = checkpoint.newest_shown(store.checkpoints(), log, table)
                rebuilt = tiles_folder.rebuild(store, log, place, shown)
                problems = tiles_folder.check_folder(store, log, place)
        if history.state.size == head.size:
            delete, waiting = tidy and not problems, _waiting(project.home)
            kept, wrong = check_blobs(project.blobs, named, history.state.erased, waiting=waiting, tidy=delete)
            problems += wrong
        seen = history.state.cosigners if history.state.is_witnessed else ()
        return Fsck(head.size, head.root.hex(), problems, rebuilt, kept, seen)


def _unlawful(store: LogStore, size: int, history: History, named: set[Digest]) -> tuple[Problem, ...]:
    """The first entry that no known key signed or that could not follow; after it no key is known any more."""
    try:
        for data in store.leaves(0, size):
            named.update(named_by(history.read(data)))
    except Unavailable:
        raise  # what cannot be read or checked here is no fault of the log's
    except KeyturnError as fault:
        message = f"entry {history.state.size}: {fault.message}"
        return (Problem("entries_must_be_signed", message, fault.help),)
    return ()


def _shrunk(store: LogStore, seen: Seen) -> tuple[Problem, ...]:
    """Whether the log goes on from the newest head that the project's own trust file remembers."""
    try:
        require_continued(store, size=seen.size, root=seen.root)
    except TamperDetected as fault:
        rule = "log_must_not_shrink" if seen.size > store.head().size else "log_must_not_be_rewritten"
        return (Problem(rule, fault.message, fault.help),)
    return ()


def _waiting(home: Path) -> frozenset[Digest]:
    """The blobs that the latch of a halt or a waiting signature names before any entry does."""
    places = [home / "halt.latch", home / "freeze.mark", *(home / WAITING).glob("*/*")]
    texts = (_text(place) for place in places if place.is_file() and not place.is_symlink())
    return frozenset(Digest(each) for text in texts for each in REFERENCE.findall(text))


def _text(place: Path) -> str:
    try:
        with place.open("rb") as file:
            return file.read(SIGNATURE_BYTES_MAX).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""  # it was lifted or adopted meanwhile
    except OSError as fault:
        message = f"`{place}` cannot be read: {(fault.strerror or str(fault)).lower()}"
        raise Unavailable(message, help="see who owns that file, then run the command again") from fault
