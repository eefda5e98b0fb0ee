"""The second process of a check: it reads its task from standard input and prints the parts, the last one first.

It only reads the log, decides nothing, and is killed when nothing more is needed of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from keyturn.ledger.store import Store
from keyturn.ledger.walk.part import Task, recompute


def main() -> None:
    """Recompute from the last part to the first."""
    said = json.load(sys.stdin)
    task = Task(said["size"], tuple(said["wanted"]), said["level"])
    with Store.open(Path(said["path"]), unchecked=True) as store:
        for part in reversed(range(task.parts)):
            line = {"part": part, **recompute(store, task, part).to_json()}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
