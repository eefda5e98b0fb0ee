"""The log and its published folder, computed again from the entries, and the folder made anew where that is asked.

It decides nothing again: that is what `log replay` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keyturn.app.project import Project
from keyturn.app.publishing.handing import log_key
from keyturn.app.reasons.checking import Kept, check_blobs
from keyturn.core.errors import KeyturnError, MalformedInput
from keyturn.core.terms import Digest
from keyturn.ledger import tiles_folder
from keyturn.ledger.check import Problem, check_store
from keyturn.ledger.history import History
from keyturn.ledger.store import Store
from keyturn.ledger.tiles_folder import Published
from keyturn.wire.blobs.blob import named_by

FOREIGN = "folder_must_be_of_this_log"
"""A folder of another history is evidence; nothing of it is ever made anew."""


@dataclass(frozen=True, slots=True)
class Fsck:
    """Everything that is wrong with a log, its blobs and its published folder, and what was made anew (None: nothing).

    `blobs` is None where the log does not hold, so that nothing can be said of what it names.
    """

    entries: int
    root_hex: str
    problems: tuple[Problem, ...]
    rebuilt: Published | None
    blobs: Kept | None


def check_everything(project: Project, folder: Path | None, *, rebuild: bool, tidy: bool = False) -> Fsck:
    """Recompute the log from its entries, the blobs that they name, then the folder from the log.

    With `rebuild` the folder's files are made anew, with `tidy` blobs that no entry names are deleted. Nothing is made
    or deleted after a log that does not hold, and nothing in the folder of another history.
    """
    log, rebuilt, kept = log_key(project), None, None
    with Store.open(project.home / "log.db", unchecked=True) as store:
        head = store.head()
        problems = check_store(store, log.vkey)
        named, history = set[Digest](), History()
        problems = problems or _unlawful(store, history, named)
        if folder is not None and not problems:
            if not folder.is_dir():
                raise MalformedInput(f"there is no folder `{folder}`", help="`keyturn log tiles DIR` makes one")
            problems = tiles_folder.check_folder(store, log, folder)
            if rebuild and not any(each.rule == FOREIGN for each in problems):
                rebuilt = tiles_folder.rebuild(store, log, folder)
                problems = tiles_folder.check_folder(store, log, folder)
        if history.state.size == head.size:
            kept, wrong = check_blobs(project.blobs, named, history.state.erased, tidy=tidy)
            problems += wrong
        return Fsck(head.size, head.root.hex(), problems, rebuilt, kept)


def _unlawful(store: Store, history: History, named: set[Digest]) -> tuple[Problem, ...]:
    """The first entry that no known key signed or that could not follow; after it no key is known any more."""
    for index, data in enumerate(store.leaves(0, store.head().size)):
        try:
            named.update(named_by(history.read(data)))
        except KeyturnError as fault:
            return (Problem("entries_must_be_signed", f"entry {index}: {fault.message}", fault.help),)
    return ()
