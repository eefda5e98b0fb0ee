"""The words of `keyturn log` about what is made from the log for strangers, checked, shown and erased."""

from __future__ import annotations

TYPE_CHECKING = False  # the real one would cost the import of `typing`, which no other part of the grammar needs
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

LOGS = "keyturn.cli.logs"


def fill(
    verb: Callable[[str, str, str, str], argparse.ArgumentParser], person: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Add every verb, each made by `verb(name, help, place, act)`; `person` adds what somebody needs who signs."""
    one = verb("tiles", "write the log as static files (C2SP tlog-tiles), only what is new", LOGS, "log_tiles")
    one.add_argument(
        "dir", metavar="DIR|S3URL", nargs="?", help="a folder or bucket (default: what operation.toml says)"
    )
    one = verb("prove", "a standard proof that an entry is in the log (C2SP tlog-proof)", LOGS, "log_prove")
    one.add_argument("entry", metavar="INDEX|ID", help="its index, or the beginning of its id")
    one.add_argument("--out", metavar="FILE", help="write the proof, by custom `NAME.tlog-proof` (default: print it)")
    one.add_argument("--leaf", metavar="FILE", help="write the entry's exact bytes too")
    one = verb("state", "how far an entry has come: durable, published, witnessed", LOGS, "log_state")
    one.add_argument("entry", metavar="INDEX|ID", help="its index, or the beginning of its id")
    one.add_argument("--wait", metavar="STATE", help="return once it is `published` or `witnessed`")
    one.add_argument("--seconds", type=float, default=60.0, metavar="N", help="how long to wait at most (default 60)")
    verb(
        "key", "the keys that sign the log's checkpoints now, whole, to hand to witnesses and auditors", LOGS, "log_key"
    )
    one = verb("check", "check such a proof offline, with the log's key alone", LOGS, "log_check")
    one.add_argument("proof", metavar="PROOF")
    one.add_argument("--entry", metavar="FILE", required=True, help="the entry's exact bytes")
    one.add_argument(
        "--vkey", metavar="VKEY", required=True, help="the log's verifier key: `log_key` in the trust file"
    )
    help = "a witness's verifier key, of whom you want to know whether it cosigned; may be given more than once"
    one.add_argument("--witness", metavar="VKEY", action="append", default=[], help=help)
    one = verb("fsck", "compute the log and its static files again", LOGS, "log_fsck")
    one.add_argument("dir", metavar="DIR|S3URL", nargs="?", help="where it was published (default: the log alone)")
    one.add_argument("--rebuild", action="store_true", help="make the static files anew from the log")
    one.add_argument("--tidy", action="store_true", help="delete blobs that no entry names, once they are an hour old")
    what = "an entry's index or id, or `sha256:` and the beginning of a digest"
    one = verb("blob", "show what an entry withholds", LOGS, "log_blob")
    one.add_argument("blob", metavar="ENTRY|DIGEST", help=what)
    one.add_argument("--out", metavar="FILE", help="write its exact bytes, which `sha256sum` alone checks")
    one = verb("erase", "sign for erasing what an entry withholds, by quorum", LOGS, "log_erase")
    one.add_argument("blob", metavar="ENTRY|DIGEST", help=what)
    person(one)
