"""What the machine itself was doing: how idle it was before a part, burners that keep it busy, and bars of targets."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

IDLE_PERCENT_MIN = 85.0
"""Less idle than this right before a part, and what was measured in it is not called quiet."""

BURN = "while True: pass"
Rows = list[tuple[str, float, float, str]]
"""What was measured, its figure, the most that it may be, and the part that it was measured in."""


def idle_percent(seconds: float = 0.5) -> float:
    """How much of all processors was idle during the next moment."""
    before = _ticks()
    time.sleep(seconds)
    spent = [now - then for now, then in zip(_ticks(), before, strict=True)]
    return round(100 * (spent[3] + spent[4]) / max(1, sum(spent)), 1)


def _ticks() -> list[int]:
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def looked_at(part: str) -> dict[str, float]:
    """How busy the machine is as a part begins, said aloud."""
    idle, load = idle_percent(), round(os.getloadavg()[0], 2)
    word = "quiet" if idle >= IDLE_PERCENT_MIN else "NOT quiet: its figures say little about us"
    print(f"{part}: {idle:.0f} % idle, load {load:.2f}; {word}", flush=True)
    return {"idle_percent": idle, "load": load}


@contextlib.contextmanager
def burning(count: int) -> Iterator[None]:
    """Keep so many processors busy with processes of our own."""
    burners = [subprocess.Popen([sys.executable, "-I", "-S", "-c", BURN]) for _ in range(count)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def summary(values: list[float]) -> dict[str, float]:
    """Median, 99th in 100, greatest and least; under a hundred values the 99th is the greatest."""
    ranked = sorted(values)
    high = ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))]
    figures = {"p50": statistics.median(ranked), "p99": high, "max": ranked[-1], "min": ranked[0]}
    return {**{name: round(value, 2) for name, value in figures.items()}, "n": len(ranked)}


def judged(rows: Rows, parts: dict[str, dict[str, float]]) -> int:
    """Print each target as met, missed, or not judged where the machine was not quiet; how many were missed."""
    print("\ntargets")
    missed = 0
    for name, value, most, part in rows:
        idle = parts[part]["idle_percent"]
        loaded = bool(parts[part].get("loaded_by_us"))
        verdict = "met"
        if value > most:
            counts = loaded or idle >= IDLE_PERCENT_MIN
            missed += counts
            verdict = "MISSED" if counts else f"not judged: only {idle:.0f} % of the processors were idle"
        print(f"  {name:58} {value:9.2f}   at most {most:7.2f}   {verdict}")
    return missed


def bars(rows: Rows, said: str) -> str:
    """One bar for each target: how far the measurement is below its most, which is the line."""
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{40 + 32 * len(rows)}" font-size="13">']
    parts.append('<style>text{font-family:sans-serif}</style><rect width="100%" height="100%" fill="#fff"/>')
    parts.append(f'<text x="400" y="20">the line = the target; shorter is better; {said}</text>')
    for at, (name, value, most, _) in enumerate(rows):
        times, y = max(0.0, value / most), 32 + 32 * at
        colour = "#4a7ab5" if value <= most else "#c77"
        parts.append(f'<text x="8" y="{y + 15}">{name}</text>')
        parts.append(f'<rect x="400" y="{y}" width="{min(times, 2) * 180:.0f}" height="20" fill="{colour}"/>')
        parts.append(f'<text x="{406 + min(times, 2) * 180:.0f}" y="{y + 15}">{value:g} of {most:g}</text>')
    parts.append(f'<line x1="580" x2="580" y1="26" y2="{32 + 32 * len(rows)}" stroke="#b33" stroke-dasharray="4"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"
