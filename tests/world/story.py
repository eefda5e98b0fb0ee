"""The story that crashes interrupt: a release, a decoy and its halt, a refused candidate, a decoy during a trial."""

from __future__ import annotations

import shutil
from pathlib import Path

from keyturn.core.replay import recheck
from keyturn.core.state import State
from keyturn.ledger.history import History
from keyturn.ledger.store import Store
from tests.fakes.world import Tape, World, plain

TRAITS = {2: "decoy", 3: "drift", 4: "exam"}
WARRANTS = 1


def founded(home: Path) -> World:
    """The project at its beginning."""
    return World.founded(home, TRAITS)


def told(world: World) -> list[str]:
    """The whole story, told to its end, without times, nonces, ids and signatures."""
    world.play(warrants=WARRANTS)
    return plain(world.events())


def lawful(world: World) -> list[str]:
    """What an auditor who decides everything again finds wrong with the log."""
    with Store.open(world.home / "log.db") as store:
        history, found = History(), []
        for index, data in enumerate(store.leaves(0, store.head().size)):
            before: State = history.state
            event = history.read(data)
            found += [f"{index} {type(event).__name__}: {finding.message}" for finding in recheck(before, event)]
        return found


def copied(world: World, home: Path) -> World:
    """What a machine finds on its disk that loses power now."""
    shutil.copytree(world.home, home)
    return World(home, type(world.clock)(world.clock.at))


def snapshots(home: Path, folder: Path) -> tuple[list[tuple[str, World]], list[str]]:
    """The unbroken run, and the disk as it was at every border that it crossed."""
    found: list[tuple[str, World]] = []
    world = founded(home)

    def keep(_: int, what: str) -> None:
        found.append((f"{len(found)} {what}", copied(world, folder / f"{len(found):04}")))

    for _ in range(60):
        step = world.run(Tape(keep))
        if not world.answer(step, warrants=WARRANTS):
            break
    return found, plain(world.events())
