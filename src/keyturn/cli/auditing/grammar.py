"""The words of `keyturn auditor`.

Never does anything; `commands` does.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the real one would cost the import of `typing`, which no other part of the grammar needs
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

PLACE = "keyturn.cli.auditing.commands"


def fill(verb: Callable[[str, str, str, str], argparse.ArgumentParser]) -> None:
    """Add every verb, each made by `verb(name, help, place, act)`."""
    one = verb("init", "make an auditor of one log, in a folder of its own", PLACE, "init")
    one.add_argument("dir", metavar="DIR", help="a new folder")
    one.add_argument("--name", required=True, help="what it signs as, such as `auditor.example/a1`")
    one.add_argument("--trust", metavar="FILE", required=True, help="what it pins: `keyturn permit show --trust FILE`")
    one.add_argument("--tiles", metavar="URL|DIR", required=True, help="where the log's static files lie")
    one.add_argument("--ml-dsa", action="store_true", help="cosign with a second, post-quantum key too (ML-DSA-44)")
    one = verb("serve", "be a witness that decides everything again before it cosigns", PLACE, "serve")
    one.add_argument("dir", metavar="DIR")
    one.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:7381", help="default 127.0.0.1:7381")
    one = verb("check", "fetch and decide what is published now, without cosigning", PLACE, "check")
    one.add_argument("dir", metavar="DIR")
    one = verb("show", "its key, how far it looked and cosigned, everything it found", PLACE, "show")
    one.add_argument("dir", metavar="DIR")
    one = verb("pardon", "let it cosign again although an illegal entry stands", PLACE, "pardon")
    one.add_argument("dir", metavar="DIR")
    one.add_argument("entry", metavar="ENTRY", type=int, help="the entry whose mark is removed")
    one.add_argument("--reason", metavar="TEXT", help="why; it is kept and shown for ever")
