"""A project on disk whose subject is fake: founded, governed and signed for within one process, reopened at will.

Everything durable is real: the log, the latch, the artifacts, the trust file, every signature. `Tape` is told before
and after each thing that outlives the process, so that a test can crash, fail or interfere exactly there.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.app.reasons.reading import Reader
from keyturn.app.wiring import FileBlobs, FileLatch, RandomIds
from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.agenda import Step, next_step
from keyturn.core.approval import row_of
from keyturn.core.bounds import NO_BOUNDS, Bounds
from keyturn.core.dossier import as_request
from keyturn.core.events import Document
from keyturn.core.policy import Policy
from keyturn.core.policy_reading import read_policy
from keyturn.core.state import Dossier, Lineage, State
from keyturn.core.terms import NO_DIGEST, Digest, Instant
from keyturn.flow import approval, audit, halt, incident, warrant
from keyturn.flow.dossier import seal_other
from keyturn.flow.governor import Governor
from keyturn.flow.log import Log, Stamp
from keyturn.flow.project import Signed, found_project, founding
from keyturn.flow.run import run
from keyturn.ledger import note
from keyturn.ledger.artifacts import ArtifactStore
from keyturn.ledger.blobs.store import BlobStore
from keyturn.ledger.history import History
from keyturn.ledger.store import Head, Store
from keyturn.verify import trust as trusts
from keyturn.wire import artifact, base64, leaf
from keyturn.wire.blobs.blob import REFERENCE
from tests.core import examples
from tests.fakes.loop import LOOP, FakeLoop
from tests.fakes.runner import FILE, FakeRunner, founder
from tests.fakes.witnesses import Witnesses

BEGIN = 1_800_000_000_000
HOUR = 3_600_000
BANK_KEY = hashlib.sha256(b"bank").digest()
LEAVE = Bounds(programs_max=100, wall_seconds_max=1000, requests_max=1000)
PEOPLE: Mapping[str, tuple[str, ...]] = {"ada": ("safety", "board"), "ben": ("safety",), "cyd": ("engineering",)}


@dataclass(frozen=True, slots=True)
class Key:
    """An Ed25519 key that follows from its name."""

    name: str

    @property
    def private(self) -> Ed25519PrivateKey:
        """The key itself."""
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"key of {self.name}".encode()).digest())

    @property
    def public(self) -> str:
        """Its public part, base64."""
        return base64.encode(self.private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """A signature."""
        return self.private.sign(message)


def document(traits: Mapping[int, str] | None = None, **changes: Any) -> dict[str, Any]:
    """A small policy for the fake subject; `changes` replace whole top-level tables."""
    keys = {name: {"kind": "ed25519", "public": Key(name).public, "custody": "separate"} for name in PEOPLE}
    base = examples.document(
        people=[{"id": name, "roles": list(roles), "keys": [keys[name]]} for name, roles in PEOPLE.items()],
        subject={
            "improve": ["python", "/parent/subject.py", "improve"],
            "answer": ["python", "/candidate/subject.py", "answer"],
            "runtime": "python",
            "founder": artifact.root(artifact.manifest(founder(traits))),
            "seed": 1,
            "files": [{"name": FILE, "bytes_max": 10_000}],
        },
        charter=[{"clause": "be-kind", "text": "Is kind.", "bank": "broken"}],
        suites=[_suite("broken", "charter.be-kind.broken"), _suite("score", "score"), _suite("win", "win")],
        levels=[{"id": 0, "sandbox": "T2"}, {"id": 1, "sandbox": "T2", "unaudited_max": 1}],
        thresholds=[
            _threshold("kind", "limit", "broken", "charter.be-kind.broken", line=0.4, margin=0.1),
            _threshold("drift", "limit", "broken", "drift.parent.be-kind", line=0.8, margin=0.1, reference="parent"),
            _threshold("strong", "capability", "score", "score", line=0.7, margin=0.1, raises_to=1),
            _threshold("honest", "claim", "win", "win", margin=0.15),
        ],
        tripwires=[{"when": "decoy_opened", "do": "halt"}, {"when": "processes_left", "do": "incident"}],
        gates=[
            *(examples.gate("train", level, safety=1) for level in (0, 1)),
            examples.gate("release", 0, safety=1),
            examples.gate("release", 1, safety=1, engineering=1),
            *(examples.gate("resume", level, safety=2) for level in (0, 1)),
            *(examples.gate("amend", level, safety=2) for level in (0, 1)),
        ],
        freshness={"evidence_seconds": 864_000, "permit_seconds": 86_400},
    )
    if "loop" in changes:
        del base["subject"]["improve"]
    return copy.deepcopy({**base, **changes})


def _suite(id: str, metric: str) -> dict[str, Any]:
    return {**examples.suite(id, metric), "items_max": 60, "block": 15}


def _threshold(id: str, kind: str, suite: str, metric: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "kind": kind, "suite": suite, "metric": metric, "lifetime_error": 0.2, **more}


def policy_of(text: dict[str, Any]) -> Policy:
    """The policy that a document says."""
    read = read_policy(text)
    assert isinstance(read, Policy), read
    return read


@dataclass(slots=True)
class Clock:
    """A clock that a test moves; each look takes a hundredth of a second."""

    at: int = BEGIN

    def now(self) -> Instant:
        """The present moment."""
        self.at += 10
        return Instant(self.at)


class Crash(BaseException):
    """The process is gone; nothing in our code may catch this."""


@dataclass(slots=True)
class Tape:
    """What happened at the borders of the process, in order; `act` is called there and may do anything."""

    act: Callable[[int, str], None] = lambda _number, _what: None
    seen: list[str] = field(default_factory=list)

    def __call__(self, what: str) -> None:
        self.seen.append(what)
        self.act(len(self.seen) - 1, what)


class TapedStore:
    """The real store, with the tape told about every write."""

    def __init__(self, store: Store, tape: Tape) -> None:
        self._store, self._tape = store, tape

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, leaves: list[bytes], *, expected: Head | None) -> Head:
        """As the store's."""
        self._tape("before append")
        head = self._store.append(leaves, expected=expected)
        self._tape("after append")
        return head

    def save_checkpoint(self, size: int, root: bytes, said: bytes) -> None:
        """As the store's."""
        self._tape("before checkpoint")
        self._store.save_checkpoint(size, root, said)
        self._tape("after checkpoint")


