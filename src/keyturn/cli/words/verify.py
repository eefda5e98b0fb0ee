"""The words of `keyturn verify`: check what others hand over, offline."""

from __future__ import annotations

TYPE_CHECKING = False  # the real one would cost the import of `typing`, which no other part of the grammar needs
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

CHECKING = "keyturn.cli.checking"


def fill(verb: Callable[[str, str, str, str], argparse.ArgumentParser]) -> None:
    """Add every verb, each made by `verb(name, help, place, act)`."""
    one = verb("permit", "may these weights load, here, now?", CHECKING, "verify_permit")
    one.add_argument("bundle", metavar="BUNDLE")
    one.add_argument("--trust", metavar="FILE", required=True, help="what you pinned: genesis, origin, last head seen")
    one.add_argument("--weights", metavar="DIR", help="the artifact's files, to be hashed")
    one.add_argument("--action", default="release", help="what is to be done (default release)")
    one.add_argument("--scope", help="where (default: the scope that permits name)")
    one = verb("log", "recompute a log's tree and decide it again", CHECKING, "verify_log")
    one.add_argument("db", metavar="DB", help="a file `log.db`, or the address of a database")
    one.add_argument("--trust", metavar="FILE", help="what you pinned")
