"""A governor and its people in a process of its own, to be killed at any moment: `python -m tests.world.child HOME`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.fakes.world import Tape, World
from tests.world.story import WARRANTS

PAUSE_SECONDS = 0.004


def main(home: Path) -> None:
    """Tell the story to its end, pausing at every border so that a kill may fall there."""
    world = World(home)
    for _ in range(60):
        step = world.run(Tape(lambda _number, _what: time.sleep(PAUSE_SECONDS)))
        if not world.answer(step, warrants=WARRANTS):
            return
    raise SystemExit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