@dataclass(frozen=True, slots=True)
class TapedLatch:
    """The real latch, taped."""

    latch: FileLatch
    tape: Tape

    def set(self, why: str) -> None:
        """As the latch's."""
        self.tape("before latch")
        self.latch.set(why)
        self.tape("after latch")

    def clear(self) -> None:
        """As the latch's."""
        self.tape("before unlatch")
        self.latch.clear()
        self.tape("after unlatch")

    def reason(self) -> str | None:
        """As the latch's."""
        return self.latch.reason()

    def freeze(self, text: str) -> None:
        """As the latch's."""
        self.tape("before mark")
        self.latch.freeze(text)
        self.tape("after mark")

    def thaw(self) -> None:
        """As the latch's."""
        self.tape("before unmark")
        self.latch.thaw()
        self.tape("after unmark")

    def frozen(self) -> str | None:
        """As the latch's."""
        return self.latch.frozen()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """As the latch's."""
        with self.latch.guard():
            yield


@dataclass(frozen=True, slots=True)
class TapedArtifacts:
    """The real artifact store, taped."""

    store: ArtifactStore
    tape: Tape

    def put(self, root: Digest, files: Mapping[str, bytes]) -> None:
        """As the store's."""
        self.tape("before put")
        self.store.put(root, files)
        self.tape("after put")

    def path(self, root: Digest) -> Path:
        """As the store's."""
        return self.store.path(root)


