"""The log and its published folder, computed again from the entries, and the folder made anew where that is asked.

It decides nothing again: that is what `log replay` does.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.app.operating.opening import open_place
from keyturn.app.project import Project
from keyturn.app.publishing.handing import log_key
from keyturn.core.errors import KeyturnError
from keyturn.ledger import tiles_folder
from keyturn.ledger.check import Problem, check_store
from keyturn.ledger.history import History
from keyturn.ledger.stores.port import LogStore
from keyturn.ledger.tiles_folder import Published

FOREIGN = "folder_must_be_of_this_log"
"""A folder of another history is evidence; nothing of it is ever made anew."""


@dataclass(frozen=True, slots=True)
class Fsck:
    """Everything that is wrong with a log and its published folder, and what was made anew (None: nothing)."""

    entries: int
    root_hex: str
    problems: tuple[Problem, ...]
    rebuilt: Published | None


def check_everything(project: Project, where: str | None, *, rebuild: bool) -> Fsck:
    """Recompute the log from its entries, then the folder or bucket from the log; `rebuild` makes its files anew.

    Nothing is made anew from a log that does not hold, and nothing in the folder of another history.
    """
    log, rebuilt = log_key(project), None
    with project.store(unchecked=True) as store:
        head = store.head()
        problems = check_store(store, log.vkey)
        problems = problems or _unlawful(store)
        if where is not None and not problems:
            place = open_place(project.root, where, create=False)
            problems = tiles_folder.check_folder(store, log, place)
            if rebuild and not any(each.rule == FOREIGN for each in problems):
                rebuilt = tiles_folder.rebuild(store, log, place)
                problems = tiles_folder.check_folder(store, log, place)
        return Fsck(head.size, head.root.hex(), problems, rebuilt)


def _unlawful(store: LogStore) -> tuple[Problem, ...]:
    """The first entry that no known key signed or that could not follow; after it no key is known any more."""
    history = History()
    for index, data in enumerate(store.leaves(0, store.head().size)):
        try:
            history.read(data)
        except KeyturnError as fault:
            return (Problem("entries_must_be_signed", f"entry {index}: {fault.message}", fault.help),)
    return ()
