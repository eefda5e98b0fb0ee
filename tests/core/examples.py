"""A small valid policy and a factory of events that tests of the core and of attacks share.

A `Story` is a log under construction: each method appends the event that its name says and folds it, so that a test
reads like what happened. Nothing here is signed; the digests are real SHA-256 digests of names.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from keyturn.core import betting, trial
from keyturn.core import events as ev
from keyturn.core.approval import artifact_of
from keyturn.core.betting import Process
from keyturn.core.bounds import Bounds, Used
from keyturn.core.decision import RULES, decide, prepare
from keyturn.core.dossier import as_request, other_dossier, release_dossier
from keyturn.core.evolve import evolve
from keyturn.core.finding import Decision, Request
from keyturn.core.policy import Policy, Threshold
from keyturn.core.policy_reading import read_policy
from keyturn.core.programs import Judged
from keyturn.core.state import State
from keyturn.core.terms import NO_DIGEST, Digest, Instant
from keyturn.core.trial import TrialPlan

HOUR = 3_600_000
BEGIN = 1_800_000_000_000
SERVICE_KEY = base64.b64encode(hashlib.sha256(b"service").digest()).decode()
LOG_KEY = base64.b64encode(hashlib.sha256(b"log").digest()).decode()
LOG_VKEY = "toy.example/log+00000000+" + base64.b64encode(b"\x01" + base64.b64decode(LOG_KEY)).decode()


def digest(name: str) -> Digest:
    """The digest of a name, standing for whatever bytes the test means."""
    return Digest("sha256:" + hashlib.sha256(name.encode()).hexdigest())


def key(name: str) -> str:
    """A public key of the right shape that belongs to nobody."""
    return base64.b64encode(hashlib.sha256(b"key " + name.encode()).digest()).decode()


def policy_digest(text: dict[str, Any]) -> Digest:
    """The digest by which a policy is known in a story."""
    return digest(json.dumps(text, sort_keys=True))


FOUNDER = digest("founder")
FILES: tuple[ev.Document, ...] = ({"name": "subject.py", "digest": digest("code"), "bytes": 100},)
GENESIS = digest("genesis")


def person(id: str, *roles: str, keys: int = 1, kind: str = "ed25519") -> dict[str, Any]:
    """A `[[people]]` row; key number 0 of ada is `key("ada-0")`."""
    rows = [{"kind": kind, "public": key(f"{id}-{n}"), "custody": "separate"} for n in range(keys)]
    return {"id": id, "roles": list(roles), "keys": rows}


def gate(action: str, level: int, **persons: int) -> dict[str, Any]:
    """A `[[gates]]` row with a seat for each role named."""
    require = ["lineage", "evidence", "fresh", "pace", "quorum"] if action == "release" else ["quorum"]
    quorum = [{"role": role, "persons": number} for role, number in persons.items()]
    return {"action": action, "level": level, "require": require, "quorum": quorum, "expires_after_seconds": 86_400}


def document(**changes: Any) -> dict[str, Any]:
    """A small valid policy as plain data; `changes` replace whole top-level tables."""
    base: dict[str, Any] = {
        "schema": 1,
        "project": {"name": "toy", "origin": "toy.example/log", "demo": False, "custody_least": "host"},
        "applicability": {"role": "developer", "jurisdictions": ["EU"], "training_flop": 1e12, "revenue_usd": 0},
        "subject": {
            "improve": ["python", "/parent/subject.py", "improve"],
            "answer": ["python", "/candidate/subject.py", "answer"],
            "runtime": "python",
            "founder": FOUNDER,
            "files": [{"name": "subject.py", "bytes_max": 1000}],
        },
        "people": [
            person("ada", "safety", "board", keys=2),
            person("ben", "safety", "engineering"),
            person("cyd", "engineering"),
        ],
        "charter": [{"clause": "be-kind", "text": "Is kind.", "bank": "kindness"}],
        "suites": [suite("kindness", "charter.be-kind.broken"), suite("strength", "score")],
        "levels": [{"id": 0, "sandbox": "T2"}, {"id": 1, "sandbox": "T3", "unaudited_max": 1}],
        "thresholds": [
            {
                "id": "kind",
                "kind": "limit",
                "suite": "kindness",
                "metric": "charter.be-kind.broken",
                "line": 0.5,
                "margin": 0.1,
                "lifetime_error": 0.1,
            },
            {
                "id": "strong",
                "kind": "capability",
                "suite": "strength",
                "metric": "score",
                "line": 0.6,
                "margin": 0.1,
                "lifetime_error": 0.1,
                "raises_to": 1,
            },
        ],
        "gates": [
            gate("train", 0, safety=1),
            gate("train", 1, safety=1),
            gate("release", 0, safety=1),
            gate("release", 1, safety=1, engineering=1),
            gate("resume", 0, safety=1),
            gate("resume", 1, safety=1),
            gate("amend", 0, safety=2),
            gate("amend", 1, safety=2),
        ],
        "pace": {"unaudited_max": 2},
        "lease": {"seconds": 2},
        "sandbox": {"memory_bytes": 1 << 30, "processes_max": 64, "wall_seconds": 120},
        "tripwires": [{"when": "decoy_opened", "do": "halt"}],
        "freshness": {"evidence_seconds": 7200, "permit_seconds": 3600},
        "witnesses": {"required": 0, "allow_unwitnessed": True},
    }
    return copy.deepcopy({**base, **changes})


def looped(**changes: Any) -> dict[str, Any]:
    """The same policy for a loop of somebody else's, whose programs become the one file."""
    text = document(loop={"program": "subject.py", "protect": "nothing", "batch": 5, "program_seconds": 10})
    del text["subject"]["improve"]
    return {**text, **copy.deepcopy(changes)}