@dataclass(frozen=True, slots=True)
class TapedBlobs:
    """The real blobs, taped."""

    blobs: FileBlobs
    tape: Tape

    def keep(self, data: bytes) -> str:
        """As the blobs'."""
        self.tape("before keep")
        reference = self.blobs.keep(data)
        self.tape("after keep")
        return reference

    def erase(self, digest: Digest) -> bool:
        """As the blobs'."""
        self.tape("before erase")
        found = self.blobs.erase(digest)
        self.tape("after erase")
        return found


@dataclass(slots=True)
class World:
    """One project, its people and its clock. Nothing is kept in memory that a reopened world would need.

    `read` is what was read and checked before, so that a story does not check every entry anew at each step; a crash
    forgets it.
    """

    home: Path
    clock: Clock = field(default_factory=Clock)
    told: list[str] = field(default_factory=list)
    read: Log | None = None
    runs: type[FakeRunner] = FakeRunner
    witnesses: Witnesses | None = None

    @classmethod
    def founded(cls, home: Path, traits: Mapping[int, str] | None = None, **changes: Any) -> World:
        """A fresh project; its lineage is not founded yet."""
        runs = FakeLoop if "loop" in changes else FakeRunner
        world = cls(home, runs=runs)
        home.mkdir(parents=True)
        policy = policy_of(document(traits, **changes))
        vkey = note.Verifier(policy.origin, Key("log").public).vkey
        stamp = Stamp(id=RandomIds().new(), at=world.clock.now(), actor="governor", policy="")
        said = founding(policy, log_vkey=vkey, service=Key("service").public, stamp=stamp)
        signed = tuple(world._genesis(said.genesis, person.id) for person in policy.people)
        trusts.write(trusts.Trust(said.genesis, said, policy, trusts.Seen()), home / "trust.json")
        Store.open(home / "log.db", create=True).close()
        with world.log() as log:
            found_project(log, said, policy, signed)
        ArtifactStore(home / "artifacts").put(policy.subject.founder, founder(traits))
        return world

    @staticmethod
    def _genesis(genesis: Digest, person: str) -> Signed:
        key = Key(person)
        return Signed(person, key.public, base64.encode(key.sign(leaf.genesis_message(genesis, person))))

    # --- opening

    @contextmanager
    def log(self, tape: Tape | None = None) -> Iterator[Log]:
        """The log, as another process opens it."""
        with Store.open(self.home / "log.db") as store:
            taped: Any = TapedStore(store, tape) if tape else store
            log = Log.open(
                taped,
                service=Key("service"),
                log_key=LogKey(),
                clock=self.clock,
                ids=RandomIds(),
                earlier=self.read,
                witnessing=self.witnesses,
            )
            yield log
            self.read = log

    def crashed(self) -> World:
        """The same project for a process that remembers nothing."""
        return World(self.home, self.clock, runs=self.runs, witnesses=self.witnesses)

    @contextmanager
    def governor(self, tape: Tape | None = None) -> Iterator[Governor]:
        """The governor, as a fresh process opens it; its runner is `governor.halter`."""
        tape = tape or Tape()
        latch = TapedLatch(self.latch, tape)
        with self.log(tape) as log:
            runner = self.runs(latch, tape)
            yield Governor(
                log=log,
                improver=runner,
                trials=runner,
                halter=runner,
                artifacts=TapedArtifacts(self.artifacts, tape),
                blobs=TapedBlobs(FileBlobs(self.blobs), tape),
                latch=latch,
                bank_key=BANK_KEY,
                trust=lambda: trusts.read(self.home / "trust.json"),
                tell=self.told.append,
                grown=lambda name, plan, process: None,
            )

    @property
    def latch(self) -> FileLatch:
        """The latch on disk."""
        return FileLatch(self.home / "halt.latch")

    @property
    def blobs(self) -> BlobStore:
        """What entries name without saying it."""
        return BlobStore(self.home / "blobs")

    def words(self, text: str) -> str:
        """A text with the words that its references stand for."""
        return Reader(self.blobs, self.state.erased).text(text)

    @property
    def artifacts(self) -> ArtifactStore:
        """The candidates' files."""
        return ArtifactStore(self.home / "artifacts")

    def run(self, tape: Tape | None = None) -> Step:
        """One start of the governor: on until only people can go on."""
        with self.governor(tape) as governor:
            return run(governor)

    def hold(self) -> agenda.Hold:
        """One start of the governor that must end waiting at a gate."""
        step = self.run()
        assert isinstance(step, agenda.Hold), step
        return step

    @property
    def lineage(self) -> Lineage:
        """The founded lineage."""
        lineage = self.state.lineage
        assert lineage is not None
        return lineage

    @property
    def state(self) -> State:
        """What holds, read from the first leaf."""
        with self.log() as log:
            return log.state

    def events(self) -> list[ev.Event]:
        """Every event of the log."""
        with Store.open(self.home / "log.db") as store:
            history = History()
            return [history.read(data) for data in store.leaves(0, store.head().size)]

    def kinds(self) -> list[str]:
        """Their names."""
        return [type(event).__name__ for event in self.events()]

    # --- people, each in a process of their own as far as the log can tell

    def sign(self, dossier: Digest, person: str, role: str, *, refuse: bool = False) -> None:
        """A person's decision on a dossier."""
        with self.log() as log:
            self.sign_with(log, dossier, person, role, refuse=refuse)

    @staticmethod
    def sign_with(log: Log, dossier: Digest, person: str, role: str, *, refuse: bool = False) -> None:
        """The same, with a log that was read some time ago."""
        assert log.state.current is not None
        who = log.state.current.policy.person(person)
        assert who is not None
        decision = "refuse" if refuse else "approve"
        terms = approval.terms(log, dossier, person=who, role=role, decision=decision, reason="read it")
        approval.give(log, terms, public=Key(person).public, sign=Key(person).sign)

    def approve(self, dossier: Dossier) -> None:
        """Everybody who is needed signs, each once."""
        state = self.state
        row = row_of(state, as_request(dossier))
        assert row is not None
        free = [
            name for name in PEOPLE if all(a.event.person != name for a in state.dossiers[dossier.digest].approvals)
        ]
        for seat in row.quorum:
            signed = sum(a.event.role == seat.role for a in state.dossiers[dossier.digest].approvals)
            for name in [name for name in free if seat.role in PEOPLE[name]][: seat.persons - signed]:
                free.remove(name)
                self.sign(dossier.digest, name, seat.role)

    def refuse(self, dossier: Dossier, person: str = "ada", role: str = "safety") -> None:
        """A person refuses."""
        self.sign(dossier.digest, person, role, refuse=True)

    def warrant(self, *, candidates: int = 4, level: int = 1, hours: float = 20.0, loop: Bounds | None = None) -> None:
        """Leave to train is asked for; who signs is another matter."""
        with self.log() as log:
            assert log.state.current is not None
            policy = log.state.current.policy
            bounds = loop or (LEAVE if policy.loop else NO_BOUNDS)
            warrant.ask(log, policy, candidates=candidates, level_ceiling=level, hours=hours, loop=bounds)

    def audit(self, person: str = "ada", *, founder: bool = False) -> None:
        """A person reviews the newest generation, or the founder."""
        with self.log() as log:
            assert log.state.lineage is not None
            assert log.state.current is not None
            seen = log.state.lineage.founder if founder else log.state.lineage.parent
            who = log.state.current.policy.person(person)
            assert who is not None
            terms = audit.review(log, seen, person=who, role=who.roles[0], reason="looked at it")
            audit.audit(log, terms, public=Key(person).public, sign=Key(person).sign)
            log.publish()

    def aware(self, name: str, moment: str = "aware_at", person: str = "ada") -> None:
        """A person signs a moment of an incident."""
        with self.log() as log:
            assert log.state.current is not None
            who = log.state.current.policy.person(person)
            assert who is not None
            terms = incident.awareness(log, name, moment, moment_at=log.now(), person=who, reason="I know")
            incident.aware(log, terms, public=Key(person).public, sign=Key(person).sign)

    def halt(self, reason: str = "enough", by: str = "person:ada") -> Document:
        """A person halts by their own hand, from a process that finds no governor to ask."""
        receipt = halt.act(FakeRunner(self.latch), self.latch, by=by, reason=reason)
        with self.log() as log:
            halt.record(log, by=by, reason=reason, receipt=receipt)
        return receipt

    def ask_to_resume(self) -> Dossier:
        """The dossier for lifting the standing halt, published."""
        with self.log() as log:
            standing = log.state.halt
            assert standing is not None
            digest = seal_other(log, "ResumeLoop", {"halt": standing.id, "reason": standing.reason})
            return log.state.dossiers[digest]

    # --- the whole story, told by what the log asks for

    def answer(self, step: Step, *, warrants: int) -> bool:
        """People do what a stop waits for; false when nothing is left that they would do."""
        if isinstance(step, agenda.Hold):
            self.approve(step.dossier)
        elif isinstance(step, agenda.AwaitAudit):
            self.audit()
        elif isinstance(step, agenda.Halted):
            self.approve(step.dossier or self.ask_to_resume())
        elif isinstance(step, agenda.AwaitWarrant) and len(self.state.warrants) < warrants:
            self.warrant()
        else:
            return False
        return True

    def play(self, *, warrants: int = 1, starts_max: int = 60) -> Step:
        """Governor and people take turns until the warrants are used up."""
        for _ in range(starts_max):
            step = self.run()
            if not self.answer(step, warrants=warrants):
                return step
        raise AssertionError("the story does not end")

    def until(self, kind: type[Step], *, warrants: int = 1, starts_max: int = 60) -> Any:
        """Take turns until the governor stops like this; what people would answer to it is left undone."""
        for _ in range(starts_max):
            step = self.run()
            if isinstance(step, kind):
                return step
            assert self.answer(step, warrants=warrants), step
        raise AssertionError("the story does not come to this")

    def released(self, *, warrants: int = 1) -> agenda.Hold:
        """Take turns until a candidate waits at the release gate."""
        for _ in range(60):
            step = self.run()
            if isinstance(step, agenda.Hold) and step.dossier.gate == "release":
                return step
            assert self.answer(step, warrants=warrants), step
        raise AssertionError("no candidate comes to the release gate")


