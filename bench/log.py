"""The log beside the least that its disk, SQLite and hashing can do, all in one run, and as ratios.

    python -m bench.log [--folder FOLDER] [--entries 1000000] [--rounds 7] [--write]

Each round runs every row in a new order, so that a busy moment hits nobody alone; a ratio is the median of the
rounds' ratios, and is measured only against what ran in the same round. Entries are made before the clock starts.
Everything is written below FOLDER (default: where temporary files go). `--write` keeps the numbers and their picture
under bench/results. Syncs are counted by strace; pymerkle and aics-tlog are peers (put a foreign one on PYTHONPATH);
what is not installed is said and not run. `--entries 10000000` lets the log grow further: some minutes, and 4 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from bench.waiting import waiting
from keyturn.core.terms import Instant
from keyturn.flow.permit import pack
from keyturn.ledger import tree
from keyturn.ledger.check import check_store
from keyturn.ledger.note import Verifier
from keyturn.ledger.store import Store
from keyturn.verify import bundle, trust
from keyturn.verify.check import check

LEAF = b"x" * 292
STALL_PERCENT_MAX = 40.0
"""Where somebody waited for a processor for more of the time, a missed target says nothing about us."""

ROUNDS = 7
BATCHES = {1: 400, 100: 100, 1000: 40}
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
LOG = Verifier("bench.example/log", "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
REPO = Path(__file__).parents[1]
RESULTS = REPO / "bench" / "results"
Batches = list[list[bytes]]
Found = dict[str, dict[str, dict[str, float]]]
Row = Callable[[Path, Batches], None]


def leaves(count: int, start: int) -> list[bytes]:
    return [LEAF + (start + n).to_bytes(8, "big") for n in range(count)]


def ours(place: Path, batches: Batches) -> None:
    with Store.open(place / "ours.db", create=True) as store:
        head = store.head()
        for batch in batches:
            head = store.append(batch, expected=head)


def bare_file(place: Path, batches: Batches) -> None:
    with (place / "bare").open("wb", buffering=0) as out:
        for batch in batches:
            out.write(b"".join(batch))
            os.fdatasync(out.fileno())


def bare_sqlite(place: Path, batches: Batches) -> None:
    with closing(sqlite3.connect(place / "bare.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE entry (i INTEGER PRIMARY KEY, leaf BLOB)")
        for batch in batches:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO entry (leaf) VALUES (?)", [(leaf,) for leaf in batch])
            db.execute("COMMIT")


def pymerkle(place: Path, batches: Batches) -> None:
    from pymerkle import SqliteTree

    foreign = SqliteTree(str(place / "pymerkle.db"))
    for batch in batches:
        if len(batch) == 1:
            foreign.append_entry(batch[0])
        else:
            foreign.append_entries(batch)
    foreign.get_root()
    foreign.close()


def aics_tlog(place: Path, batches: Batches) -> None:
    """Its tiles and a head after each batch, all synced; the head is not signed, as ours is not either."""
    from aics_tlog.writer import DirectoryTileStore, IncrementalTileWriter

    tiles = DirectoryTileStore(place / "aics")
    writer = IncrementalTileWriter(tiles)
    for batch in batches:
        writer.append(batch)
        tiles.write_checkpoint(b"%d %b" % (writer.size, writer.root()))


def contestants() -> list[Row]:
    found: list[Row] = [ours, bare_file, bare_sqlite]
    for peer in (pymerkle, aics_tlog):
        if find_spec(peer.__name__) is None:
            print(f"{peer.__name__} is not installed: not run")
        else:
            found.append(peer)
    return found


def race(folder: Path, turns: int) -> dict[str, dict[str, float]]:
    """Entries per second of every row, and ours as a multiple of it; medians of the rounds."""
    rows, found = contestants(), dict[str, dict[str, float]]()
    for size, rounds in BATCHES.items():
        batches = [leaves(size, n * size) for n in range(rounds)]
        rates: dict[str, list[float]] = {row.__name__: [] for row in rows}
        for _ in range(turns):
            for row in random.sample(rows, len(rows)):
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    began = time.perf_counter()
                    row(Path(place), batches)
                    rates[row.__name__].append(size * rounds / (time.perf_counter() - began))
        for name, each in rates.items():
            ratio = statistics.median(mine / other for mine, other in zip(rates["ours"], each, strict=True))
            found[f"{name}, {size} at once"] = {"per_second": round(statistics.median(each)), "ours": round(ratio, 2)}
    return found


def syncs(folder: Path, commits: int = 1000) -> dict[str, float]:
    """Data syncs for each single append, counted in another process; with the few that empty SQLite's journal."""
    if shutil.which("strace") is None:
        print("strace is not installed: syncs are not counted")
        return {}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        script = f"from bench.log import *; ours(Path({place!r}), [leaves(1, n) for n in range({commits})])"
        traced = ["strace", "-f", "-y", "-e", "trace=fdatasync,fsync", "-o", f"{place}/calls"]
        subprocess.run([*traced, sys.executable, "-c", script], check=True, cwd=REPO)
        calls = re.findall(r"f(?:data)?sync\(\d+<(.*?)>", (Path(place) / "calls").read_text())
    journal = sum(call.endswith("-wal") for call in calls)
    return {"of_the_journal": round(journal / commits, 3), "of_anything": round(len(calls) / commits, 3)}