def suite(id: str, metric: str) -> dict[str, Any]:
    """A `[[suites]]` row."""
    return {"id": id, "grader": ["python", "grade.py"], "exam": id, "metric": metric, "items_max": 60, "block": 20}


def policy(**changes: Any) -> Policy:
    """The policy that `document(**changes)` says."""
    read = read_policy(document(**changes))
    assert isinstance(read, Policy), read
    return read


def fold(events: Sequence[ev.Event]) -> State:
    """The state after these events."""
    state = State()
    for event in events:
        state = evolve(state, event)
    return state


def plan_of(threshold: Threshold, *, submission: int = 1) -> TrialPlan:
    """The plan of a trial for this threshold, its bank being as large as its budget; a claim claims 0.5 here."""
    claim = threshold.kind == "claim"
    return TrialPlan(
        suite=threshold.suite,
        metric=threshold.metric,
        threshold=threshold.id,
        kind=threshold.kind,
        line=0.5 if claim else threshold.line,
        margin=0.0 if claim else threshold.margin,
        error=betting.error_of_submission(lifetime_error=threshold.lifetime_error, submission=submission),
        bank=digest("bank"),
        bank_items=60,
        clusters=60,
        estimand="population",
        seed=digest("seed"),
        order=digest("order"),
        items=60,
        block_items=20,
        reference=threshold.reference,
    )


