"""The governor's hand on the log: read what is new, append what happened, publish a checkpoint.

It decides nothing. Every append compares the head that was read with the head that is there; when the log moved,
`Conflict` says so and nothing was written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict, TypeVar

from keyturn.core import events as ev
from keyturn.core.errors import Conflict, UntrustedInput, invariant
from keyturn.core.keys.governor import keys_of
from keyturn.core.keys.public import public_of
from keyturn.core.policy import GovernorKeys
from keyturn.core.state import State
from keyturn.core.terms import Digest, Instant
from keyturn.flow.ports import Clock, Ids, Signer, Witnessing
from keyturn.ledger import checkpoint, note
from keyturn.ledger.history import History, keyring, log_keys
from keyturn.ledger.stores.port import Head, LogStore
from keyturn.ledger.witnessing.recorded import recorded
from keyturn.wire import leaf

K = TypeVar("K", bound=Signer)

RECORD_TRIES_MAX = 20
SKEW_SECONDS = 300
"""How far a person's clock may run ahead of the governor's."""


@dataclass(frozen=True, slots=True)
class Indexes:
    """Where in the log permits and policies stand."""

    permits: dict[str, int]
    policies: tuple[int, ...]


class Stamp(TypedDict):
    """What every event carries; handed to each fact when it is appended."""

    id: str
    at: Instant
    actor: str
    policy: str


Find = Callable[[str], note.Signer | None]
"""Where the governor's keys lie: the one with this base64 public key, if it is here."""

Fact = Callable[[Stamp], ev.Event]
"""An event that lacks only its stamp."""


