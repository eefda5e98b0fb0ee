"""Generated histories: whatever could be appended to a log, wise or not, kept only where the fold accepts it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from keyturn.core import events as ev
from keyturn.core.errors import TamperDetected
from keyturn.core.policy import Threshold
from keyturn.core.terms import Digest
from tests.core.examples import HOUR, SERVICE_KEY, Story, digest, document, gate, key, looped, person, plan_of

PEOPLE = ("ada", "ben", "cyd")
ROLES = ("safety", "engineering", "board")
VERDICTS = ("CLEAR", "CLEAR", "CLEAR", "TRIP", "UNDECIDED")
TIERS = ("T3", "T3", "T3", "T2", "T1")


def _stricter() -> dict[str, Any]:
    text = document(pace={"unaudited_max": 1}, freshness={"evidence_seconds": 600, "permit_seconds": 60})
    text["thresholds"][0] |= {"line": 0.4}
    text["gates"][2] = gate("release", 0, safety=1, engineering=1)
    return text


def _separate() -> dict[str, Any]:
    text = document()
    text["project"]["separate_warrant"] = True
    return text


def _bare() -> dict[str, Any]:
    text = document(people=[person("ada", "safety", "board", keys=2), person("ben", "safety", "engineering")])
    text["thresholds"] = text["thresholds"][:1]
    text["gates"] = [gate("train", 0, safety=1), gate("release", 0, safety=2), gate("resume", 0, board=1, safety=1)]
    return text


def _demo() -> dict[str, Any]:
    text = document(people=[person(who, "safety", "engineering", kind="simulated") for who in PEOPLE])
    text["project"]["demo"] = True
    return text


def _claiming() -> dict[str, Any]:
    text = document()
    text["thresholds"].append(
        {"id": "honest", "kind": "claim", "suite": "strength", "metric": "score", "margin": 0.1, "lifetime_error": 0.1}
    )
    return text


def _handed_over() -> dict[str, Any]:
    """Other people, another key of ada's, and keys of the governor's, of which one was a person's elsewhere."""
    people = [person("ada", "safety", "board", keys=2), person("ben", "safety"), person("dot", "engineering", "safety")]
    people[0]["keys"] = people[0]["keys"][1:]
    return document(people=people, governor={"service_key": key("next-service")})


POLICIES = {
    "plain": document(),
    "stricter": _stricter(),
    "separate": _separate(),
    "bare": _bare(),
    "demo": _demo(),
    "claiming": _claiming(),
    "looped": looped(),
    "handed over": _handed_over(),
}
FOUNDING = ("plain", "stricter", "separate", "bare", "demo", "claiming", "looped")
ADOPTED = (*FOUNDING, "handed over")

MUTATIONS: tuple[dict[str, Any], ...] = (
    *({},) * 14,
    {"gate": "train"},
    {"genesis": digest("elsewhere")},
    {"origin": "else.example/log"},
    {"lineage": "other"},
    {"policy": digest("other policy")},
    {"policy_version": 9},
    {"evidence_index": 1},
    {"evidence_index": 9999},
    {"not_before": 4_000_000_000_000},
    {"not_after": 1},
    {"artifact": digest("other bytes")},
    {"level": 7},
    {"key": SERVICE_KEY},
    {"key": key("ada-1")},
    {"key": key("next-service")},
    {"key": key("nobody-0")},
)
SEALINGS: tuple[dict[str, Any], ...] = (
    *({},) * 9,
    {"level": 1},
    {"gate": "amend"},
    {"request": "IssueWarrant"},
    {"candidate": {"name": "c1", "root": digest("r0")}},
    {"not_after": 1},
)
REQUESTS = ("FoundLineage", "AdoptPolicy", "IssueWarrant", "ResumeLoop", "PublishGeneration", "TuneGeneration")


@functools.cache
def _plan(threshold: Threshold) -> ev.Document:
    return plan_of(threshold).to_json()


