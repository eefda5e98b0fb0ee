"""An auditor's folder: a witness's, and beside it what is pinned, where the log's files lie, its mirror, its findings.

Never cosigns without the mirror having decided everything below the head, and never audits a second log in one folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keyturn.app.auditing.replaying import pin_of
from keyturn.app.auditor.judging import judge
from keyturn.app.auditor.sources import tiles_at
from keyturn.app.wiring import SystemClock
from keyturn.app.witnessing import door as doors
from keyturn.app.witnessing import folder as witnesses
from keyturn.core.errors import Conflict, KeyturnError, MalformedInput, Unavailable, UntrustedInput
from keyturn.core.terms import Digest, Instant
from keyturn.ledger import checkpoint
from keyturn.ledger.auditing import fetch
from keyturn.ledger.auditing.fetch import Tiles
from keyturn.ledger.auditing.marks import Mark, Marks
from keyturn.ledger.auditing.mirror import Mirror
from keyturn.ledger.auditing.walk import Wrong
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.note import Verifier
from keyturn.ledger.witnessing.memory import Memory
from keyturn.ledger.witnessing.witness import Witness
from keyturn.verify import trust as trusts
from keyturn.verify.trust import Trust

TRUST, TILES, MIRROR, FINDINGS = "trust.json", witnesses.AUDITOR, "mirror.db", "findings.db"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shown:
    """An auditor as its operator sees it: who it is, what it pins, how far it looked, cosigned, and what it found.

    `mirrored` and `cosigned` count entries; `marks` are all of them, those that a person removed too.
    """

    name: str
    vkeys: tuple[str, ...]
    origin: str
    genesis: Digest
    simulated: bool
    tiles: str
    mirrored: int
    decisions: int
    mirrored_at: Instant
    cosigned: int
    cosigned_at: Instant
    marks: tuple[Mark, ...]

    @property
    def standing(self) -> tuple[Mark, ...]:
        """The marks that nobody removed."""
        return tuple(mark for mark in self.marks if mark.pardoned_at is None)


@dataclass(frozen=True, slots=True)
class Checked:
    """What fetching and deciding showed now: the head that the static files show, how many entries were new."""

    size: int
    new: int
    shown: Shown


def create(folder: Path, name: str | None, *, trust: Path, tiles: str, ml_dsa: bool = False) -> Shown:
    """Make an auditor of the one log that the trust file pins, whose static files lie at a URL prefix or in a folder.

    A witness in this folder that knows no log yet becomes the auditor, so that a policy can name it before its project
    is founded. With `ml_dsa` a new one cosigns with a second, post-quantum key too. Raises `Conflict` where there is
    an auditor or a witness of others already, `MalformedInput` for what is no trust file, name or place.
    """
    pinned = trusts.read(trust)
    place = tiles if "://" in tiles else str(Path(tiles).absolute())
    tiles_at(place)
    if (folder / witnesses.MEMORY).exists():
        _require_unused(folder, name)
    elif name is None:
        raise MalformedInput("a new auditor needs a name", help="`--name auditor.example/a1`: a URL without scheme")
    else:
        witnesses.create(folder, name, ml_dsa=ml_dsa)
    trusts.write(pinned, folder / TRUST)
    Marks(folder / FINDINGS).found()
    (folder / TILES).write_text(f"{place}\n", "utf-8")
    witnesses.trust(folder, pinned.founded.log_key)
    return show(folder)


def _require_unused(folder: Path, name: str | None) -> None:
    """A witness becomes an auditor only before it cosigned anything unread."""
    shown = witnesses.show(folder)
    if (folder / TILES).exists() or shown.logs:
        message = f"`{folder}` holds {'an auditor' if (folder / TILES).exists() else 'a witness of other logs'} already"
        raise Conflict(message, help="make another one in another folder")
    if name is not None and name != shown.name:
        message = f"the witness in `{folder}` is called `{shown.name[:80]}`, not `{name[:80]}`"
        raise MalformedInput(message, help="leave `--name` out: its keys carry its name for ever")


def show(folder: Path) -> Shown:
    """What this auditor is and found, as it is on its disk; nothing is fetched or decided."""
    pinned, place = _pinned(folder)
    witness, marks = witnesses.show(folder), Marks(folder / FINDINGS)
    mirrored = marks.mirrored()
    seen = next((log.seen for log in witness.logs if log.origin == pinned.founded.origin), None)
    return Shown(
        witness.name,
        witness.vkeys,
        pinned.founded.origin,
        pinned.genesis,
        pinned.founded.demo,
        place,
        mirrored.head.size if mirrored else 0,
        mirrored.decisions if mirrored else 0,
        mirrored.at if mirrored else Instant(0),
        seen.head.size if seen else 0,
        seen.at if seen else Instant(0),
        marks.all(),
    )


def check(folder: Path, tell: Tell) -> Checked:
    """Fetch what the static files hold now and decide it again, without cosigning anything.

    Raises `Unavailable` where they cannot be had, `UntrustedInput` for a head that the log's keys in force at its
    size did not sign, and `TamperDetected` for files that do not lead to the head, or for a second history.
    """
    with opened(folder, tell) as (mirror, pinned, tiles):
        data = fetch.newest(tiles)
        head = _signed(data, (*_keys(folder, pinned), *_in_force(mirror)))
        done = mirror.advance(data)
    return Checked(head.size, done.new, show(folder))


def pardon(folder: Path, entry: int, *, reason: str, tell: Tell) -> int:
    """Remove the marks of one entry, so that this auditor cosigns its log again; returns how many.

    Raises `MalformedInput` where none stands, and `UntrustedInput` while an entry stands in the mirror after which
    nothing can be decided again: no pardon makes an auditor vouch for what it cannot decide.
    """
    with opened(folder, tell) as (mirror, _, _):
        if not mirror.decided:
            raise UntrustedInput(
                "after an entry that cannot stand in this log nothing can be decided again, so nothing can be cosigned",
                help="a later release of Keyturn may read it; otherwise this log has ended for this auditor",
            )
        return mirror.marks.pardon(entry, reason=reason, at=SystemClock().now())


def serve(folder: Path, listen: str, tell: Tell) -> doors.Tally:
    """Be a witness that audits, until SIGTERM or Ctrl-C."""
    address = doors.parse_listen(listen)

    with opened(folder, tell) as (mirror, pinned, _), served(folder, mirror, pinned) as witness:
        door = doors.Door(address, witness, tell)
        tell(f"audits `{pinned.founded.origin}` and listens at {door.url}")
        return doors.serve(door)


@contextmanager
def opened(folder: Path, tell: Tell) -> Iterator[tuple[Mirror, Trust, Tiles]]:
    """The mirror of this folder, decided again from its first entry, with what is pinned and where files come from."""
    pinned, place = _pinned(folder)
    tiles = tiles_at(place)
    mirror = Mirror.open(
        folder / MIRROR,
        Marks(folder / FINDINGS),
        pin=pin_of(pinned),
        tiles=tiles,
        now=SystemClock().now,
        tell=tell,
    )
    try:
        yield mirror, pinned, tiles
    finally:
        mirror.close()


@contextmanager
def served(folder: Path, mirror: Mirror, pinned: Trust) -> Iterator[Witness]:
    """The witness of this folder, with this mirror as its judge of heads and of what convicts a log."""

    def judged(note: bytes) -> str | None:
        return _judged(mirror, witness.memory, pinned, note)

    with witnesses.opened(folder, judge=judged, vouch=mirror.doubt) as witness:
        yield witness


def _judged(mirror: Mirror, memory: Memory, pinned: Trust, note: bytes) -> str | None:
    """Why this head must not be cosigned; the proofs of a second history that came by the door become marks first."""
    origin = pinned.founded.origin
    if checkpoint.parse_body(note).origin != origin:
        return f"not this log: this auditor audits `{origin}` only"
    for fork in memory.forks(origin):
        size = checkpoint.parse_body(fork.theirs).size
        message = f"two roots are signed for the first {size} entries; both notes lie in `witness.db`"
        mirror.marks.keep([Wrong(size, "log_must_have_one_history", message)], size=size, at=fork.at)
    return judge(mirror, note)


def _pinned(folder: Path) -> tuple[Trust, str]:
    try:
        place = (folder / TILES).read_text("utf-8").strip()
    except FileNotFoundError:
        message = f"there is no auditor in `{folder}`"
        raise MalformedInput(message, help="`keyturn auditor init DIR --name NAME --trust FILE --tiles URL`") from None
    return trusts.read(folder / TRUST), place


def _keys(folder: Path, pinned: Trust) -> tuple[Verifier, ...]:
    """The log's keys that this witness knows: the pinned one, and those that its operator added."""
    logs = witnesses.show(folder).logs
    return next((log.keys for log in logs if log.origin == pinned.founded.origin), ())


def _in_force(mirror: Mirror) -> tuple[Verifier, ...]:
    """The log's keys by the entries that were decided here."""
    keys = mirror.keys()
    return keys.rows[-1][1] if keys else ()


def _signed(data: bytes, keys: tuple[Verifier, ...]) -> Checkpoint:
    """The head in this note, which one of the log's keys must have signed."""
    fault: KeyturnError = Unavailable("this auditor knows no key of its log", help="`keyturn witness trust`")
    for key in keys:
        try:
            return checkpoint.open_checkpoint(data, key).checkpoint
        except UntrustedInput as untrusted:
            fault = untrusted
    raise fault
