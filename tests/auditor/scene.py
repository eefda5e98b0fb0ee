"""A log whose operator holds every key of the governor, its static files, and an auditor's mirror of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyturn.core import events as ev
from keyturn.core.state import State
from keyturn.core.terms import Instant
from keyturn.ledger import checkpoint, note, tiles, tiles_folder, tree
from keyturn.ledger.auditing.fetch import Absent
from keyturn.ledger.auditing.marks import Marks
from keyturn.ledger.auditing.mirror import Mirror
from keyturn.ledger.auditing.walk import Pin
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.export import archive
from keyturn.ledger.history import History
from keyturn.ledger.places.folder import Folder
from keyturn.ledger.store import Store
from keyturn.verify import trust as trusts
from keyturn.wire import leaf
from tests.fakes.world import Key, LogKey, World
from tests.ledger.exports import RECORDED, TRUST, unpacked

NOW = Instant(1_900_000_000_000)


class Shelf:
    """Static files in memory; `gone` names those that are missing, `asked` what was read."""

    def __init__(self, leaves: Sequence[bytes] = ()) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.show(leaves)

    def show(self, leaves: Sequence[bytes]) -> None:
        """Bundles of these entries as a publisher writes them: full ones, and the partial one of this size."""
        for tile in tiles.tiles_of(len(leaves)):
            if tile.level == tiles.ENTRIES:
                self.files[tile.name] = tiles.bundle(tuple(leaves[tile.start : tile.end]))

    def read(self, name: str, bytes_max: int) -> bytes:
        self.asked.append(name)
        if name not in self.files:
            raise Absent(f"there is no `{name}`")
        assert len(self.files[name]) <= bytes_max
        return self.files[name]


def head_of(leaves: Sequence[bytes], origin: str = "toy.example/log") -> Checkpoint:
    return Checkpoint(origin, len(leaves), tree.Frontier().extend(tree.leaf_hashes(leaves)).root())


def note_of(leaves: Sequence[bytes]) -> bytes:
    """The head over these entries, signed by the log."""
    return checkpoint.sign(head_of(leaves), LogKey())


def recorded() -> tuple[tuple[bytes, ...], dict[int, bytes], Pin]:
    """The recorded lineage: its entries, the heads that it published by size, and what its trust file pins."""
    files = unpacked(RECORDED.read_bytes())
    name = next(each for each in files if each.startswith("tile/entries/"))
    published = (each for each in files if each.startswith("checkpoints/"))
    heads = {int(each.rpartition("/")[2]): files[each] for each in published}
    trust = trusts.read(TRUST)
    return archive._leaves(name, files[name]), dict(sorted(heads.items())), Pin(trust.genesis)


def mirror_of(home: Path, pin: Pin, shelf: Any) -> Mirror:
    """An auditor's mirror in this folder, opened as a fresh process opens it."""
    home.mkdir(exist_ok=True)
    marks = Marks(home / "findings.db")
    marks.found()
    return Mirror.open(home / "mirror.db", marks, pin=pin, tiles=shelf, now=lambda: NOW)


def played(home: Path) -> World:
    """A whole honest story: founded, warranted, generations released and audited, halted; all of it published."""
    world = World.founded(home)
    world.play()
    world.halt()
    publish(world)
    return world


def publish(world: World, folder: Path | None = None) -> None:
    """What the honest governor does: a status, a signed head, and the static files where a folder is named."""
    with world.log() as log:
        log.publish()
        if folder is not None:
            tiles_folder.publish(log.store, note.Verifier("toy.example/log", Key("log").public), Folder(folder))


def leaves_of(world: World) -> tuple[bytes, ...]:
    with Store.open(world.home / "log.db") as store:
        return tuple(store.leaves(0, store.head().size))


def pin_of(world: World) -> Pin:
    return Pin(trusts.read(world.home / "trust.json").genesis)


@dataclass
class Thief:
    """Whoever holds the service key and the log key, bound by no rule: entries under construction."""

    leaves: list[bytes]

    @property
    def state(self) -> State:
        return History().read_all(self.leaves)

    def events(self) -> list[ev.Event]:
        history = History()
        return [history.read(each) for each in self.leaves]

    def stamp(self) -> dict[str, Any]:
        """What the governor would stamp next."""
        state = self.state
        policy = state.current.digest if state.current else ""
        return {
            "id": f"forged-{len(self.leaves)}",
            "at": Instant(state.last_at + 10),
            "actor": "governor",
            "policy": policy,
        }

    def write(self, event: ev.Event) -> int:
        """State it with the service key; returns its entry."""
        return self.put(leaf.encode(event, public=Key("service").public, sign=Key("service").sign))

    def put(self, data: bytes) -> int:
        self.leaves.append(data)
        return len(self.leaves) - 1

    def status(self, **changes: Any) -> int:
        """A status as the governor would write it, but for the changes."""
        state = self.state
        assert state.current is not None
        truth = {
            "counter": state.status_counter + 1,
            "halted": state.halt is not None,
            "revoked": state.revoked,
            "policy_version": state.current.version,
            "policy_digest": state.current.digest,
            "simulated": False,
        }
        return self.write(ev.StatusPublished(**self.stamp(), **{**truth, **changes}))

    def publish(self, db: Path, folder: Path) -> bytes:
        """Sign a head over all of it with the log key, and the static files; returns the note."""
        db.unlink(missing_ok=True)
        with Store.open(db, create=True) as store:
            store.append(self.leaves, expected=None)
            head = store.head()
            signed = checkpoint.sign(head_of(self.leaves), LogKey())
            store.save_checkpoint(head.size, head.root, signed)
            tiles_folder.publish(store, note.Verifier("toy.example/log", Key("log").public), Folder(folder))
        return signed
