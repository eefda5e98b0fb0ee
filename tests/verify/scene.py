"""A small real log with a founder and one released candidate, and the hands of those who attack what it shows.

Everything is signed by real keys and stands in a real store. What a thief of the governor's folder can do, `Hand`
does: state any event with the service key and sign any head with the log key, bound by no rule of the flow.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.core import events as ev
from keyturn.core.dossier import release_dossier
from keyturn.core.finding import Decision
from keyturn.core.policy import Policy
from keyturn.core.policy_reading import read_policy
from keyturn.core.state import Candidate, Dossier
from keyturn.core.terms import Digest, Gate, Instant
from keyturn.flow import approval as approvals
from keyturn.flow import project as projects
from keyturn.flow.dossier import seal_other
from keyturn.flow.log import Log
from keyturn.flow.permit import bundle, permit_fact, permit_id
from keyturn.ledger import checkpoint, note, tree
from keyturn.ledger.store import Store
from keyturn.verify.bundle import Bundle, Proven
from keyturn.verify.check import check
from keyturn.verify.trust import Seen, Trust
from keyturn.wire import artifact, canonical, leaf
from keyturn.wire.approval import ApprovalTerms
from keyturn.wire.digest import sha256
from tests.core import examples
from tests.fakes.witnesses import Witnesses

BEGIN = examples.BEGIN
ACTION, SCOPE = "release", "this lineage, on governed machines"
FILES = {"recipe.json": b'{"steps":7}', "subject.py": b"print('four')", "weights.npz": b"\x93weights" * 40}
FOUNDER = {**FILES, "recipe.json": b'{"steps":6}'}


class Key:
    """An Ed25519 key made from its name, the same on every machine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"scene {name}".encode()).digest())
        self.public = base64.b64encode(self._private.public_key().public_bytes_raw()).decode()

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


SERVICE = Key("service")
LOG = Key("toy.example/log")
KEYS = {name: Key(name) for name in ("ada", "ada-2", "ben", "cyd", "mallory")}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = BEGIN

    def now(self) -> Instant:
        self.at += 1000
        return Instant(self.at)


class Ids:
    """Ids that never repeat."""

    def __init__(self) -> None:
        self.count = 0

    def new(self) -> str:
        self.count += 1
        return hashlib.sha256(f"id {self.count}".encode()).hexdigest()[:32]


def root_of(files: dict[str, bytes]) -> Digest:
    return artifact.root(artifact.manifest(files))


def rows_of(files: dict[str, bytes]) -> tuple[ev.Document, ...]:
    return tuple({"name": f.name, "digest": f.digest, "bytes": f.bytes} for f in artifact.manifest(files))


def people(kind: str = "ed25519") -> list[dict[str, Any]]:
    roles = {"ada": ["safety", "board"], "ben": ["safety", "engineering"], "cyd": ["engineering"]}
    named = {"ada": ["ada", "ada-2"], "ben": ["ben"], "cyd": ["cyd"]}
    return [
        {
            "id": who,
            "roles": roles[who],
            "keys": [{"kind": kind, "public": KEYS[name].public, "custody": "separate"} for name in named[who]],
        }
        for who in roles
    ]


def document(**changes: Any) -> dict[str, Any]:
    """The policy of the scene as plain data; `changes` replace whole tables."""
    base = examples.document(people=people())
    base["subject"] = {
        **base["subject"],
        "founder": root_of(FOUNDER),
        "files": [{"name": name, "bytes_max": 4000} for name in sorted(FILES)],
    }
    return {**base, **changes}


def policy_of(text: dict[str, Any]) -> Policy:
    read = read_policy(text)
    assert isinstance(read, Policy), read
    return read


