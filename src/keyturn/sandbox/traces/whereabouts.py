"""Where the governors of one run folder made their cgroups; a stop asked for from another session must look there too.

A cgroup lies where the session that made it was delegated one. It is written down before the first launch, and what is
written counts until the machine starts anew. Only a cgroup that bears our own name is ever believed.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from keyturn.core.errors import Unavailable
from keyturn.sandbox.cgroups import mounted, populated, processes, remove

FILE = "cgroups.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NOWHERE = ""
"""Stands for a governor that launched without a cgroup: what it left no cgroup shows."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """The cgroups that governors of this run folder made since the machine started, by path; see `NOWHERE`."""

    places: tuple[str, ...] = ()

    def others(self, own: Path | None) -> tuple[Path, ...]:
        """Those that are not the caller's own and are still there."""
        return tuple(Path(place) for place in self.places if place not in {NOWHERE, str(own)} and Path(place).is_dir())


def read(run_root: Path, name: str) -> Whereabouts:
    """What is written down since the machine started, but for cgroups that do not bear our `name`."""
    try:
        said = json.loads((run_root / FILE).read_bytes())
        boot, places = said["boot"], [str(place) for place in said["places"]]
    except FileNotFoundError:
        return Whereabouts()
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return Whereabouts((NOWHERE,))  # somebody was here, and nobody knows where
    if boot != BOOT_ID.read_text().strip():
        return Whereabouts()
    tops = mounted()
    ours = [place for place in places if place == NOWHERE or _is_ours(Path(place), name, tops)]
    return Whereabouts(tuple(ours))


def _is_ours(place: Path, name: str, tops: tuple[Path, ...]) -> bool:
    """Whether it is a cgroup of v2 with our name: nothing else is ever killed, whatever stands in the file.

    A link that bears our name could lead to somebody else's cgroup, and a folder that bears it could be none.
    """
    try:
        below = any(place.is_relative_to(top) and place != top for top in tops)
        return place.name == name and below and place.resolve() == place and (place / "cgroup.kill").is_file()
    except (OSError, ValueError, RuntimeError):  # no name of a folder, or one that is not ours to look into
        return False


def remember(run_root: Path, name: str, own: Path | None) -> None:
    """Write down durably where this governor launches; raises `Unavailable`, and then nothing may be launched."""
    place = NOWHERE if own is None else str(own)
    known = read(run_root, name).places
    if place in known:
        return
    try:
        _write(run_root, [*known, place])
    except OSError as error:
        raise Unavailable(
            f"where sandboxes live could not be written down: {error.strerror}", help="make room, or see who owns it"
        ) from error


def leave(run_root: Path, name: str, own: Path | None) -> None:
    """Strike this governor's own place out again, once nothing of it lives; what cannot be struck out is looked at."""
    known = read(run_root, name).places
    left = [place for place in known if place != (NOWHERE if own is None else str(own))]
    with contextlib.suppress(OSError):
        if left:
            _write(run_root, left)
        else:
            (run_root / FILE).unlink(missing_ok=True)


def _write(run_root: Path, places: list[str]) -> None:
    """Replace what is written down, durably."""
    text = json.dumps({"boot": BOOT_ID.read_text().strip(), "places": places})
    aside = run_root / f"{FILE}.{os.getpid()}"
    with aside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(run_root / FILE)


def forget(run_root: Path, places: tuple[Path, ...]) -> None:
    """Remove the cgroups of other sessions in which nobody lives any more; one that stays is looked at again."""
    for place in places:
        with contextlib.suppress(OSError, Unavailable):
            if not populated(place):
                remove(place)


def kill(places: tuple[Path, ...]) -> bool:
    """Kill everything in each of them; false where one could not be written to."""
    written = True
    for place in places:
        try:
            (place / "cgroup.kill").write_text("1")
        except OSError:
            written = False
    return written


def living(places: tuple[Path, ...]) -> list[int]:
    """Every process in them."""
    return [pid for place in places for pid in processes(place)]