def hashing(made: list[bytes]) -> float:
    """Seconds of processor time for the two hashes that each entry needs at least, one call of ours each."""
    began = time.process_time()
    row = [tree.leaf_hash(leaf) for leaf in made]
    while len(row) > 1:
        row = [tree.node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=False)]
    return time.process_time() - began


def reading(folder: Path, turns: int, count: int = 800_000) -> dict[str, float]:
    """The whole check beside hashing alone, in turns and in processor time, as neither waits; and proofs.

    What two processes gain is shown twice: in time on the wall, which a busy machine takes away, and in processor
    time, as the share of it that the busier of the two has.
    """
    made, ratios, rates, gains, shares = leaves(count, 0), [], [], [], []
    with tempfile.TemporaryDirectory(dir=folder) as place, Store.open(Path(place) / "log.db", create=True) as store:
        for start in range(0, count, 10_000):
            head = store.append(made[start : start + 10_000], expected=None)
        for _ in range(turns):
            floor = hashing(made[: count // 4]) * 4
            alone, both = (checked(store, processes) for processes in (1, 2))
            ratios.append(floor / alone["cpu"])
            rates.append(count / alone["cpu"])
            gains.append(alone["wall"] / both["wall"])
            shares.append(max(both["cpu"], both["second"]) / alone["cpu"])
        began = time.perf_counter()
        for n in range(200):
            store.prove_inclusion(n * count // 200, head.size)
        inclusion = (time.perf_counter() - began) / 200
    return {
        "checked_per_second": round(statistics.median(rates)),
        "of_hashing_alone": round(statistics.median(ratios), 2),
        "with_two_times_faster": round(statistics.median(gains), 2),
        "with_two_best": round(max(gains), 2),
        "with_two_busier_share": round(statistics.median(shares), 2),
        "inclusion_ms": round(inclusion * 1000, 2),
    }


def checked(store: Store, processes: int) -> dict[str, float]:
    """Seconds on the wall, and of processor time here and in a second process."""
    wall, cpu, before = time.perf_counter(), time.process_time(), os.times()
    if check_store(store, LOG.vkey, processes=processes):
        sys.exit("the log is not sound")
    after = os.times()
    second = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "second": second}


def growth(folder: Path, most: int) -> dict[str, dict[str, float]]:
    """Time for each single append, memory and disk as one log grows; memory is the peak of a process that checks it."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=folder) as place, Store.open(Path(place) / "log.db", create=True) as store:
        size = 0
        for target in (step for step in SIZES if step <= most):
            while size < target:
                size = store.append(leaves(min(10_000, target - size), size), expected=None).size
            each = []
            for leaf in leaves(500, size):
                began = time.perf_counter()
                size = store.append([leaf], expected=None).size
                each.append(time.perf_counter() - began)
            script = f"from bench.log import *; print(peak(Path({str(place)!r})))"
            ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=REPO)
            disk = (Path(place) / "log.db").stat().st_size / size - len(LEAF) - 8
            figures = {
                "append_ms": statistics.median(each) * 1000,
                "check_peak_mib": float(ran.stdout),
                "bytes_above_leaf": disk,
            }
            found[f"{target} entries"] = {name: round(value, 3) for name, value in figures.items()}
    return found


def peak(place: Path) -> float:
    """The peak memory of this process after it checked the log."""
    with Store.open(place / "log.db") as store:
        check_store(store, LOG.vkey, processes=1)
    said = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())  # starts anew with the program
    return round(int(said[1]) / 1024, 1) if said else 0.0


def permit(folder: Path) -> dict[str, float]:
    """A permit with two people's approvals: checked again and again, and by a new process (the fastest of 15)."""
    sys.path.insert(0, str(REPO))
    from tests.verify.scene import ACTION, SCOPE, released

    with tempfile.TemporaryDirectory(dir=folder) as place:
        scene = released(Path(place) / "log.db")
        packed, pinned = Path(place) / "bundle", Path(place) / "trust"
        packed.write_bytes(pack(scene.honest))
        pinned.write_bytes(trust.encode(scene.trust))
        cold, warm = [], []
        script = (
            "from pathlib import Path; from keyturn.verify import bundle, trust\n"
            "from keyturn.verify.check import check\n"
            f"opened, pin = bundle.decode(Path({str(packed)!r}).read_bytes()), trust.read(Path({str(pinned)!r}))\n"
            f"assert not check(opened, pin, action={ACTION!r}, scope={SCOPE!r}, now={int(scene.now)}).doubts"
        )
        for _ in range(15):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", script], check=True)
            cold.append(time.perf_counter() - began)
        pin, data = trust.read(pinned), packed.read_bytes()
        for _ in range(200):
            began = time.perf_counter()
            checked = check(bundle.decode(data), pin, action=ACTION, scope=SCOPE, now=Instant(scene.now))
            warm.append(time.perf_counter() - began)
            if checked.doubts:
                sys.exit("the permit does not check")
    median = statistics.median
    return {"warm_ms": round(median(warm) * 1e3, 2), "cold_ms": round(min(cold) * 1e3, 1), "bytes": len(data)}


def targets(found: Found) -> list[tuple[str, float, float, bool]]:
    """What was measured, its target, and whether more is better."""
    race, single = found["race"], found["single"]
    rows = [
        ("one durable append, of a bare sync", race["bare_file, 1 at once"]["ours"], 0.5, True),
        ("1,000 at once, of bare SQLite", race["bare_sqlite, 1000 at once"]["ours"], 0.65, True),
        ("64 waiting clients, entries each second", found["waiting"]["64 tasks"]["per_second"], 50_000, True),
        ("64 waiting clients, 99th wait, ms", found["waiting"]["64 tasks"]["p99_ms"], 10.0, False),
        ("processor time for an entry in a group, us", found["waiting"]["1024 tasks"]["cpu_us"], 8.0, False),
        ("whole check, of hashing alone", single["check"]["of_hashing_alone"], 0.7, True),
        ("a permit checked, warm, ms", single["permit"]["warm_ms"], 2.0, False),
        ("a permit checked, cold process, ms", single["permit"]["cold_ms"], 150.0, False),
    ]
    if single["syncs"]:
        rows.append(("data syncs of the journal for one append", single["syncs"]["of_the_journal"], 1.01, False))
    return rows


def report(found: Found, *, write: bool) -> None:
    """Print a table of all, and one of the targets; with `write`, keep both and a picture."""
    for name, table in found.items():
        print(f"\n{name}")
        for row, figures in table.items():
            print(f"  {row:30}" + "".join(f"  {key} {value:,}" for key, value in figures.items()))
    print("\ntargets")
    rows, machine = targets(found), found["single"]["machine"]
    busy = max(machine["stall_percent_before"], machine["stall_percent_after"])
    missed = (
        "MISSED" if busy < STALL_PERCENT_MAX else f"not judged: processors were waited for {busy:.0f} % of the time"
    )
    for name, value, target, more in rows:
        met = "met" if (value >= target if more else value <= target) else missed
        print(f"  {name:44} {value:10} {'at least' if more else 'at most'} {target:6}  {met}")
    if write:
        kept = {"command": "python -m bench.log --write", "python": sys.version.split()[0], **found}
        (RESULTS / "log.json").write_text(json.dumps({**kept, "targets": rows}, indent=1) + "\n")
        (RESULTS / "log.svg").write_text(picture(rows, found["single"]["machine"]))


def pressed(when: str) -> dict[str, float]:
    """How busy the machine is: its load, and the share of time in which somebody waited for a processor."""
    said = Path("/proc/pressure/cpu")
    stall = re.search(r"avg60=([\d.]+)", said.read_text()) if said.exists() else None
    return {f"load_{when}": round(os.getloadavg()[0], 1), f"stall_percent_{when}": float(stall[1]) if stall else -1.0}


def picture(rows: list[tuple[str, float, float, bool]], machine: dict[str, float]) -> str:
    """One bar for each target: how far the measurement is beyond it; the line is the target."""
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{40 + 36 * len(rows)}" font-size="13">']
    parts.append('<style>text{font-family:sans-serif}</style><rect width="100%" height="100%" fill="#fff"/>')
    stall = max(machine["stall_percent_before"], machine["stall_percent_after"])
    busy = f"load {machine['load_before']:g} to {machine['load_after']:g}, stalled {stall:.0f} % of the time"
    parts.append(f'<text x="300" y="20">1.0 = the target; longer is better; {busy}</text>')
    for at, (name, value, target, more) in enumerate(rows):
        times, y = (value / target if more else target / value), 32 + 36 * at
        parts.append(f'<text x="8" y="{y + 17}">{name}</text>')
        parts.append(f'<rect x="300" y="{y}" width="{min(times, 3) * 100:.0f}" height="24" fill="#4a7ab5"/>')
        parts.append(f'<text x="{306 + min(times, 3) * 100:.0f}" y="{y + 17}">{value:g} ({times:.2f})</text>')
    parts.append(f'<line x1="400" x2="400" y1="26" y2="{32 + 36 * len(rows)}" stroke="#b33" stroke-dasharray="4"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Measure everything, print it, and keep it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--entries", type=int, default=SIZES[-2])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    busy = {"rounds": asked.rounds, "processors": os.cpu_count() or 0, **pressed("before")}
    found: Found = {"race": race(asked.folder, asked.rounds)}
    found["waiting"] = waiting(asked.folder, asked.rounds, leaves, hashing)
    found["single"] = {
        "syncs": syncs(asked.folder),
        "check": reading(asked.folder, asked.rounds),
        "permit": permit(asked.folder),
    }
    found["single"]["machine"] = busy  # ratios of waiting rows mean little where others keep the processors busy
    found["growth"] = growth(asked.folder, asked.entries)
    busy |= pressed("after")
    report(found, write=asked.write)


if __name__ == "__main__":
    main()
