"""The words of `keyturn freeze` and `keyturn thaw`."""

from __future__ import annotations

import argparse

from keyturn.core.freeze import MINUTES, MINUTES_MAX


def freeze(made: argparse.ArgumentParser) -> None:
    """What a freeze takes."""
    made.add_argument("verb", nargs="?", choices=("show",), metavar="show", help="only show what runs or is held still")
    made.add_argument("--as", dest="person", metavar="PERSON", help="which person freezes; needs no key")
    made.add_argument("--by", metavar="NAME", help="who else freezes (default: somebody at the terminal)")
    bound = f"the bound (default {MINUTES}, at most {MINUTES_MAX})"
    made.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help=bound)
    made.add_argument("--reason", metavar="TEXT", default="no reason given", help="why, for the log")


def thaw(made: argparse.ArgumentParser) -> None:
    """What a thaw takes."""
    made.add_argument("--as", dest="person", metavar="PERSON", required=True, help="who lets it go on; needs no key")


FILL = {"freeze": freeze, "thaw": thaw}
"""Who fills in the grammar of which command."""
