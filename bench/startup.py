"""How much longer `keyturn --help` takes than Python that does nothing, in turns, as whole processes.

python -m bench.startup [--rounds 25]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

COMMANDS = {"pass": ["-c", "pass"], "keyturn --help": ["-m", "keyturn", "--help"]}


def seconds(arguments: list[str]) -> float:
    """One whole process, from its start to its end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Take turns and print medians, minima and the difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            taken[name].append(seconds(arguments) * 1000)
    row = {f"{name}, median ms": round(statistics.median(each), 1) for name, each in taken.items()}
    above = statistics.median(taken["keyturn --help"]) - statistics.median(taken["pass"])
    least = min(taken["keyturn --help"]) - min(taken["pass"])
    ratio = statistics.median(taken["keyturn --help"]) / statistics.median(taken["pass"])
    print(
        json.dumps({**row, "above, ms": round(above, 1), "above, least ms": round(least, 1), "ratio": round(ratio, 2)})
    )


if __name__ == "__main__":
    main()