@dataclass
class Teller:
    """Tells a story by numbers: each number of a step picks what happens and to whom."""

    story: Story = field(default_factory=Story)

    def tell(self, verb: str, a: int, b: int, c: int) -> None:
        """Let something happen, unless it could not."""
        before = self.story.copy()
        try:
            getattr(self, f"_{verb}")(a, b, c)
        except TamperDetected:
            self.story = before

    def begin(self, number: int) -> None:
        self.story.founded(POLICIES[FOUNDING[number % len(FOUNDING)]])

    def _candidate(self, number: int) -> str:
        names = list(self.story.state.candidates)
        return names[-1 - (0, 0, 0, 0, 1)[number % 5] % len(names)] if names else ""

    def _dossier(self, number: int) -> Digest | None:
        known = [d.digest for d in self.story.state.dossiers.values()]
        return known[-1 - (0, 0, 0, 0, 0, 1, 1, 2, 3)[number % 9] % len(known)] if known else None

    def _found(self, a: int, b: int, c: int) -> None:
        if self.story.state.lineage is None:
            self.story.lineage()

    def _train(self, a: int, b: int, c: int) -> None:
        self.story.warrant(candidates=1 + a % 3, ceiling=(1, 1, 1, 0)[b % 4], by=PEOPLE[c % 2])

    def _propose(self, a: int, b: int, c: int) -> None:
        lineage = self.story.state.lineage
        if lineage is None or self.story.state.warrant is None:
            return
        name = f"c{len(self.story.state.candidates) + 1}"
        self.story.candidate(name, root=("", "", "", f"r{a % 3}", "founder")[b % 5], tier=TIERS[c % 5])

    def _run(self, a: int, b: int, c: int) -> None:
        """A loop runs: batches of programs, most of them well judged; one leaves, which may not have been admitted."""
        if self.story.state.lineage is None or self.story.state.warrant is None:
            return
        self.story.begun(TIERS[c % 5])
        self._batches(a, b, c)
        name, program = f"c{len(self.story.state.candidates) + 1}", ("p0", "p0", "p1", "p2", "p9")[b % 5]
        file: ev.Document = {"name": "subject.py", "digest": digest(program), "bytes": 100}
        extra: ev.Document = {"name": "notes.txt", "digest": digest("notes"), "bytes": 1}
        self.story.produced(name, files=[file, extra] if a % 9 == 8 else [file])

    def _batches(self, a: int, b: int, c: int) -> None:
        conduct = {"p1": ("score_must_be_a_number", "conduct_must_be_clean")[b % 2]}
        self.story.judged("p0", "p2", refused=conduct, usd=(0.5, None)[a % 2], lost=a % 3)
        if c % 3:
            also = ((), ("p1",), ("p2", "p3"))[c % 3]
            self.story.judged(*also, refused={"p4": "program_must_run"}, closing=bool(b % 4))
        if c % 7 == 6:
            self.story.judged(refused={"p0": "conduct_must_be_clean"}, closing=True)

    def _judge(self, a: int, b: int, c: int) -> None:
        """A batch out of turn, or of a step that has ended."""
        number = len(self.story.state.attempts)
        if number:
            row: ev.Document = {"program": digest(f"p{a}"), "verdict": "admitted", "rules": [], "evidence": ""}
            said: dict[str, Any] = {"attempt": 1 + a % number, "batch": 1 + b % 3, "programs": (row,) * (1 + c % 2)}
            used: ev.Document = {"programs": 1 + c % 3, "wall_seconds": 1.5, "requests": 0, "tokens": 0, "usd": 0.0}
            self.story.add(ev.ProgramsJudged, **said, used=used, lost=c % 4, closing=bool(a % 2))

    def _try(self, a: int, b: int, c: int) -> None:
        current, name = self.story.state.current, self._candidate(a)
        if current is None or not name:
            return
        thresholds = current.policy.thresholds
        for threshold in thresholds if c % 3 else thresholds[:1]:
            self._tried(name, threshold, VERDICTS[(b + len(threshold.id)) % 5], TIERS[c % 5])

    def _tried(self, name: str, threshold: Threshold, verdict: str, tier: str) -> None:
        story, trial = self.story, f"{name}/{threshold.id}"
        if trial not in story.state.trials:
            story.add(ev.TrialPlanned, trial=trial, candidate=name, threshold=threshold.id, plan=_plan(threshold))
        story.attest(f"trial:{name}:{threshold.id}", tier)
        read = story.state.trials[trial].read
        story.add(ev.TrialEnded, trial=trial, verdict=verdict, items=read)
        said = {"items": read, "estimate": 0.0, "low": 0.0, "high": 1.0, "charge": 1, "bank": digest("bank")}
        about = {"candidate": name, "root": story.state.candidates[name].root, "threshold": threshold.id}
        story.add(ev.EvidenceRecorded, trial=trial, verdict=verdict, **said, **about)

    def _raise(self, a: int, b: int, c: int) -> None:
        name = self._candidate(a)
        self.story.add(ev.LevelRaised, lineage="toy", candidate=name, threshold="strong", level=b % 2)

    def _seal(self, a: int, b: int, c: int) -> None:
        name = self._candidate(a)
        if name:
            text = {**self.story.release_text(name), **SEALINGS[b % len(SEALINGS)]}
            self.story.sealed(text, actor="person:ada" if c % 9 == 8 else "governor")

    def _ask(self, a: int, b: int, c: int) -> None:
        halt = self.story.state.halt
        body: ev.Document = {"halt": halt.id if halt else ""} if b % 4 else {"halt": "h-0"}
        self.story.seal(REQUESTS[a % len(REQUESTS)], body)

    def _sign(self, a: int, b: int, c: int) -> None:
        dossier = self._dossier(a)
        if dossier is not None:
            who, role = PEOPLE[b % 3], ROLES[(b // 3) % 3]
            index = self.story.state.dossiers[dossier].index
            edges: tuple[dict[str, Any], ...] = (
                {},
                {"evidence_index": index},
                {"evidence_index": index + 1},
                {"not_after": self.story.at + 1000},
            )
            self.story.approve(dossier, who, role, **{**MUTATIONS[c % len(MUTATIONS)], **edges[a % 4]})

    def _signall(self, a: int, b: int, c: int) -> None:
        dossier = self._dossier(a)
        ways = (("ada", "safety"), ("ben", "safety"), ("cyd", "engineering"), ("ada", "board"), ("ben", "engineering"))
        for who, role in ways[: 1 + b % 5]:
            if dossier is not None:
                self.story.approve(dossier, who, role)

    def _refuse(self, a: int, b: int, c: int) -> None:
        dossier = self._dossier(a)
        if dossier is not None:
            who, role = (("ada", "safety"), ("ben", "safety"), ("cyd", "engineering"), ("cyd", "safety"))[b % 4]
            self.story.approve(dossier, who, role, refuse=True, **MUTATIONS[c % len(MUTATIONS)])

    def _attest(self, a: int, b: int, c: int) -> None:
        number = len(self.story.state.attempts)
        self.story.attest(f"improve:{number}", TIERS[b % 5], ("weak",) if c % 5 == 4 else ())

    def _incident(self, a: int, b: int, c: int) -> None:
        name = self._candidate(a) if b % 2 else ""
        kind = ("decoy", "drift-beyond-limit", "forged-claim", "overrun")[a % 4]
        facts: ev.Document = {"programs": [digest(f"p{b % 4}"), digest("code")][: b % 3]} if c % 4 == 3 else {}
        said = {"incident": f"i-{len(self.story.events)}", "kind": kind, "summary": "", "facts": facts}
        event = self.story.event(ev.IncidentOpened, candidate=name, attempt=c % 3, exercise=False, **said)
        self.story.append(event)

    def _halt(self, a: int, b: int, c: int) -> None:
        self.story.halted(proven=bool(b % 3), name=f"h-{a % 3}-{len(self.story.events)}")

    def _look(self, a: int, b: int, c: int) -> None:
        halt = self.story.state.halt
        if halt is not None:
            kind = ev.HaltProven if b % 2 else ev.HaltUnproven
            self.story.add(kind, halt=halt.id, receipt={})

    def _resume(self, a: int, b: int, c: int) -> None:
        halt, dossier = self.story.state.halt, self._dossier(a)
        if halt is not None and dossier is not None:
            self.story.add(ev.LoopResumed, halt=halt.id, dossier=dossier)

    def _release(self, a: int, b: int, c: int) -> None:
        name, lineage = self._candidate(a), self.story.state.lineage
        known = self.story.state.candidates.get(name)
        if known is None or lineage is None or not known.dossier:
            return
        self.story.permit(known.dossier, candidate=name, root=known.root)
        self.story.release(name, known.root, lineage.parent.number + 1)

    def _reject(self, a: int, b: int, c: int) -> None:
        self.story.add(ev.CandidateRejected, candidate=self._candidate(a), findings=())

    def _audit(self, a: int, b: int, c: int) -> None:
        lineage = self.story.state.lineage
        if lineage is not None:
            self.story.audited(lineage.generations[-1 - a % len(lineage.generations)].root)

    def _adopt(self, a: int, b: int, c: int) -> None:
        self.story.adopt(POLICIES[ADOPTED[a % len(ADOPTED)]])

    def _wait(self, a: int, b: int, c: int) -> None:
        self.story.at += (60_000, 600_000, HOUR, 2 * HOUR, 30 * HOUR)[a % 5]

    def _good(self, a: int, b: int, c: int) -> None:
        """The whole trail up to a dossier, as it goes when nothing is wrong; otherwise it would be rare."""
        current = self.story.state.current
        if current is None:
            return
        self._found(a, b, c)
        if self.story.state.warrant is None:
            self.story.warrant(by=PEOPLE[c % 2])
        if current.policy.loop is None:
            self._propose(0, 0, 0)
        else:
            self._run(a, (0, 0, 7)[b % 3], c)
        name = self._candidate(0)
        for number, threshold in enumerate(current.policy.thresholds):
            if number == 0 and a % 4 == 3:
                self._seal(0, 0, c)  # too early: what is learnt later was not signed for
            verdict = (
                "TRIP" if threshold.kind == "claim" or (threshold.kind == "capability" and b % 3 == 0) else "CLEAR"
            )
            self._tried(name, threshold, verdict, "T3")
        if b % 5 == 4 and self.story.state.project and not self.story.state.project.demo:
            self._adopt(c % 3, 0, 0)  # the trials answered what the policy before asked
        if a % 4 != 3:
            self._seal(0, 0, c)
        if c % 3:
            self._signall(0, a, 0)

    def _request(self, a: int, b: int, c: int) -> None:
        """Something else is asked for and signed."""
        self._ask((0, 2, 3, 3, 4)[a % 5], 1, 0)
        self._signall(0, b, 0)


VERBS = (
    *("good",) * 4,
    *("request",) * 4,
    *("refuse",) * 2,
    *("sign",) * 3,
    *("signall",) * 2,
    *("seal",) * 2,
    *("release",) * 2,
    *("run",) * 2,
    *("ask", "train", "propose", "try", "raise", "found", "attest", "incident", "halt", "look", "judge"),
    *("resume", "reject", "audit", "adopt", "wait"),
)
STEP = st.tuples(st.sampled_from(VERBS), st.integers(0, 8), st.integers(0, 13), st.integers(0, 29))


RUNS = st.tuples(
    st.sampled_from((*("good",) * 4, *("incident",) * 2, "run", "judge", "signall", "release", "seal", "request")),
    st.integers(0, 8),
    st.integers(0, 13),
    st.integers(0, 29),
)
"""What happens where a loop of somebody else's makes the candidates."""


@st.composite
def stories(draw: st.DrawFn, steps_max: int = 18, *, founding: str = "", step: st.SearchStrategy[Any] = STEP) -> Story:
    """A history of up to `steps_max` happenings, under the policy `founding` or under any."""
    teller = Teller()
    teller.begin(FOUNDING.index(founding) if founding else draw(st.integers(0, len(FOUNDING) - 1)))
    for verb, a, b, c in draw(st.lists(step, min_size=3, max_size=steps_max)):
        teller.tell(verb, a, b, c)
    return teller.story


def nothing(event: ev.Event) -> ev.Event:
    """A fact of the same moment that says nothing, to stand where another was taken out: places keep their numbers."""
    body: ev.Document = {"type": "SandboxAttested", "purpose": "nothing", "tier": "T0", "facts": {}, "problems": []}
    return ev.from_json({**body, "id": event.id, "at": event.at, "actor": event.actor, "policy": event.policy})


def without(story: Story, index: int) -> list[ev.Event]:
    """The events of the story, one of them taken out."""
    return [nothing(event) if number == index else event for number, event in enumerate(story.events)]
