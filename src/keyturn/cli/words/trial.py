"""The words of `keyturn trial`: look at one, see it grow, compute it again."""

from __future__ import annotations

TYPE_CHECKING = False  # the real one would cost the import of `typing`, which no other part of the grammar needs
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def fill(verb: Callable[[str, str, str, str], argparse.ArgumentParser]) -> None:
    """Add every verb, each made by `verb(name, help, place, act)`."""
    one = verb("show", "its plan, its two bets, and what it showed", "keyturn.cli.looking", "trial_show")
    one.add_argument("trial", metavar="TRIAL", help="such as c3/centre")
    one.add_argument("--svg", metavar="FILE", help="write a picture too")
    one = verb("watch", "see its evidence grow, from another terminal", "keyturn.cli.trials.watching", "watch")
    one.add_argument("trial", metavar="TRIAL", nargs="?", help="default: whichever runs, one after the other")
    one.add_argument("--seconds", type=float, default=60.0, metavar="N", help="how long to wait for one (default 60)")
    one = verb("replay", "compute a trial again from the log, to the bit", "keyturn.cli.checking", "trial_replay")
    one.add_argument("trial", metavar="TRIAL", help="such as c3/centre")