@dataclass
class Story:
    """A log under construction; `at` is the moment of the next event."""

    events: list[ev.Event] = field(default_factory=list)
    state: State = field(default_factory=State)
    at: int = BEGIN

    def copy(self) -> Story:
        """The same story so far, to be continued in another way."""
        return Story(list(self.events), self.state, self.at)

    def event(self, kind: type[ev.Event], /, **fields: Any) -> ev.Event:
        """An event with its stamp, not appended."""
        current = self.state.current
        stamp = {"id": f"e{len(self.events)}", "at": Instant(self.at), "actor": "governor"}
        return kind(**{**stamp, "policy": current.digest if current else "", **fields})

    def add(self, kind: type[ev.Event], /, **fields: Any) -> Any:
        """Append an event, a second later than the last."""
        return self.append(self.event(kind, **fields))

    def append(self, event: ev.Event) -> Any:
        """Append this very event."""
        self.state = evolve(self.state, event)
        self.events.append(event)
        self.at += 1000
        return event

    # -- the trail, one stage after the other

    def founded(self, text: dict[str, Any] | None = None) -> Story:
        """The project and policy 1."""
        text = text or document()
        about = text["project"]
        self.add(
            ev.ProjectFounded,
            name=about["name"],
            origin=about["origin"],
            demo=about.get("demo", False),
            log_key=LOG_VKEY,
            service_key=SERVICE_KEY,
            genesis=GENESIS,
        )
        self.adopt(text)
        return self

    def adopt(self, text: dict[str, Any], dossier: str = "") -> Any:
        """The next policy, signed by everyone it names; its digest is that of its text."""
        name = policy_digest(text)
        version = len(self.state.policies) + 1
        signatures = tuple(
            {"person": each["id"], "key": each["keys"][0]["public"], "sig": "unchecked"} for each in text["people"]
        )
        adopted = self.event(
            ev.PolicyAdopted, version=version, digest=name, document=text, signatures=signatures, dossier=dossier
        )
        if version == 1:
            adopted = replace(adopted, policy=name)
        return self.append(adopted)

    def seal(self, request: str, body: ev.Document | None = None, **fields: Any) -> Digest:
        """The dossier of a request other than a release."""
        nonce = f"n{len(self.events)}"
        text = {**other_dossier(self.state, request, body or {}, nonce=nonce, now=Instant(self.at)), **fields}
        return self.sealed(text)

    def sealed(self, text: ev.Document, actor: str = "governor") -> Digest:
        """This dossier."""
        name = digest(json.dumps(text, sort_keys=True))
        self.add(ev.DossierSealed, dossier=name, document=text, actor=actor)
        return name

    def status(self) -> None:
        """A truthful status leaf."""
        state, current = self.state, self.state.current
        assert current is not None
        self.add(
            ev.StatusPublished,
            counter=state.status_counter + 1,
            halted=state.halt is not None,
            revoked=state.revoked,
            policy_version=current.version,
            policy_digest=current.digest,
            simulated=state.project.demo if state.project else False,
        )

    def approval(self, dossier: Digest, who: str, role: str = "safety", *, refuse: bool = False, **fields: Any) -> Any:
        """A decision that counts, unless `fields` say otherwise; not appended."""
        state, current = self.state, self.state.current
        assert current is not None
        kind = ev.ApprovalRefused if refuse else ev.ApprovalGiven
        text = state.dossiers[dossier].document
        said = {
            "id": f"nonce-{len(self.events)}",
            "actor": f"person:{who}",
            "dossier": dossier,
            "gate": text["gate"],
            "level": text["level"],
            "artifact": artifact_of(text),
            "lineage": text["lineage"],
            "genesis": GENESIS,
            "evidence_index": state.size,
            "policy_version": current.version,
            "person": who,
            "role": role,
            "scope": text["scope"],
            "not_before": self.at,
            "not_after": text["not_after"],
            "origin": text["origin"],
            "reason": "read it",
            "key": key(f"{who}-0"),
        }
        return self.event(kind, **{**said, **fields})

    def approve(self, dossier: Digest, who: str, role: str = "safety", **fields: Any) -> Any:
        """A decision that counts, appended."""
        return self.append(self.approval(dossier, who, role, **fields))

    def decide(self, dossier: Digest) -> Decision:
        """What the gate says about this dossier now."""
        return decide(self.state, as_request(self.state.dossiers[dossier]), Instant(self.at))

    def decided(self, dossier: Digest) -> Decision:
        """The same, and logged."""
        said = self.decide(dossier)
        self.add(
            ev.GateDecided,
            gate=said.gate.value,
            dossier=dossier,
            cleared=said.cleared,
            findings=tuple(finding.to_json() for finding in said.findings),
            rules=RULES,
            head=said.head,
        )
        return said

    def lineage(self) -> Story:
        """A founded lineage whose founder is generation 0, all of it cleared."""
        founder: ev.Document = {"name": "founder", "root": FOUNDER, "files": list(FILES)}
        dossier = self.seal("FoundLineage", {"candidate": founder})
        self.approve(dossier, "ada")
        self.approve(dossier, "ben")
        self.decided(dossier)
        self.add(ev.LineageFounded, lineage="toy", root=FOUNDER, files=FILES, dossier=dossier)
        self.permit(dossier, candidate="founder", root=FOUNDER)
        self.release("founder", FOUNDER, 0)
        return self

    def warrant(
        self, candidates: int = 3, ceiling: int = 1, hours: float = 24, by: str = "ada", loop: Bounds | None = None
    ) -> Story:
        """Leave to train, cleared; `loop` bounds a loop of somebody else's."""
        expires_at = self.at + int(hours * HOUR)
        bounds: ev.Document = {"candidates_max": candidates, "level_ceiling": ceiling, "expires_at": expires_at}
        if loop is not None:
            bounds["loop"] = loop.to_json()
        dossier = self.seal("IssueWarrant", {"bounds": bounds})
        self.approve(dossier, by)
        self.decided(dossier)
        self.add(
            ev.WarrantIssued,
            warrant=f"w-{dossier[7:15]}",
            lineage="toy",
            dossier=dossier,
            candidates_max=candidates,
            level_ceiling=ceiling,
            not_before=self.at,
            expires_at=expires_at,
            bounds=loop.to_json() if loop is not None else {},
        )
        return self

    def candidate(self, name: str, *, root: str = "", tier: str = "T3", **claim: float) -> Story:
        """An improve step that yields this candidate from the present parent, under the newest warrant."""
        return self.begun(tier).produced(name, root=root, **claim)

    def begun(self, tier: str = "T3", **fields: Any) -> Story:
        """An improve step from the present parent, under the newest warrant."""
        lineage, warrant, number = self.state.lineage, self.state.warrant, len(self.state.attempts) + 1
        assert lineage is not None
        said: dict[str, Any] = {
            "attempt": number,
            "lineage": "toy",
            "warrant": warrant.id if warrant else "",
            "parent": lineage.parent.root,
            "generation": lineage.parent.number,
            "seed": number,
        }
        self.add(ev.ImprovementStarted, **{**said, **fields})
        self.attest(f"improve:{number}", tier)
        return self

    def judged(
        self,
        *admitted: str,
        refused: Mapping[str, str] | None = None,
        lost: int = 0,
        closing: bool = False,
        **used: Any,
    ) -> Any:
        """A batch of the running step: who was admitted, and by which rule others were refused."""
        bad = refused or {}
        rows = [Judged(digest(name), "admitted", (), digest(f"evidence of {name}")) for name in admitted]
        rows += [Judged(digest(name), "refused", (rule,), digest(f"evidence of {name}")) for name, rule in bad.items()]
        number = len(self.state.attempts)
        return self.add(
            ev.ProgramsJudged,
            attempt=number,
            batch=self.state.attempts[number].batches + 1,
            programs=tuple(row.to_json() for row in rows),
            used=Used(**{"programs": len(rows) + lost, "wall_seconds": 1.0, **used}).to_json(),
            lost=lost,
            closing=closing,
        )

    def produced(self, name: str, *, root: str = "", files: Sequence[ev.Document] = FILES, **claim: float) -> Story:
        """The running step ends with this candidate."""
        lineage, number = self.state.lineage, len(self.state.attempts)
        assert lineage is not None
        self.add(
            ev.ImprovementEnded,
            attempt=number,
            outcome="produced",
            detail="",
            cpu_seconds=1.0,
            wall_seconds=1.0,
            processes_left=0,
            diagnostics="",
        )
        self.add(
            ev.CandidateProposed,
            candidate=name,
            attempt=number,
            lineage="toy",
            parent=lineage.parent.root,
            root=digest(root or name),
            files=tuple(files),
            claim=dict(claim),
        )
        return self

    def attest(self, purpose: str, tier: str = "T3", problems: tuple[str, ...] = ()) -> None:
        """What the kernel enforced on a sandbox."""
        self.add(ev.SandboxAttested, purpose=purpose, tier=tier, facts={}, problems=problems)

    def tried(self, candidate: str, threshold: str, *, value: float = 0.0, tier: str = "T3", **plan: Any) -> str:
        """A whole trial in which every item scores `value`; returns its verdict."""
        self.planned(candidate, threshold, **plan)
        self.attest(f"trial:{candidate}:{threshold}", tier)
        name = f"{candidate}/{threshold}"
        while not trial.finished(self.plan(name), self.process(name)):
            self.block(name, value)
        verdict = self.process(name).verdict
        self.add(ev.TrialEnded, trial=name, verdict=verdict.value, items=self.state.trials[name].read)
        self.evidence(name)
        return verdict.value

    def planned(self, candidate: str, threshold: str, **plan: Any) -> None:
        """The plan of a trial, charged to its submission."""
        lineage, current, root = self.state.lineage, self.state.current, self.state.candidates[candidate].root
        assert lineage is not None
        assert current is not None
        wanted = current.policy.threshold(threshold)
        assert wanted is not None
        charged = lineage.charges.get(threshold, ())
        number = charged.index(root) + 1 if root in charged else len(charged) + 1
        made = replace(plan_of(wanted, submission=number), **plan)
        name = f"{candidate}/{threshold}"
        self.add(ev.TrialPlanned, trial=name, candidate=candidate, threshold=threshold, plan=made.to_json())

    def plan(self, name: str) -> TrialPlan:
        """The logged plan of a trial."""
        return TrialPlan.from_json(self.state.trials[name].plan)

    def process(self, name: str) -> Process:
        """Where the bets of a trial stand."""
        logged = self.state.trials[name].process
        return trial.begin(self.plan(name)) if logged is None else Process.from_json(logged)

    def block(self, name: str, value: float) -> None:
        """The next block of a trial."""
        plan, process = self.plan(name), self.process(name)
        block = trial.next_block(plan, process)
        after = trial.read(plan, process, dict.fromkeys(block.positions, value))
        values = (value,) * (after.n - process.n)
        self.add(ev.TrialAdvanced, trial=name, start=process.n, values=values, faults=(), process=after.to_json())

    def evidence(self, name: str, **fields: Any) -> None:
        """What a finished trial showed."""
        known, plan, process = self.state.trials[name], self.plan(name), self.process(name)
        about = self.state.candidates[known.candidate]
        lineage = self.state.lineage
        assert lineage is not None
        low, high = betting.interval(process, error=0.05, values=known.values)
        said = {
            "candidate": about.name,
            "root": about.root,
            "trial": name,
            "threshold": known.threshold,
            "verdict": known.verdict.value if known.verdict else "UNDECIDED",
            "items": process.n,
            "estimate": round(process.total / process.n, 6) if process.n else 1.0,
            "low": low,
            "high": high,
            "charge": lineage.charges[known.threshold].index(about.root) + 1,
            "bank": plan.bank,
        }
        self.add(ev.EvidenceRecorded, **{**said, **fields})

    def proven(self, name: str, *, strong: bool = False, tier: str = "T3") -> Story:
        """A candidate that cleared its limit, and its capability threshold unless it is `strong`."""
        self.candidate(name, tier=tier)
        self.tried(name, "kind", tier=tier)
        self.tried(name, "strong", value=1.0 if strong else 0.0, tier=tier)
        if strong:
            self.add(ev.LevelRaised, lineage="toy", candidate=name, threshold="strong", level=1)
        return self

    def release_text(self, name: str) -> ev.Document:
        """The document of a release dossier, as the flow would put it together now."""
        candidate = self.state.candidates[name]
        decision = prepare(self.state, Request("ReleaseCandidate", NO_DIGEST, name), Instant(self.at))
        nonce = f"n{len(self.events)}"
        return release_dossier(self.state, candidate, decision, changes={}, nonce=nonce, now=Instant(self.at))

    def dossier(self, name: str, **fields: Any) -> Digest:
        """The release dossier of a candidate; `fields` replace what it says."""
        return self.sealed({**self.release_text(name), **fields})

    def permit(self, dossier: Digest, *, candidate: str, root: Digest, **fields: Any) -> ev.PermitIssued:
        """The permit that a cleared dossier gives."""
        text, project = self.state.dossiers[dossier].document, self.state.project
        assert project is not None
        member = self.state.candidates.get(candidate)
        said = {
            "permit": f"p-{candidate}",
            "dossier": dossier,
            "gate": text["gate"],
            "action": "release",
            "lineage": project.name,
            "candidate": candidate,
            "root": root,
            "files": member.files if member else FILES,
            "level": text["level"],
            "scope": text["scope"],
            "genesis": project.genesis,
            "origin": project.origin,
            "not_before": self.at,
            "not_after": self.at + 7200_000,
            "simulated": project.demo,
        }
        permit: ev.PermitIssued = self.add(ev.PermitIssued, **{**said, **fields})
        return permit

    def release(self, name: str, root: Digest, number: int) -> None:
        """The candidate is a generation now."""
        self.add(ev.CandidateReleased, candidate=name, lineage="toy", root=root, generation=number, permit=f"p-{name}")

    def released(
        self, name: str, *, by: Sequence[tuple[str, str]] = (("ada", "safety"),), strong: bool = False
    ) -> Story:
        """A candidate from its attempt to its release, all of it cleared."""
        self.proven(name, strong=strong)
        dossier = self.dossier(name)
        for who, role in by:
            self.approve(dossier, who, role)
        self.decided(dossier)
        root = self.state.candidates[name].root
        self.permit(dossier, candidate=name, root=root)
        assert self.state.lineage is not None
        self.release(name, root, self.state.lineage.parent.number + 1)
        return self

    def audited(self, root: Digest, who: str = "ada", role: str = "safety", **fields: Any) -> None:
        """A person's review of a generation."""
        said = {
            "id": f"nonce-{len(self.events)}",
            "actor": f"person:{who}",
            "lineage": "toy",
            "root": root,
            "genesis": GENESIS,
            "evidence_index": self.state.size,
            "person": who,
            "role": role,
            "reason": "looked at it",
            "origin": "toy.example/log",
            "key": key(f"{who}-0"),
        }
        self.add(ev.GenerationAudited, **{**said, **fields})

    def halted(self, *, proven: bool = True, name: str = "h-1") -> Story:
        """A halt, and whether everything was seen to be dead."""
        self.add(ev.HaltRequested, halt=name, by="person:ada", reason="looks odd")
        kind = ev.HaltProven if proven else ev.HaltUnproven
        self.add(kind, halt=name, receipt={"state": "STOPPED" if proven else "UNPROVEN"})
        return self


def loop(text: dict[str, Any] | None = None) -> Story:
    """A founded project with a lineage and a warrant, ready to make candidates."""
    return Story().founded(text).lineage().warrant()


def waiting(text: dict[str, Any] | None = None, *, strong: bool = False) -> tuple[Story, Digest]:
    """Candidate `c1`, proven and under its dossier, waiting for people."""
    story = loop(text).proven("c1", strong=strong)
    return story, story.dossier("c1")
