"""Everything a door can ask for, wired: the only place that knows every adapter.

Doors (`cli`, later `web`) call this and nothing below it. Each function reads, lets the flow act, and returns plain
values; refusals come back as values or as errors that say who is at fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from keyturn.app import disclosing
from keyturn.app.copies.record import known
from keyturn.app.disclosing import ClockRow
from keyturn.app.operating import freezing, opening
from keyturn.app.operating.asking import laid_first
from keyturn.app.operating.opening import HOME
from keyturn.app.policies import person_of, policy_of
from keyturn.app.reasons.reading import Reader
from keyturn.app.reasons.signing import Signing, Typed, typed
from keyturn.app.verifying import Replay, verify_store
from keyturn.app.wiring import FileLatch, KeySigner, NetworkWitnesses, RandomIds, SystemClock, own_keys
from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.agenda import Step, next_step
from keyturn.core.bounds import NO_BOUNDS, Bounds
from keyturn.core.errors import MalformedInput
from keyturn.core.policy import Person
from keyturn.core.state import Dossier, Freeze, State
from keyturn.core.terms import Digest, Instant
from keyturn.flow import approval as approvals
from keyturn.flow import audit as audits
from keyturn.flow import halt as halts
from keyturn.flow import incident as incidents
from keyturn.flow import permit as permits
from keyturn.flow import warrant as warrants
from keyturn.flow.dossier import seal_other
from keyturn.flow.governor import Governor, Grown
from keyturn.flow.log import Log
from keyturn.flow.run import is_for_others
from keyturn.flow.run import run as run_flow
from keyturn.ledger.blobs.store import BlobStore
from keyturn.ledger.check import require_continued
from keyturn.ledger.commit.states import EntryState, Reach
from keyturn.ledger.history import History
from keyturn.ledger.stores.port import LogStore
from keyturn.verify import trust as trusts
from keyturn.wire import approval as approval_wire
from keyturn.wire import people_statements as people_wire

POLICY = "keyturn.toml"
WAIT_SECONDS = 1.0
Tell = Callable[[str], None]

_read_before: dict[Path, Log] = {}
"""What this process has read and checked of each project's log; the root in the store says whether it still holds."""


@dataclass(frozen=True, slots=True)
class Head:
    """How far the log has come and how much of it is published and, where the policy asks for it, witnessed."""

    size: int
    root_hex: str
    published: int
    witnessed: int

    def state_of(self, index: int) -> EntryState:
        """How far the entry with this index has come."""
        return Reach(self.size, self.published, self.witnessed).state_of(index)


def open_project(root: Path | None, *, whole: bool = True) -> Project:
    """The project in this folder, or the nearest one upwards from the current folder.

    One that need not be `whole` may have lost its log: whoever halts is asked for nothing but the folder.
    """
    start = (root or Path.cwd()).absolute()
    places = [start] if root else [start, *start.parents]
    for place in places:
        if opening.is_founded(place) if whole else (place / HOME).is_dir():
            return Project(place)
    raise MalformedInput(
        f"there is no Keyturn project in `{start}`",
        help="`keyturn init --as PERSON` founds one; `--project DIR` names one elsewhere",
    )


