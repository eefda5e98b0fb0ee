"""What a stranger is handed, and what is made from it: static tiles, proofs, a bundle taken apart.

Nothing here decides anything; what is handed out is checked first against the key that people pinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keyturn.app.operating.opening import open_place
from keyturn.app.project import Project
from keyturn.app.verifying import keys_over_time
from keyturn.core.errors import MalformedInput, Unavailable, UntrustedInput
from keyturn.core.terms import NEVER, Instant
from keyturn.flow.log import Log
from keyturn.ledger import checkpoint, note, proof, tiles_folder
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.commit.states import Reach
from keyturn.ledger.history import log_keys
from keyturn.ledger.stores.port import LEAF_BYTES_MAX
from keyturn.ledger.tiles_folder import Published
from keyturn.verify import bundle as bundles
from keyturn.verify import trust as trusts
from keyturn.verify.chain import follow


@dataclass(frozen=True, slots=True)
class Proven:
    """An entry and its state, its proof as text, and the size of the tree that the proof is about."""

    index: int
    size: int
    entry: bytes
    proof: bytes
    state: str
    witnesses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a proof shows: an entry of so many bytes stands at this index under this signed head."""

    index: int
    head: Checkpoint
    entry_bytes: int
    witnesses: tuple[tuple[str, Instant], ...]


def publish_tiles(project: Project, where: str | None) -> tuple[str, Published, tuple[str, ...]]:
    """Publish a fresh checkpoint and bring the static tree in a folder or bucket to it; says where, and who witnessed.

    Witnesses whose cosignature is missing are then asked again, for an auditor fetches what it is to cosign. None
    means the place that the project's operation names.
    """
    place = open_place(project.root, where, create=True)
    with project.opened() as log:
        log.publish()
        keys = keys_over_time(log.state, pinned(project))
        tiles_folder.lay(log.store, keys, place)
        if log.state.witnessed < log.state.published:
            log.witness()
        shown = log.shown()
        if shown is None:
            raise Unavailable("no checkpoint may be shown before its witnesses cosigned it", help="`keyturn status`")
        return place.address, tiles_folder.publish(log.store, keys, place, shown), _witnesses(log, shown)


def _witnesses(log: Log, signed: bytes) -> tuple[str, ...]:
    table = log.state.current.policy.witnesses if log.state.current else None
    return checkpoint.witnesses_of(signed, log.log_keys, table) if table else ()


def prove_entry(project: Project, name: str) -> Proven:
    """Prove the entry with this index, or with the id that begins so, under the newest checkpoint.

    A fresh checkpoint is published only where the entry stands under none yet.
    """
    with project.opened() as log:
        index = index_of(project, name, log.head.size)
        signed = log.shown()
        if signed is None or checkpoint.parse_body(signed).size <= index:
            log.publish()
            signed = log.shown()
        if signed is None or checkpoint.parse_body(signed).size <= index:
            message = f"entry {index} stands under no checkpoint yet that may be shown: its witnesses have not cosigned"
            raise Unavailable(message, help="`keyturn status` says who is silent; then run the command again")
        head = checkpoint.open_checkpoint(signed, keys_over_time(log.state, pinned(project))).checkpoint
        made = proof.Proof(index, log.store.prove_inclusion(index, head.size), signed)
        state = Reach(log.head.size, log.state.published, log.state.witnessed).state_of(index)
        leaf, said = log.store.leaf(index), _witnesses(log, signed)
        return Proven(index, head.size, leaf, proof.encode(made), state.word, said)


def check_proof(path: Path, *, entry: Path, vkey: str, witnesses: Sequence[str] = ()) -> Checked:
    """Check a proof for the exact bytes of an entry, with nothing but the log's key; raises where it does not hold.

    `witnesses` are verifier keys of whoever may have cosigned the head; those that did are named, with the moment.
    """
    log, known = note.parse_vkey(vkey), [note.parse_vkey(each) for each in witnesses]
    leaf = _read(entry, LEAF_BYTES_MAX)
    said = proof.decode(_read(path, proof.PROOF_BYTES_MAX))
    head = proof.check(said, leaf, log).checkpoint
    signed = checkpoint.open_checkpoint(said.checkpoint, log, known).witnessed
    return Checked(said.index, head, len(leaf), tuple((each.verifier.name, each.at or NEVER) for each in signed))


def explode(bundle: Path, folder: Path, *, trust: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Take a permit's bundle apart into standard files in an empty folder; returns their names, and who witnessed.

    Every proof in it is checked first with the pinned log key. Whether the permit may be used is another question,
    which only `verify_permit` answers.
    """
    opened, root = bundles.decode(_read(bundle, bundles.BUNDLE_BYTES_MAX)), trusts.read(trust)
    chain, broken = follow(opened.policies, root)
    if broken is not None:
        raise broken
    log = log_keys(root.founded, chain)
    current = log.at(checkpoint.parse_body(opened.checkpoint).size)[0]
    named = {
        "permit": opened.permit,
        "status": opened.status,
        **{f"approval-{n}": each for n, each in enumerate(opened.approvals, 1)},
        **{f"adoption-{n}": each for n, each in enumerate(opened.policies, 1)},
    }
    files = {"checkpoint": opened.checkpoint, "policy": proof.policy(current, chain[-1].policy.witnesses).encode()}
    for name, each in named.items():
        made = proof.Proof(each.index, each.proof, opened.checkpoint)
        proof.check(made, each.leaf, log)
        files |= {f"{name}.tlog-proof": proof.encode(made), f"{name}.leaf": each.leaf}
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise MalformedInput(f"the folder `{folder}` is not empty", help="name an empty or a new folder")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return tuple(files), checkpoint.witnesses_of(opened.checkpoint, log, chain[-1].policy.witnesses)


def pinned(project: Project) -> trusts.Trust:
    """What people pinned at the founding; the log's keys follow from it, never from what a log or a folder names."""
    return trusts.read(project.home / "trust.json")


def index_of(project: Project, name: str, size: int) -> int:
    """The index of the entry that is named by it, or by the beginning of its id; raises MalformedInput."""
    if name.isascii() and name.isdigit() and len(name) < 16:
        if int(name) >= size:
            raise MalformedInput(f"the log has no entry {name}; it holds {size}", help="`keyturn log list`")
        return int(name)
    fitting = [index for index, event in project.entries(0, size) if name and event.id.startswith(name)]
    if len(fitting) != 1:
        message = f"`{name[:80]}` begins the id of {len(fitting)} entries; one is expected"
        raise MalformedInput(message, help="`keyturn log list --json` shows ids and indexes")
    return fitting[0]


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as fault:
        raise MalformedInput(f"`{path}` cannot be read: {fault.strerror}", help="name the file") from fault
    if len(data) > most:
        raise UntrustedInput(f"`{path}` is longer than {most} bytes", help="it is not what it is said to be")
    return data