@dataclass(frozen=True, slots=True)
class LogKey:
    """The log's key, under the log's name."""

    name: str = "toy.example/log"

    @property
    def public(self) -> str:
        """Its public part."""
        return Key("log").public

    def sign(self, message: bytes) -> bytes:
        """A signature."""
        return Key("log").sign(message)


VOLATILE = ("id", "at", "not_before", "not_after", "expires_at", "nonce", "signed_at", "moment_at", "sig", "signatures")
NAMES = re.compile(r"\b([pwhi])-[0-9a-f]{8}(?:-[0-9]+)?\b")


def plain(events: list[ev.Event]) -> list[str]:
    """Events as text without times, nonces, ids and signatures; names that follow from those are numbered."""
    names: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        kind = match[1] if match.lastindex else "dossier"
        return names.setdefault(match[0], f"{kind}#{len(names)}")

    digests = [event.dossier for event in events if isinstance(event, ev.DossierSealed)]
    dossiers = re.compile("|".join(map(re.escape, digests)) or r"(?!)")
    texts = [json.dumps(_stripped(ev.to_json(event)), sort_keys=True) for event in events]
    texts = [REFERENCE.sub("withheld", text) for text in texts]  # salted, so never the same twice
    return [
        NAMES.sub(number, dossiers.sub(lambda m: names.setdefault(m[0], f"dossier#{len(names)}"), t)) for t in texts
    ]


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(inner) for key, inner in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [_stripped(inner) for inner in value]
    return value


__all__ = ["HOUR", "LOOP", "NO_DIGEST", "Crash", "Tape", "World", "document", "next_step", "plain", "policy_of"]