@dataclass(frozen=True, slots=True)
class Project:
    """A founded project on disk."""

    root: Path

    @property
    def home(self) -> Path:
        """The governor's own folder."""
        return self.root / HOME

    @property
    def policy_path(self) -> Path:
        """The policy file that people edit; what counts is the one that was adopted."""
        return self.root / POLICY

    @property
    def blobs(self) -> BlobStore:
        """What entries name without saying it."""
        return BlobStore(self.home / "blobs")

    def store(self, *, unchecked: bool = False) -> LogStore:
        """The log's rows, wherever the operation says that they lie."""
        return opening.open_log(self.root, unchecked=unchecked)

    @contextmanager
    def opened(self, already: LogStore | None = None) -> Iterator[Log]:
        """The log, read and checked from its first leaf, with the keys of this account; on a store that is open.

        Raises `TamperDetected` where it lacks what this project's own trust file remembers: an older copy put back.
        """
        with self.store() if already is None else nullcontext(already) as store:
            service = KeySigner.open(self.home / "service.key" / "service.json", "service")
            trust = trusts.read(self.home / "trust.json")
            require_continued(store, size=trust.seen.size, root=trust.seen.root)
            log_key = KeySigner.open(self.home / "log.key" / "log.json", trust.founded.origin)
            log = Log.open(
                store,
                service=service,
                log_key=log_key,
                clock=SystemClock(),
                ids=RandomIds(),
                earlier=_read_before.get(self.root),
                find=own_keys(self.home, trust.founded.origin),
            )
            log.witnessing = laid_first(NetworkWitnesses(), self.root, log)
            yield log
            _read_before[self.root] = log

    def logged(self) -> State:
        """What holds now, exactly as the log says it."""
        with self.opened() as log:
            return log.state

    def state(self) -> State:
        """What holds now, as people read it: with the words that entries withhold, where they are at hand."""
        state = self.logged()
        return self.reader(state).state(state)

    def reader(self, state: State) -> Reader:
        """What puts back the words that entries withhold."""
        return Reader(self.blobs, state.erased)

    def head(self) -> Head:
        """How far the log has come."""
        with self.opened() as log:
            return Head(log.head.size, log.head.root.hex(), log.state.published, log.state.witnessed)

    def entries(self, after: int, limit: int) -> tuple[tuple[int, ev.Event], ...]:
        """Events by index, from `after` on, at most `limit`."""
        with self.store() as store:
            history, found = History(), []
            for index, data in enumerate(store.leaves(0, min(after + limit, store.head().size))):
                event = history.read(data)
                if index >= after:
                    found.append((index, event))
            return tuple(found)

    def replay(self, tell: Tell) -> Replay:
        """Decide everything again, from the first leaf."""
        with self.store() as store:
            return verify_store(store, trust=self.home / "trust.json", tell=tell)

    @contextmanager
    def governing(self, tell: Tell, *, standby: bool = False, grown: Grown | None = None) -> Iterator[Governor]:
        """The governor of this project: the only one; `standby` waits until the place is free."""
        from keyturn.app.operating.governing import governing

        with governing(self, tell, standby=standby, grown=grown) as governor:
            yield governor

    def run(
        self,
        *,
        shadow: bool = False,
        wait: bool = False,
        standby: bool = False,
        tell: Tell = lambda _: None,
        grown: Grown | None = None,
        founder: Mapping[str, bytes] | None = None,
    ) -> Step:
        """Run the loop until only people can go on; `wait` waits for them too, `standby` waits for its turn first.

        `grown` hears of each block of a trial. A loop of others, where one makes the candidates, is not run here.
        """
        with self.governing(tell, standby=standby, grown=grown) as governor:
            if shadow:
                from keyturn.flow.shadow import run_shadow

                return run_shadow(governor)
            step = run_flow(governor, founder=founder, stop=lambda step: is_for_others(governor.state, step))
            told: Step | None = None
            while wait and not isinstance(step, agenda.AwaitWarrant | agenda.Improve):
                if type(told) is not type(step):
                    tell("waits for people: `keyturn status` in another terminal says whom")
                time.sleep(WAIT_SECONDS)
                told, step = step, run_flow(governor, stop=lambda step: is_for_others(governor.state, step))
            return step

    def halt(self, *, by: str, reason: str) -> ev.Document:
        """Stop everything: through the governor's door, or, when none answers, by our own hand."""
        from keyturn.app.operating.halting import halt

        return halt(self, by=by, reason=reason)

    def drill(self, *, by: str) -> ev.Document:
        """Measure a halt without harm to what runs; see `halting.drill`."""
        from keyturn.app.operating.halting import drill

        return drill(self, by=by)

    def copies(self) -> int:
        """How many loaded copies are known on this machine."""
        return known(self.home / "copies")

    def freeze(self, *, by: str, reason: str, minutes: float) -> ev.Document:
        """Hold everything still, so that people can look; see `freezing.freeze`."""
        return freezing.freeze(self, by=by, reason=reason, minutes=minutes)

    def thaw(self, *, by: str) -> ev.Document:
        """Let everything go on before the bound of the freeze; see `freezing.thaw`."""
        return freezing.thaw(self, by=by)

    def look(self) -> ev.Document:
        """What runs sealed now, and whether it is held still."""
        return freezing.look(self)

    def frozen(self) -> Freeze | None:
        """The freeze that holds everything still on this machine, with people's words."""
        return freezing.standing(self)

    def decide(self, dossier: str, who: Signing, *, decision: str, reason: str) -> None:
        """Approve or refuse the dossier with this digest prefix, with the person's own key in its own process."""
        with self.opened() as log:
            sealed = self.find_dossier(log.state, dossier)
            person = person_of(log.state, who.person)
            role = who.role or approvals.role_for(log.state, sealed, person)
            self._sign(log, sealed.digest, who, person, role, decision=decision, said=self.typed(reason))

    @staticmethod
    def find_dossier(state: State, prefix: str) -> Dossier:
        """The dossier whose digest begins so, or that is about the candidate named so."""
        plain = prefix.removeprefix("sha256:")
        fitting = [d for d in state.dossiers.values() if d.digest[7:].startswith(plain)] if plain else []
        named = state.candidates.get(prefix)
        if named and named.dossier:
            fitting = [state.dossiers[named.dossier]]
        if len(fitting) != 1:
            names = ", ".join(d.digest[7:15] for d in (fitting or state.dossiers.values()))
            raise MalformedInput(f"`{prefix}` names {len(fitting)} dossiers; one is expected", help=f"known: {names}")
        return fitting[0]

    def _sign(
        self, log: Log, digest: Digest, who: Signing, person: Person, role: str, *, decision: str, said: Typed
    ) -> None:
        terms = approvals.terms(log, digest, person=person, role=role, decision=decision, reason=said.reference)
        public, signature = who.sign(person.id, approval_wire.message(terms), said)
        approvals.give(log, terms, public=public, sign=lambda _: signature, keep=said.keep)

    def approve(self, log: Log, digest: Digest, who: Signing, said: Typed) -> None:
        """Sign for a sealed dossier in the role named, or the first that helps it."""
        person = person_of(log.state, who.person)
        role = who.role or approvals.role_for(log.state, log.state.dossiers[digest], person)
        self._sign(log, digest, who, person, role, decision="approve", said=said)

    def typed(self, reason: str) -> Typed:
        """What somebody typed, for an entry that only refers to it."""
        return typed(self.blobs, reason)

    def give_warrant(
        self, who: Signing, *, candidates: int, level_ceiling: int, hours: float, reason: str, loop: Bounds = NO_BOUNDS
    ) -> str:
        """Ask for leave to train, sign for it, and issue it if that was enough; returns its id, or nothing yet."""
        with self.opened() as log:
            person_of(log.state, who.person)
            digest = warrants.waiting(next_step(log.state, log.now()), loop) or warrants.ask(
                log, policy_of(log.state), candidates=candidates, level_ceiling=level_ceiling, hours=hours, loop=loop
            )
            self.approve(log, digest, who, self.typed(reason))
            step = next_step(log.state, log.now())
            if not isinstance(step, agenda.Grant):
                return ""
            warrants.grant(log, step)
            return log.state.warrants[-1].id

    def resume(self, who: Signing, *, reason: str) -> bool:
        """Sign for lifting the standing halt; lifts it when the quorum is met."""
        with self.opened() as log:
            halt = log.state.halt
            if halt is None:
                raise MalformedInput("no halt stands; there is nothing to resume", help="`keyturn status`")
            step = next_step(log.state, log.now())
            if isinstance(step, agenda.Publish):
                step = next_step(log.publish(), log.now())
            asked = step.dossier if isinstance(step, agenda.Halted) else None
            digest = asked.digest if asked else seal_other(log, "ResumeLoop", {"halt": halt.id, "reason": halt.reason})
            self.approve(log, digest, who, self.typed(reason))
            step = next_step(log.state, log.now())
            if isinstance(step, agenda.Resume):
                halts.resume(log, FileLatch(self.home / "halt.latch"), step)
                log.publish()
            return log.state.halt is None

    def audit(self, who: Signing, *, root: str | None, reason: str) -> None:
        """Record a person's signed review of a generation, the newest unless named."""
        with self.opened() as log:
            lineage = log.state.lineage
            if lineage is None:
                raise MalformedInput("there is no generation to audit yet", help="`keyturn status`")
            fitting = [
                g for g in lineage.generations if root is None or g.root[7:].startswith(root) or g.candidate == root
            ]
            if not fitting:
                raise MalformedInput(f"`{root}` is not a generation", help="`keyturn lineage show`")
            person = person_of(log.state, who.person)
            said, role = self.typed(reason), who.role or person.roles[0]
            terms = audits.review(log, fitting[-1], person=person, role=role, reason=said.reference)
            public, signature = who.sign(person.id, people_wire.AUDIT.message(terms), said)
            audits.audit(log, terms, public=public, sign=lambda _: signature, keep=said.keep)
            log.publish()

    def aware(self, who: Signing, *, incident: str, moment: str, at: Instant | None, reason: str) -> None:
        """Record a person's signed moment for an incident; clocks start from it."""
        with self.opened() as log:
            person, said, moment_at = person_of(log.state, who.person), self.typed(reason), at or log.now()
            terms = incidents.awareness(
                log, incident, moment, moment_at=moment_at, person=person, reason=said.reference
            )
            public, signature = who.sign(person.id, people_wire.AWARENESS.message(terms), said)
            incidents.aware(log, terms, public=public, sign=lambda _: signature, keep=said.keep)

    def adopt_policy(self, who: Signing, *, reason: str) -> bool:
        """Adopt the policy file: at once when it only tightens, else once everybody whom it needs has signed."""
        from keyturn.app.amending.adopting import adopt

        return adopt(self, who, reason=reason)

    def adoption_lacks(self) -> tuple[str, ...]:
        """Who still has to sign for the policy file, and in which capacity; nothing where nobody was asked yet."""
        from keyturn.app.amending.adopting import lacks

        return lacks(self)

    def clocks(self, incident: str) -> tuple[ClockRow, ...]:
        """The legal clocks of an incident for this project, and the regimes that do not apply and why."""
        state = self.state()
        return disclosing.clocks(state, disclosing.find_incident(state, incident))

    def draft(self, incident: str) -> str:
        """The incident report as far as the log can fill it."""
        state = self.state()
        return disclosing.draft(state, disclosing.find_incident(state, incident))

    def bundle(self, permit: str, path: Path, *, old_size: int = 0) -> int:
        """Write a permit's bundle under a fresh checkpoint, as `permits.handed` makes it; returns its size in bytes."""
        with self.opened() as log:
            data = permits.pack(permits.handed(log, permit, old_size=old_size))
        path.write_bytes(data)
        return len(data)

    def revoke(self, permit: str, *, by: str, reason: str) -> None:
        """End a permit and publish that; anybody who can reach the governor's folder may, as with a halt."""
        with self.opened() as log:
            if permit not in log.state.permits or permit in log.state.revoked:
                raise MalformedInput(f"`{permit}` is not a permit that stands", help="`keyturn permit show`")
            said = self.typed(reason[:500])
            said.keep()
            log.record(lambda stamp: ev.PermitRevoked(**stamp, permit=permit, reason=said.reference), actor=by[:100])
            log.publish()

    def write_trust(self, path: Path) -> int:
        """Write the trust file that a loading node pins; all that it has seen is the policy in force.

        One that is there stays as it is, with all that its node has seen; returns how many entries that are.
        """
        own, newest = trusts.read(self.home / "trust.json"), self.logged().policies[-1]
        seen = trusts.Seen(policy_version=newest.version, policy_index=newest.index, policy_digest=newest.digest)
        if path.exists():
            kept = trusts.read(path)
            if kept.genesis != own.genesis:
                message = f"`{path}` is the trust file of `{kept.founded.origin}`, which is another log"
                raise MalformedInput(message, help="name another file")
            return kept.seen.size
        trusts.write(trusts.Trust(own.genesis, own.founded, own.policy, seen), path)
        return 0
