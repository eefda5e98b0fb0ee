"""The words of `keyturn openevolve`: govern a loop that we did not write."""

from __future__ import annotations

TYPE_CHECKING = False  # the real one would cost the import of `typing`, which no other part of the grammar needs
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

PLACE = "keyturn.cli.openevolving"
DEMO = "keyturn.cli.demo.openevolve"


def fill(
    verb: Callable[[str, str, str, str], argparse.ArgumentParser],
    plain: Callable[[str], argparse.ArgumentParser],
    signs: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add every verb, each made by `verb(name, help, place, act)`, the demo by `plain(name)`; `signs` is for keys."""
    new = verb("init", "found a project for a folder in OpenEvolve's layout", PLACE, "init")
    new.add_argument("example", metavar="EXAMPLE", help="its folder: initial_program.py, evaluator.py, ...")
    new.add_argument("--as", dest="person", metavar="PERSON", required=True, help="the first person of the policy")
    new.add_argument("--name", help="what it is called (default: the folder's name)")
    new.add_argument("--demo", action="store_true", help="simulated people may sign; for ever marked so")
    signs(new)
    go = verb("run", "one governed run: every program sealed and judged", PLACE, "run")
    go.add_argument("example", metavar="EXAMPLE", help="its folder")
    go.add_argument("--iterations", type=int, metavar="N", help="how many (default: what its config.yaml says)")
    go.add_argument("--config", metavar="FILE", help="another config.yaml")
    go.add_argument("--checkpoint", metavar="DIR", help="go on from what OpenEvolve saved there")
    go.add_argument("--output", metavar="DIR", help="where OpenEvolve writes (default EXAMPLE/openevolve_output)")
    go.add_argument("--shadow", action="store_true", help="record what would be refused and held; refuse nothing")
    show = plain("demo")
    show.set_defaults(place=DEMO, act="demo", json=False)
    show.add_argument("--out", default="demo-out", metavar="DIR", help="where it plays (default demo-out)")
    show.add_argument("--seed", type=int, default=4, metavar="N", help="the seed of the whole run (default 4)")
    show.add_argument("--iterations", type=int, default=40, metavar="N", help="how many programs (default 40)")
    show.add_argument("--simulated", action="store_true", help="ask nobody: simulated people decide, marked so")
