"""Sandboxes parked ahead of need and cleared away behind it, so that nobody waits for what the other core can do.

In a parked sandbox not one instruction of the subject has run; it is attested, recorded and let go like any other, by
whoever takes it. What is parked in vain is closed, or dies with its lease.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.core.errors import KeyturnError
from keyturn.sandbox.port import Backend, Parked, Running, Spec

Files = Mapping[str, bytes]
SpecOf = Callable[[Path], Spec]
"""A spec for the folder in which the files lie."""

HANDS = 2


@dataclass(slots=True)
class Place:
    """A sandbox being parked, and the folder whose files it shows."""

    folder: Path
    parked: Future[Parked]


@dataclass(slots=True)
class Parking:
    """The places of one governor; only its main thread calls this."""

    backend: Backend
    folder: Path
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(HANDS, "keyturn-parking"))
    places: dict[tuple[str, str], Place] = field(default_factory=dict)
    staged: int = 0

    def ahead(self, name: str, files: Files, spec_of: SpecOf) -> None:
        """Begin to park a sandbox with these files, unless one is parked under this name already."""
        key = (name, _digest(files))
        if key not in self.places:
            self.places[key] = self._begin(files, spec_of)

    def take(self, name: str, files: Files, spec_of: SpecOf) -> tuple[Parked, Path]:
        """The sandbox parked ahead for this, if it is still alive, else a fresh one. Raises as `prepare` does."""
        ready = self.places.pop((name, _digest(files)), None)
        if ready is not None:
            parked = self._alive(ready)
            if parked is not None:
                return parked, ready.folder
            self._clear(ready.parked, ready.folder)
        fresh = self._begin(files, spec_of)
        try:
            return fresh.parked.result(), fresh.folder
        except BaseException:
            shutil.rmtree(fresh.folder, ignore_errors=True)
            raise

    def tick(self) -> None:
        """Renew the lease of everything that is parked."""
        for place in self.places.values():
            if place.parked.done():
                self._alive(place)

    def clear(self, running: Running | Parked, folder: Path) -> None:
        """Kill what is left of a run and remove its folder, without anybody waiting for it."""
        self.pool.submit(_clear, running, folder)

    def close(self) -> None:
        """Clear every place and wait for whatever is being cleared."""
        for place in self.places.values():
            self._clear(place.parked, place.folder)
        self.places.clear()
        self.pool.shutdown(wait=True)

    def _begin(self, files: Files, spec_of: SpecOf) -> Place:
        """The verified bytes in a folder of their own: nobody else's path is shown to a subject."""
        self.staged += 1
        folder = self.folder / f"stage-{self.staged}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return Place(folder, self.pool.submit(self.backend.prepare, spec_of(folder)))

    def _alive(self, place: Place) -> Parked | None:
        """The parked sandbox with its lease renewed; None when it could not be built or is gone."""
        try:
            parked = place.parked.result()
            return parked if parked.tick() else None
        except KeyturnError:
            return None  # parked in vain: whoever needs one builds it again and hears of the fault then

    def _clear(self, parked: Future[Parked], folder: Path) -> None:
        parked.add_done_callback(lambda done: None if done.exception() else done.result().close())
        self.pool.submit(shutil.rmtree, folder, ignore_errors=True)


def _clear(running: Running | Parked, folder: Path) -> None:
    running.close()
    shutil.rmtree(folder, ignore_errors=True)


def _digest(files: Files) -> str:
    seen = hashlib.sha256()
    for name in sorted(files):
        seen.update(f"{name}:{len(files[name])}:".encode() + files[name])
    return seen.hexdigest()
