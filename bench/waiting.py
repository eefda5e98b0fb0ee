"""Clients that each wait for one entry to be durable before they hand in the next: what group commit is for."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from keyturn.ledger.commit.group import GroupCommit, Tasks
from keyturn.ledger.store import Store

Made = list[list[bytes]]
"""The entries of each client."""

ENTRIES = 60_000
CLIENTS = {"64 tasks": 64, "64 threads": 64, "1024 tasks": 1024}


def run(place: Path, kind: str, made: Made) -> dict[str, float]:
    """Entries per second, the median and the 99th wait in ms, and processor time for each entry."""
    waits: list[float] = []
    with Store.open(place / "log.db", create=True) as store, GroupCommit(store) as commit:
        began, spent = time.perf_counter(), time.process_time()
        if kind.endswith("tasks"):
            asyncio.run(_tasks(commit, made, waits))
        else:
            _threads(commit, made, waits)
        took, spent = time.perf_counter() - began, time.process_time() - spent
        total = store.head().size
    waits.sort()
    return {
        "per_second": total / took,
        "p50_ms": waits[len(waits) // 2] * 1e3,
        "p99_ms": waits[len(waits) * 99 // 100] * 1e3,
        "cpu_us": spent / total * 1e6,
    }


async def _tasks(commit: GroupCommit, made: Made, waits: list[float]) -> None:
    tasks = Tasks(commit)

    async def client(leaves: list[bytes]) -> None:
        for leaf in leaves:
            began = time.perf_counter()
            await tasks.append(leaf)
            waits.append(time.perf_counter() - began)

    await asyncio.gather(*(client(leaves) for leaves in made))


def _threads(commit: GroupCommit, made: Made, waits: list[float]) -> None:
    def client(leaves: list[bytes]) -> None:
        for leaf in leaves:
            began = time.perf_counter()
            commit.append(leaf)
            waits.append(time.perf_counter() - began)

    threads = [threading.Thread(target=client, args=(leaves,)) for leaves in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def bare(place: Path, leaves: list[bytes], at_once: int) -> float:
    """Entries per second when a file takes so many at once and is synced: nobody who waits can be served faster."""
    began = time.perf_counter()
    with (place / "bare").open("wb", buffering=0) as out:
        for start in range(0, len(leaves), at_once):
            out.write(b"".join(leaves[start : start + at_once]))
            os.fdatasync(out.fileno())
    return len(leaves) / (time.perf_counter() - began)


def waiting(
    folder: Path, rounds: int, leaves: Callable[[int, int], list[bytes]], hashing: Callable[[list[bytes]], float]
) -> dict[str, dict[str, float]]:
    """Medians of interleaved rounds; of a bare file's syncs and of hashing alone, which ran in the same round."""
    flat = leaves(ENTRIES, 0)
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in CLIENTS}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            syncs, floor = bare(Path(place), flat, 64), hashing(flat) / ENTRIES * 1e6
        for kind in random.sample(list(CLIENTS), len(CLIENTS)):
            count = CLIENTS[kind]
            made = [flat[at::count] for at in range(count)]
            with tempfile.TemporaryDirectory(dir=folder) as place:
                each = run(Path(place), kind, made)
            ratios = {"of_bare_syncs": each["per_second"] / syncs, "times_hashing": each["cpu_us"] / floor}
            found[kind].append({**each, **ratios})
    return {kind: _medians(each) for kind, each in found.items()}


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    medians = {name: round(statistics.median(each[name] for each in rounds), 2) for name in rounds[0]}
    return {**medians, "best_per_second": round(max(each["per_second"] for each in rounds))}