@dataclass
class Scene:
    """The log while it is made by an honest governor."""

    log: Log
    clock: Clock
    trust: Trust
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))

    @classmethod
    def begin(cls, path: Path, text: dict[str, Any] | None = None, keys: Sequence[Key] = ()) -> Scene:
        """A founded project."""
        policy, clock = policy_of(text or document()), Clock()
        store = Store.open(path, create=True)
        witnesses = Witnesses(lambda: Instant(clock.at))
        log = Log.open(store, service=SERVICE, log_key=LOG, clock=clock, ids=Ids(), witnessing=witnesses)
        stamp = {"id": "founding", "at": Instant(BEGIN), "actor": "governor", "policy": ""}
        vkey = note.Verifier(LOG.name, LOG.public).vkey
        founded = projects.founding(policy, log_vkey=vkey, service=SERVICE.public, stamp=stamp)
        projects.found_project(log, founded, policy, signatures(policy, founded.genesis, keys))
        return cls(log, clock, Trust(founded.genesis, founded, policy, Seen()))

    def found(self) -> str:
        """The lineage, cleared by ada and ben; returns the founder's permit."""
        body: ev.Document = {"name": "founder", "root": root_of(FOUNDER), "files": list(rows_of(FOUNDER))}
        digest = seal_other(self.log, "FoundLineage", {"candidate": body})
        self.sign(digest, "ada", "safety")
        self.sign(digest, "ben", "safety")
        shape = Candidate("founder", 0, Digest(""), root_of(FOUNDER), rows_of(FOUNDER), {}, Instant(0))
        self.log.append(
            lambda stamp: ev.LineageFounded(**stamp, lineage="toy", root=shape.root, files=shape.files, dossier=digest),
            permit_fact(self.log, self.dossier(digest), cleared(Gate.AMEND), shape),
            lambda stamp: ev.CandidateReleased(
                **stamp, candidate="founder", lineage="toy", root=shape.root, generation=0, permit=permit_id(digest)
            ),
        )
        return permit_id(digest)

    def propose(self, name: str = "c1", *, level: int = 1) -> Digest:
        """A candidate at this level under its sealed and published dossier."""
        number, root = len(self.log.state.attempts) + 1, root_of(self.files)
        lineage = self.log.state.lineage
        assert lineage is not None
        self.log.append(
            lambda stamp: ev.ImprovementStarted(
                **stamp, attempt=number, lineage="toy", warrant="w", parent=root, generation=0, seed=1
            ),
            lambda stamp: ev.CandidateProposed(
                **stamp,
                candidate=name,
                attempt=number,
                lineage="toy",
                parent=lineage.parent.root,
                root=root,
                files=rows_of(self.files),
                claim={},
            ),
            lambda stamp: ev.LevelRaised(**stamp, lineage="toy", candidate=name, threshold="strong", level=level),
        )
        candidate = self.log.state.candidates[name]
        text = release_dossier(
            self.log.state, candidate, cleared(Gate.RELEASE), changes={}, nonce=name, now=self.log.now()
        )
        digest = sha256(canonical.encode(text))
        self.log.append(lambda stamp: ev.DossierSealed(**stamp, dossier=digest, document=text))
        self.log.publish()
        return digest

    def sign(self, digest: Digest, who: str, role: str, **changes: Any) -> None:
        """An approval that counts."""
        terms = replace(self.terms(digest, who, role), **changes)
        approvals.give(self.log, terms, public=KEYS[who].public, sign=KEYS[who].sign)

    def terms(self, digest: Digest, who: str, role: str, decision: str = "approve") -> ApprovalTerms:
        current = self.log.state.current
        person = current.policy.person(who) if current else None
        assert person is not None
        return approvals.terms(self.log, digest, person=person, role=role, decision=decision, reason="read it")

    def dossier(self, digest: Digest) -> Dossier:
        return self.log.state.dossiers[digest]

    def release(self, digest: Digest, name: str = "c1") -> str:
        """The permit and the release, published."""
        candidate = self.log.state.candidates[name]
        self.log.append(
            permit_fact(self.log, self.dossier(digest), cleared(Gate.RELEASE), candidate),
            lambda stamp: ev.CandidateReleased(
                **stamp, candidate=name, lineage="toy", root=candidate.root, generation=1, permit=permit_id(digest)
            ),
        )
        self.log.publish()
        return permit_id(digest)

    def bundle(self, permit: str, *, old_size: int = 0) -> Bundle:
        return bundle(self.log, permit, old_size=old_size)

    def weights(self, folder: Path) -> Path:
        return put(folder, self.files)


def signatures(policy: Policy, genesis: Digest, keys: Sequence[Key] = ()) -> tuple[projects.Signed, ...]:
    """What every person of a policy signs at the founding, with each of their keys."""
    by_public = {key.public: key for key in (*KEYS.values(), *keys)}
    return tuple(
        projects.Signed(
            person.id,
            key.public,
            base64.b64encode(by_public[key.public].sign(leaf.genesis_message(genesis, person.id))).decode(),
        )
        for person in policy.people
        for key in person.keys
    )


def cleared(gate: Gate) -> Decision:
    return Decision(gate, (), Digest("sha256:" + "0" * 64), 0)


