"""The log and its published folder, computed again from the entries, and the folder made anew where that is asked.

It decides nothing again: that is what `log replay` does.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.app.operating.opening import open_place
from keyturn.app.project import Project
from keyturn.app.publishing.handing import pinned
from keyturn.app.reasons.checking import Kept, check_blobs
from keyturn.app.verifying import keys_over_time
from keyturn.core.errors import KeyturnError
from keyturn.core.terms import Digest
from keyturn.ledger import tiles_folder
from keyturn.ledger.check import Problem, check_store
from keyturn.ledger.history import History
from keyturn.ledger.stores.port import LogStore
from keyturn.ledger.tiles_folder import Published
from keyturn.wire.blobs.blob import named_by

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

    With `rebuild` the folder's files are made anew, with `tidy` blobs that no entry names are deleted. Nothing is made
    or deleted after a log that does not hold, and nothing in the folder of another history.
    """
    rebuilt, kept = None, None
    with project.store(unchecked=True) as store:
        head = store.head()
        named, history = set[Digest](), History()
        unlawful = _unlawful(store, head.size, history, named)
        log = keys_over_time(history.state, pinned(project))
        problems = check_store(store, log) or unlawful
        if where is not None and not problems:
            place = open_place(project.root, where, create=False)
            problems = tiles_folder.check_folder(store, log, place)
            if rebuild and not any(each.rule == FOREIGN for each in problems):
                rebuilt = tiles_folder.rebuild(store, log, place)
                problems = tiles_folder.check_folder(store, log, place)
        if history.state.size == head.size:
            kept, wrong = check_blobs(project.blobs, named, history.state.erased, tidy=tidy)
            problems += wrong
        seen = history.state.cosigners if history.state.is_witnessed else ()
        return Fsck(head.size, head.root.hex(), problems, rebuilt, kept, seen)


def _unlawful(store: LogStore, size: int, history: History, named: set[Digest]) -> tuple[Problem, ...]:
    """The first entry that no known key signed or that could not follow; after it no key is known any more."""
    try:
        for data in store.leaves(0, size):
            named.update(named_by(history.read(data)))
    except KeyturnError as fault:
        message = f"entry {history.state.size}: {fault.message}"
        return (Problem("entries_must_be_signed", message, fault.help),)
    return ()