@dataclass(slots=True)
class Log:
    """The log of one project, with the service key that states facts and the log key that signs checkpoints.

    `find` brings the governor's further keys by their public part, since a policy may put them in the place of those
    two: it is asked again at each signature, so that no restart is needed.
    """

    store: LogStore
    service: Signer
    log_key: note.Signer | None
    clock: Clock
    ids: Ids
    history: History
    head: Head
    permits: dict[str, int]
    policies: list[int]
    witnessing: Witnessing | None = None
    find: Find = lambda _: None

    @classmethod
    def open(
        cls,
        store: LogStore,
        *,
        service: Signer,
        log_key: note.Signer | None,
        clock: Clock,
        ids: Ids,
        earlier: Log | None = None,
        witnessing: Witnessing | None = None,
        find: Find = lambda _: None,
    ) -> Log:
        """The log as it stands, read and checked from its first leaf.

        What an `earlier` reading in this process checked is not checked again, if its root still stands in the store.
        """
        log = cls(store, service, log_key, clock, ids, History(), Head.empty(), {}, [], witnessing, find)
        if earlier is not None and _still_stands(store, earlier.head):
            log.history, log.head = earlier.history.branch(), earlier.head
            log.permits, log.policies = dict(earlier.permits), list(earlier.policies)
        log.refresh()
        return log

    @property
    def state(self) -> State:
        """What holds after everything read so far."""
        return self.history.state

    def now(self) -> Instant:
        """The later of the clock and the last logged moment: time never runs backwards here."""
        return Instant(max(self.clock.now(), self.state.last_at))

    def refresh(self) -> State:
        """Read whatever others appended since."""
        head = self.store.head()
        for data in self.store.leaves(self.state.size, head.size):
            self._index(self.history.read(data), self.state.size - 1)
        self.head = head
        return self.state

    def append(self, *facts: Fact, actor: str = "governor") -> State:
        """Append facts together or not at all; a crash leaves all of them or none. Raises `Conflict`."""
        leaves = [self._leaf(fact, actor) for fact in facts]
        return self._write(leaves)

    def record(self, *facts: Fact, actor: str = "governor") -> State:
        """Append what happened and does not depend on the head: another writer in between only delays it."""
        for _ in range(RECORD_TRIES_MAX):
            try:
                return self.append(*facts, actor=actor)
            except Conflict:
                self.refresh()
        raise Conflict("the log kept moving while something was to be recorded", help="run the command again")

    def append_signed(self, data: bytes, *, require: Callable[[], None] = lambda: None) -> State:
        """Append a leaf that a person signed; it is checked like any leaf that is read.

        Another writer in between only delays it, as long as `require` raises nothing about what holds by then. One
        dated ahead of the clock is refused: the log's moments never run backwards, so it would age everything else.
        """
        self._require_not_ahead(data)
        for _ in range(RECORD_TRIES_MAX):
            require()
            try:
                return self._write([data])
            except Conflict:
                self.refresh()
        raise Conflict("the log kept moving while a signed statement was to be added", help="run the command again")

    def _require_not_ahead(self, data: bytes) -> None:
        event, now = leaf.decode(data, keyring(self.state)), self.clock.now()
        # No later than the log already is: after a clock was set back, people must not wait until it has caught up.
        if event.at > max(now + SKEW_SECONDS * 1000, self.state.last_at):
            raise UntrustedInput(
                f"the statement is dated {(event.at - now) // 1000} seconds ahead of this machine's clock",
                help="set the clock of the machine where it was signed, and sign again",
            )

    def publish(self) -> State:
        """End the log with a status leaf, sign a checkpoint over it and have it witnessed, as far as witnesses answer.

        A crash in between is made good here. Whether the policy's witnesses were enough, `state.witnessed` says.
        """
        self.publish_status()
        if self.state.witnessed < self.state.published:
            self.witness()
        return self.state

    def publish_status(self) -> None:
        """End the log with a status leaf and sign a checkpoint over it; asks nobody, and so waits for nobody."""
        for _ in range(RECORD_TRIES_MAX):
            if self.state.settled:
                break
            try:
                self.append(self._status)
            except Conflict:
                self.refresh()
        self.sign_published()

    def witness(self) -> tuple[str, ...]:
        """Ask the policy's witnesses to cosign the newest signed head, and record it once they are enough.

        Returns what is missing, in plain words with why somebody is silent; empty when the log has recorded enough.
        Nothing depends on a crash here: cosignatures that were not kept are given again.
        """
        policy, saved = self.state.current, self.store.checkpoint()
        parties = policy.policy.witnesses.parties if policy else ()
        if policy is None or saved is None or not parties:
            return ()
        head = checkpoint.parse_body(saved)
        if self.witnessing is None or head.size != self.state.published:
            return ("the newest head is not signed yet",)
        known, store = self.state.witnessed, self.store
        asked = self.witnessing.cosign(
            saved, parties, size=known, prove=lambda old: store.prove_consistency(old, head.size)
        )
        store.save_checkpoint(head.size, head.root, asked.note)
        cosigned = checkpoint.cosigners(asked.note, self.log_keys, parties)
        counted, lacking = policy.policy.witnesses.counted(cosigned), policy.policy.witnesses.lacking(cosigned)
        if counted and not lacking:
            found = recorded(asked.note, self.log_keys, policy.policy.witnesses)
            if found is None:
                return ("enough cosigned, and their signatures do not fit into one entry",)
            self._record_witnessed(head, *found)
        return (*lacking, *(f"`{name}` is silent: {why}" for name, why in asked.silent.items() if lacking))

    def _record_witnessed(self, head: checkpoint.Checkpoint, counted: tuple[str, ...], data: bytes) -> None:
        """Note in the log that its head was witnessed, unless a newer one was published meanwhile."""
        text = data.decode("utf-8")
        for _ in range(RECORD_TRIES_MAX):
            if self.state.published != head.size or self.state.witnessed >= head.size:
                return
            try:
                self.append(
                    lambda stamp: ev.CheckpointWitnessed(
                        **stamp, size=head.size, root=head.root.hex(), parties=counted, note=text
                    )
                )
            except Conflict:
                self.refresh()

    def shown(self) -> bytes | None:
        """The newest checkpoint that may be shown to others: signed, and witnessed where the policy asks for it."""
        policy = self.state.current
        if policy is None or not policy.policy.witnesses.required:
            return self.store.checkpoint()
        return checkpoint.newest_shown(self.store.checkpoints(), self.log_keys, policy.policy.witnesses)

    @property
    def log_keys(self) -> checkpoint.Keys:
        """The keys that sign this log's heads, over time."""
        project = self.state.project
        invariant(project is not None, "a log that is founded has a key")
        return log_keys(project, self.state.policies) if project else checkpoint.Keys(())

    def renew(self, seconds: float) -> None:
        """Publish a fresh status when the last one is older than this, so that what rests on it still loads."""
        size = self.state.published
        last = leaf.decode(self.store.leaf(size - 1), keyring(self.state, size - 1)).at if size else 0
        if self.now() - last > seconds * 1000:
            self.record(self._status)
            self.publish()

    def sign_published(self) -> None:
        """Sign the checkpoint that ends in the last status, where a crash came between the two."""
        size, saved = self.state.published, self.store.checkpoint()
        if size and (saved is None or checkpoint.parse_body(saved).size < size):
            self._sign(Head(size, self.store.root_at(size)))

    def _leaf(self, fact: Fact, actor: str) -> bytes:
        current = self.state.current
        stamp = Stamp(id=self.ids.new(), at=self.now(), actor=actor, policy=current.digest if current else "")
        signer = self.service
        if self.state.project is not None:
            signer = self._key(keys_of(self.state.project, self.state.policies).service_key, self.service)
        return leaf.encode(fact(stamp), public=signer.public, sign=signer.sign)

    def _write(self, leaves: list[bytes]) -> State:
        # Checked before it is durable: what could not be read back must never be written.
        ahead = self.history.branch()
        events = [ahead.read(data) for data in leaves]
        first = self.state.size
        self.head = self.store.append(leaves, expected=self.head)
        self.history = ahead
        for index, event in enumerate(events, first):
            self._index(event, index)
        return self.state

    def indexes(self) -> Indexes:
        """Where permits and policies stand, for whoever must prove them."""
        return Indexes(dict(self.permits), tuple(self.policies))

    def _index(self, event: ev.Event, index: int) -> None:
        if isinstance(event, ev.PermitIssued):
            self.permits[event.permit] = index
        elif isinstance(event, ev.PolicyAdopted):
            self.policies.append(index)

    def _status(self, stamp: Stamp) -> ev.Event:
        state, current = self.state, self.state.current
        invariant(current is not None, "a status needs a policy")
        return ev.StatusPublished(
            **stamp,
            counter=state.status_counter + 1,
            halted=state.halt is not None,
            revoked=state.revoked,
            policy_version=current.version if current else 0,
            policy_digest=current.digest if current else Digest(""),
            simulated=state.project.demo if state.project else False,
        )

    def _sign(self, head: Head) -> None:
        project, key = self.state.project, self.log_key
        if project is None or key is None:
            invariant(False, "only the governor publishes checkpoints")
            return
        keys = [note.parse_vkey(vkey) for vkey in keys_of(project, self.state.policies, head.size).log_keys]
        first = [self._key(each.public, key) for each in keys if each.kind == note.ED25519]
        second = [self._key(each.public, key) for each in keys if each.kind == note.ML_DSA]
        said = checkpoint.Checkpoint(project.origin, head.size, head.root)
        made = checkpoint.sign(said, *first, at=self.now(), second=second)
        self.store.save_checkpoint(head.size, head.root, made)

    def holds(self, keys: GovernorKeys) -> bool:
        """Whether the governor could go on under these keys; what they leave open is the founding's, which it has."""
        named = (keys.service_key, *map(public_of, keys.log_keys))
        known = (self.service.public, self.log_key.public if self.log_key else "")
        return all(not public or public in known or self.find(public) is not None for public in named)

    def _key(self, public: str, ours: K) -> K | note.Signer:
        """The key in force: the one in hand, or another of the governor's."""
        found = ours if ours.public == public else self.find(public)
        if found is None:
            raise UntrustedInput(
                f"the governor's key in force, `{public[:60]}`, is not here; nobody would accept another's signature",
                help="restore the service and log keys of this project",
            )
        return found


def _still_stands(store: LogStore, head: Head) -> bool:
    return head.size <= store.head().size and store.root_at(head.size) == head.root