def put(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@dataclass(frozen=True)
class Released:
    """An honest log with one release by two people, ended by its status; the pieces that attacks take apart."""

    leaves: tuple[bytes, ...]
    trust: Trust
    dossier: Digest
    permit_index: int
    approval_indexes: tuple[int, ...]
    founder_permit_index: int
    founder_approval_indexes: tuple[int, ...]
    honest: Bundle
    terms: dict[str, ApprovalTerms]
    now: Instant

    @cached_property
    def permit(self) -> ev.PermitIssued:
        event = self.event(self.permit_index)
        assert isinstance(event, ev.PermitIssued)
        return event

    @cached_property
    def status(self) -> ev.StatusPublished:
        event = self.event(len(self.leaves) - 1)
        assert isinstance(event, ev.StatusPublished)
        return event

    def event(self, index: int) -> ev.Event:
        return leaf.decode(self.leaves[index], keyring(self.trust))


def keyring(trust: Trust) -> leaf.Keyring:
    people = {person.id: person.keys for person in trust.policy.people}
    return leaf.Keyring(trust.founded.service_key, people)


def released(path: Path, text: dict[str, Any] | None = None) -> Released:
    """Build it: ada (safety) and cyd (engineering) released `c1` on level 1."""
    scene = Scene.begin(path, text)
    founder = scene.found()
    digest = scene.propose()
    terms = {"ada": scene.terms(digest, "ada", "safety"), "cyd": scene.terms(digest, "cyd", "engineering")}
    for who, said in terms.items():
        approvals.give(scene.log, said, public=KEYS[who].public, sign=KEYS[who].sign)
    permit = scene.release(digest)
    state, indexes = scene.log.state, scene.log.indexes()
    first = next(d for d in state.dossiers.values() if d.gate is Gate.AMEND)
    store = scene.log.store
    made = Released(
        leaves=tuple(store.leaves(0, state.published)),
        trust=scene.trust,
        dossier=digest,
        permit_index=indexes.permits[permit],
        approval_indexes=tuple(each.index for each in scene.dossier(digest).approvals),
        founder_permit_index=indexes.permits[founder],
        founder_approval_indexes=tuple(each.index for each in first.approvals),
        honest=scene.bundle(permit),
        terms=terms,
        now=Instant(scene.clock.at + 1000),
    )
    store.close()
    return made


# --- the thief


def stated(event: ev.Event, key: Key = SERVICE) -> bytes:
    """A leaf that the service key (or another) states."""
    return leaf.encode(event, public=key.public, sign=key.sign)


def signed(terms: ApprovalTerms, key: Key) -> bytes:
    """A person's leaf."""
    return leaf.encode_approval(terms, public=key.public, sign=key.sign)


@dataclass
class Hand:
    """Leaves under construction, bound by no rule; `show` makes the bundle that proves some of them."""

    leaves: list[bytes]
    scene: Released

    @classmethod
    def of(cls, scene: Released, *, upto: int | None = None) -> Hand:
        """The honest log, cut off after `upto` leaves (None: without its last status)."""
        return cls(list(scene.leaves[: len(scene.leaves) - 1 if upto is None else upto]), scene)

    def add(self, data: bytes) -> int:
        self.leaves.append(data)
        return len(self.leaves) - 1

    def status(self, **changes: Any) -> int:
        """A status as the last leaf, later than the honest one."""
        return self.add(stated(replace(self.scene.status, **{"counter": self.scene.status.counter + 1, **changes})))

    def permit(self, **changes: Any) -> int:
        return self.add(stated(replace(self.scene.permit, **changes)))

    def show(
        self,
        permit: int | None = None,
        approvals: Sequence[int] | None = None,
        policies: Sequence[int] = (),
        *,
        old_size: int = 0,
        status: int | None = None,
        log: Key = LOG,
        origin: str = LOG.name,
    ) -> Bundle:
        """The bundle over these leaves under a head signed by `log`."""
        size = len(self.leaves)
        hashes = [tree.leaf_hash(each) for each in self.leaves]
        head = checkpoint.Checkpoint(origin, size, root_over(hashes))
        named = self.scene.approval_indexes if approvals is None else approvals
        return Bundle(
            checkpoint=note.sign(head.body(), log),
            status=self.proven(hashes, size - 1 if status is None else status),
            permit=self.proven(hashes, self.scene.permit_index if permit is None else permit),
            approvals=tuple(self.proven(hashes, index) for index in named),
            policies=tuple(self.proven(hashes, index) for index in policies),
            old_size=old_size,
            consistency=tree.prove_consistency(old=old_size, new=size, nodes=nodes(hashes)) if old_size else (),
        )

    def proven(self, hashes: list[bytes], index: int) -> Proven:
        proof = tree.prove_inclusion(index=index, size=len(hashes), nodes=nodes(hashes))
        return Proven(index, self.leaves[index], proof)


def root_over(hashes: list[bytes]) -> bytes:
    return tree.Frontier().extend(hashes).root()


def nodes(hashes: list[bytes]) -> tree.Nodes:
    return lambda level, n: root_over(hashes[n << level : (n + 1) << level])


def seen_of(scene: Released, size: int | None = None) -> Seen:
    """What a node remembers that saw the honest log, or its beginning of `size` leaves ending in a status."""
    leaves = list(scene.leaves[:size])
    status = leaf.decode(leaves[-1], keyring(scene.trust))
    assert isinstance(status, ev.StatusPublished)
    root = root_over([tree.leaf_hash(each) for each in leaves])
    said = {"counter": status.counter, "policy_version": status.policy_version, "revoked": status.revoked}
    return Seen(len(leaves), root.hex(), status.at, **said)


def doubts(bundle: Bundle, scene: Released, **changes: Any) -> list[tuple[int, str]]:
    """Why this bundle is refused: the number of each check that failed, and its whole message."""
    asked = {"trust": scene.trust, "action": ACTION, "scope": SCOPE, "now": scene.now, **changes}
    return [(doubt.check, doubt.message) for doubt in check(bundle, **asked).doubts]
