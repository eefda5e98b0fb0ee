"""What lies on disk is damaged, old, missing or full: nothing is decided on it, and nothing is half-written."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn.app.wiring import KeySigner, RandomIds
from keyturn.core import agenda
from keyturn.core.errors import KeyturnError, MalformedInput, TamperDetected, Unavailable, UntrustedInput
from keyturn.flow.log import Log
from keyturn.flow.run import run
from keyturn.ledger.store import Store
from tests.fakes.runner import FILE
from tests.fakes.world import Crash, Key, LogKey, Tape, World, plain
from tests.flow.conftest import Found
from tests.flow.test_halting import once, warranted
from tests.world.story import copied


def edited(home: Path, *statements: str) -> None:
    with sqlite3.connect(home / "log.db") as db:
        for statement in statements:
            db.execute(statement)


# --- the log


@pytest.mark.parametrize(
    "statements",
    [
        ("DELETE FROM entry WHERE i = (SELECT max(i) FROM entry)",),
        ("DELETE FROM entry WHERE i = 5",),
        ("UPDATE entry SET leaf = CAST(replace(CAST(leaf AS TEXT), 'a', 'b') AS BLOB) WHERE i = 3",),
        ("UPDATE entry SET leaf = (SELECT leaf FROM entry WHERE i = 1) WHERE i = 2",),
    ],
    ids=["the last entry is gone", "one inside is gone", "a letter is changed", "one stands for another"],
)
def test_an_edited_log_is_not_governed_on(found: Found, statements: tuple[str, ...]) -> None:
    world = warranted(found())
    edited(world.home, *statements)
    with pytest.raises((TamperDetected, UntrustedInput, MalformedInput)):
        world.crashed().run()


def test_a_log_put_back_to_an_older_copy_starts_nothing(found: Found, tmp_path: Path) -> None:
    world = warranted(found())
    copied(world, tmp_path / "copy")
    world.approve(world.hold().dossier)
    world.run()  # the next generation is loaded, and this machine remembers how far the log had come
    for name in ("log.db", "log.db-wal", "log.db-shm"):
        (world.home / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy" / "log.db", world.home / "log.db")
    for name in ("log.db-wal", "log.db-shm"):
        if (tmp_path / "copy" / name).exists():
            shutil.copy(tmp_path / "copy" / name, world.home / name)
    world = world.crashed()
    with pytest.raises(UntrustedInput, match="this node has seen"):
        world.run()
    assert "ImprovementStarted" not in world.kinds()


def test_no_log_no_action(found: Found) -> None:
    world = warranted(found())
    (world.home / "log.db").unlink()
    with pytest.raises(Unavailable, match="there is no log"):
        world.crashed().run()
    assert not (world.home / "log.db").exists()


# --- keys


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyturnError, match=r"service\.json"):
        KeySigner.open(tmp_path / "service.json", "service")


def test_another_service_key_writes_nothing(found: Found) -> None:
    world = warranted(found())
    before = world.kinds()
    with Store.open(world.home / "log.db") as store:
        log = Log.open(store, service=Key("thief"), log_key=LogKey(), clock=world.clock, ids=RandomIds())
        with pytest.raises(UntrustedInput, match=r"the governor's key in force, `.*`, is not here"):
            log.publish()
    assert world.kinds() == before


def test_another_log_key_signs_no_checkpoint(found: Found) -> None:
    class Other(LogKey):
        @property
        def public(self) -> str:
            return Key("thief").public

        def sign(self, message: bytes) -> bytes:
            return Key("thief").sign(message)

    world = warranted(found())
    with Store.open(world.home / "log.db") as store:
        before = store.checkpoints()
        log = Log.open(store, service=Key("service"), log_key=Other(), clock=world.clock, ids=RandomIds())
        with pytest.raises(UntrustedInput, match=r"the governor's key in force, `.*`, is not here"):
            log.publish()
        assert store.checkpoints() == before
    world.released()


# --- a full disk


def test_a_full_disk_leaves_nothing_half_written_and_the_loop_goes_on_when_there_is_room(
    found: Found, tmp_path: Path
) -> None:
    calm = World.founded(tmp_path / "calm", {2: "drift"})
    calm.play()
    world, stops = found({2: "drift"}), 0
    for start in range(200):
        try:
            with world.governor() as governor:
                store: object = governor.log.store._store  # type: ignore[attr-defined]  # the taped one's
                assert isinstance(store, Store)
                (pages,) = store._db.execute("PRAGMA page_count").fetchone()
                if start % 3:
                    store._db.execute(f"PRAGMA max_page_count = {pages + start % 3 - 1}")
                step = run(governor)
        except Unavailable as fault:
            stops += "the disk is full" in fault.message
            world = world.crashed()
            world.state  # noqa: B018 - everything that was acknowledged reads well
            continue
        if not world.answer(step, warrants=1):
            break
    assert stops > 5
    assert plain(world.events()) == plain(calm.events())


def test_a_disk_that_takes_no_files_proposes_nothing(found: Found) -> None:
    world = warranted(found())

    def full() -> None:
        shutil.move(world.home / "artifacts", world.home / "elsewhere")
        (world.home / "artifacts").write_text("no folder can be made here")

    with pytest.raises(Unavailable, match="could not be stored"):
        world.run(once("before put", full))
    assert world.kinds()[-1] == "SandboxAttested"
    (world.home / "artifacts").unlink()
    shutil.move(world.home / "elsewhere", world.home / "artifacts")
    assert isinstance(world.run(), agenda.Hold)
    assert len(world.state.attempts) == 1


# --- what lies sealed


def altered(folder: Path) -> None:
    (folder / FILE).write_bytes((folder / FILE).read_bytes().replace(b"0.02", b"0.01"))


def lengthened(folder: Path) -> None:
    (folder / "more.json").write_text("{}")


def emptied(folder: Path) -> None:
    (folder / FILE).unlink()


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def linked(folder: Path) -> None:
    (folder / FILE).unlink()
    (folder / FILE).symlink_to("/etc/hostname")


Damage = Callable[[Path], None]
DAMAGES = [altered, lengthened, emptied, gone, linked]


def proposed_then_crashed(world: World, until: str) -> Path:
    """A candidate is proposed, and the governor dies once the log holds this kind of event."""
    tape = Tape()

    def act(_: int, what: str) -> None:
        if what == "after append" and until in world.kinds():
            raise Crash

    tape.act = act
    with pytest.raises(Crash):
        world.run(tape)
    (candidate,) = world.state.candidates.values()
    return world.artifacts.path(candidate.root)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_candidate_altered_after_it_was_proposed_is_not_tried(found: Found, damage: Damage) -> None:
    world = warranted(found())
    folder = proposed_then_crashed(world, "CandidateProposed")
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    damage(folder)
    with world.governor() as governor:
        with pytest.raises(TamperDetected, match="is not the one that was proposed"):
            run(governor)
        assert governor.halter.asked == []  # type: ignore[attr-defined]  # the fake's own list
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    assert isinstance(world.run(), agenda.Hold), "restored, it goes on where it was"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_candidate_altered_after_its_trials_is_not_shown_to_people(found: Found, damage: Damage) -> None:
    world = warranted(found())
    tape = Tape()

    def act(_: int, what: str) -> None:
        if what == "before append" and world.kinds().count("EvidenceRecorded") == 4:
            raise Crash

    tape.act = act
    with pytest.raises(Crash):
        world.run(tape)
    (candidate,) = world.state.candidates.values()
    damage(world.artifacts.path(candidate.root))
    with pytest.raises(TamperDetected, match="is not the one that was proposed"):
        world.run()
    assert world.kinds()[-1] != "DossierSealed"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_candidate_altered_after_its_approval_is_not_released(found: Found, damage: Damage) -> None:
    world = found()
    step = world.released()
    (candidate,) = world.state.candidates.values()
    world.approve(step.dossier)
    damage(world.artifacts.path(candidate.root))
    with pytest.raises(TamperDetected, match="is not the one that was proposed"):
        world.run()
    assert len(world.state.permits) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_parent_altered_after_its_release_makes_nothing(found: Found, damage: Damage) -> None:
    world = warranted(found())
    damage(world.artifacts.path(world.lineage.founder.root))
    with pytest.raises(UntrustedInput, match="loading is refused"):
        world.run()
    assert "ImprovementStarted" not in world.kinds()
