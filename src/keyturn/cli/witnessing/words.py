"""The grammar of `keyturn witness`; what the words do is in `acts`."""

from __future__ import annotations

TYPE_CHECKING = False  # the real one would cost the import of `typing`, which no other part of the grammar needs
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

ACTS = "keyturn.cli.witnessing.acts"
LISTEN = "127.0.0.1:7380"


def fill(verb: Callable[[str, str, str, str], argparse.ArgumentParser]) -> None:
    """Add every verb, each made by `verb(name, help, place, act)`."""
    new = verb("init", "make a witness: its keys, and the memory that it must never lose", ACTS, "init")
    new.add_argument("dir", metavar="DIR", help="a new folder")
    new.add_argument("--name", metavar="NAME", required=True, help="such as `witness.example/w1`: a URL without scheme")
    new.add_argument("--ml-dsa", action="store_true", help="cosign with a second, post-quantum key too (ML-DSA-44)")
    one = verb("trust", "cosign a log from now on; once for each of its keys", ACTS, "trust")
    one.add_argument("dir", metavar="DIR", help="the witness's folder")
    one.add_argument("--log", metavar="VKEY", required=True, help="the log's verifier key")
    one.add_argument("--origin", metavar="ORIGIN", help="the log's origin, where its keys have another name")
    one = verb("distrust", "take a replaced key of a log away: what it alone signs counts no more", ACTS, "distrust")
    one.add_argument("dir", metavar="DIR", help="the witness's folder")
    one.add_argument("--log", metavar="VKEY", required=True, help="the key that the log replaced")
    one.add_argument("--origin", metavar="ORIGIN", help="the log's origin, where its keys have another name")
    one.add_argument("--forget", action="store_true", help="even if it is the last: cosign this log no more")
    one = verb("show", "its verifier keys, the logs that it cosigns, and what it caught", ACTS, "show")
    one.add_argument("dir", metavar="DIR", help="the witness's folder")
    one = verb("serve", "answer logs and monitors over HTTP until stopped (C2SP tlog-witness)", ACTS, "serve")
    one.add_argument("dir", metavar="DIR", help="the witness's folder")
    one.add_argument("--listen", metavar="HOST:PORT", default=LISTEN, help=f"where (default {LISTEN}; port 0: any)")
