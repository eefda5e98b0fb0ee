"""A witness's folder: its keys in `keys/`, what it must never forget in `witness.db`, and `vkeys` to hand out.

Never makes a second memory beside keys that exist: a witness that forgot what it signed is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keyturn.app.wiring import KeySigner, SystemClock
from keyturn.app.witnessing import post_quantum
from keyturn.app.witnessing.post_quantum import PostQuantumSigner
from keyturn.core.errors import Conflict, MalformedInput
from keyturn.keys import keyfile
from keyturn.keys.keyfile import KeyKind
from keyturn.ledger import note
from keyturn.ledger.note import Verifier
from keyturn.ledger.witnessing import cosignature
from keyturn.ledger.witnessing.memory import Log, Memory
from keyturn.ledger.witnessing.witness import Cosigner, Judge, Witness

__all__ = ["Log", "Shown", "create", "distrust", "opened", "show", "trust"]

KEYS, MEMORY, VKEYS = "keys", "witness.db", "vkeys"
AUDITOR = "auditor.tiles"
"""Where an auditor keeps where its log's static files lie: a folder that holds it is served as an auditor only."""

ED25519, ML_DSA = "witness.json", "witness-ml-dsa-44.json"


@dataclass(frozen=True, slots=True)
class Shown:
    """A witness as others may see it: its name, its verifier keys, and the logs that it cosigns."""

    name: str
    vkeys: tuple[str, ...]
    logs: tuple[Log, ...]


def create(folder: Path, name: str, *, ml_dsa: bool) -> Shown:
    """Make a witness: its keys, its empty memory, and the file of its verifier keys.

    Raises Conflict where there is one already, MalformedInput for a name that no note can carry, and Unavailable
    when `ml_dsa` is asked for and not built in; nothing is made then.
    """
    if ml_dsa:
        cosignature.require_ml_dsa()
    _require_name(name)
    if (folder / MEMORY).exists() or (folder / KEYS).exists():
        message = f"`{folder}` holds a witness, or what is left of one"
        raise Conflict(message, help="use it with `keyturn witness serve`, or make another one in another folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keyfile.create(folder / KEYS, Path(ED25519).stem, KeyKind.SERVICE, created_at=SystemClock().now())
    if ml_dsa:
        post_quantum.create(folder / KEYS / ML_DSA)
    Memory.create(folder / MEMORY, name).close()
    shown = show(folder)
    (folder / VKEYS).write_text("".join(f"{vkey}\n" for vkey in shown.vkeys), "utf-8")
    return shown


def trust(folder: Path, vkey: str, *, origin: str | None = None) -> tuple[str, bool]:
    """Cosign the log of this verifier key from now on; returns its origin, and whether the key is new.

    A log may have several keys, for it may change them. `origin` is for a log whose keys do not carry its origin as
    their name. Raises MalformedInput for a witness's key, which signs no log, and Unavailable for a key that nobody
    here could check.
    """
    key = note.parse_vkey(vkey)
    if key.kind == note.COSIGNATURE:
        message = f"`{key.name}` is a witness's key; a log's is expected"
        raise MalformedInput(message, help="ask the log's operator for its verifier key: `log_key` in a trust file")
    if key.kind == note.ML_DSA:
        cosignature.require_ml_dsa()
    with _memory(folder) as memory:
        if key.public in {each.verifier.public for each in _cosigners(folder, memory.name)}:
            message = "this is the witness's own key; a log's is expected"
            raise MalformedInput(message, help="a witness of itself witnesses nothing")
        named = _line(origin or key.name)
        return named, memory.trust(named, key)


def distrust(folder: Path, vkey: str, *, origin: str | None = None, forget: bool = False) -> tuple[str, int]:
    """Take a head that only this key signed no more; returns the log's origin, and how many of its keys are left.

    What was cosigned is kept. Raises as `Memory.distrust` does: the last key of a log goes only with `forget`.
    """
    key = note.parse_vkey(vkey)
    named = _line(origin or key.name)
    with _memory(folder) as memory:
        return named, memory.distrust(named, key, forget=forget)


def show(folder: Path) -> Shown:
    """Read a witness's folder; raises as `Memory.open` and the key files do."""
    with _memory(folder) as memory:
        cosigners = _cosigners(folder, memory.name)
        return Shown(memory.name, tuple(each.verifier.vkey for each in cosigners), memory.logs())


@contextmanager
def opened(folder: Path, *, judge: Judge | None = None, vouch: Judge | None = None) -> Iterator[Witness]:
    """The witness of this folder while this holds; with `judge` it is an auditor, without it no auditor is served.

    `vouch` is the witness's, see there.
    """
    if judge is None and (folder / AUDITOR).exists():
        message = f"`{folder}` is an auditor's: with its keys nothing is cosigned that was not decided again"
        raise MalformedInput(message, help="`keyturn auditor serve DIR`")
    with _memory(folder) as memory:
        yield Witness(memory, _cosigners(folder, memory.name), SystemClock().now, judge, vouch)


@contextmanager
def _memory(folder: Path) -> Iterator[Memory]:
    memory = Memory.open(folder / MEMORY)
    try:
        yield memory
    finally:
        memory.close()


def _cosigners(folder: Path, name: str) -> tuple[Cosigner, ...]:
    found = [Cosigner(KeySigner.open(folder / KEYS / ED25519, name), note.COSIGNATURE)]
    if (folder / KEYS / ML_DSA).exists():
        found.append(Cosigner(PostQuantumSigner.open(folder / KEYS / ML_DSA, name), note.ML_DSA))
    return tuple(found)


def _line(origin: str) -> str:
    if not origin.isprintable():
        raise MalformedInput("the origin is not one line of text", help="copy the first line of the log's checkpoint")
    return origin


def _require_name(name: str) -> None:
    """Let the rules of notes speak, over a key that belongs to nobody."""
    Verifier(name, "zW2wdPYGEqDMtGUW3SbUqlV3F1rVHXPrz2VY2ISWmeI=", note.COSIGNATURE)
    if len(name.encode()) > cosignature.NAME_BYTES_MAX:
        message = f"the name has {len(name.encode())} bytes; {cosignature.NAME_BYTES_MAX} are the most"
        raise MalformedInput(message, help="such as `witness.example/w1`")
