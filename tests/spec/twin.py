"""The slow, obviously right twin of `decide`: every answer is read off the whole list of events, each time anew.

It knows no state, no fold and no rule objects, only the plain data of the log and the promises of the design. Where it
differs from `keyturn.core.decision`, one of the two is wrong about a promise.
"""

from __future__ import annotations

from base64 import b64decode
from itertools import permutations
from typing import Any

Log = list[dict[str, Any]]

WAITS_AT = {
    "FoundLineage": "amend",
    "AdoptPolicy": "amend",
    "EnrolPerson": "amend",
    "LowerLevel": "amend",
    "EraseBlob": "amend",
    "IssueWarrant": "train",
    "ReleaseCandidate": "release",
    "ReplicateGeneration": "replicate",
    "PublishGeneration": "publish",
    "TuneGeneration": "tune",
    "ResumeLoop": "resume",
}
TIERS = ["T0", "T1", "T2", "T3", "T4"]


def held(log: Log, request: str, dossier: str, candidate: str, now: int) -> set[str]:
    """The names of everything that stands between this request and its gate; empty when it clears."""
    now = max([now, *(event["at"] for event in log)])
    gate = WAITS_AT[request]
    if gate in ("replicate", "publish", "tune"):
        return {"gate_must_have_rules"}
    reasons = {
        "gate_must_have_a_row": row(log, gate, candidate) is None,
        "dossier_must_be_unused": not unused(log, dossier, now),
        "dossier_must_fit": not fits(log, request, gate, dossier, candidate),
        "nobody_must_have_refused": refused(log, dossier, now),
        "quorum_must_be_met": not met(log, gate, dossier, candidate, now),
    }
    if gate == "train":
        reasons["halt_must_be_lifted"] = standing(log) is not None
        reasons["lineage_must_be_founded"] = not every(log, "LineageFounded")
    if gate == "resume":
        reasons["halt_must_be_proven"] = not stopped(log, dossier)
    if gate == "release":
        reasons["halt_must_be_lifted"] = standing(log) is not None
        reasons["lineage_must_be_complete"] = not complete(log, candidate)
        reasons["conduct_must_be_clean"] = not clean(log, candidate)
        reasons["warrant_must_cover"] = not covered(log, candidate)
        reasons["sandbox_must_be_tight"] = not tight(log, candidate)
        reasons["evidence_must_cover_thresholds"] = not shown(log, candidate)
        reasons["evidence_must_be_fresh"] = not fresh(log, candidate, now)
        reasons["pace_must_hold"] = not in_pace(log, candidate)
    return {name for name, stands in reasons.items() if stands}


# Looking things up, by going through the whole log


def every(log: Log, *kinds: str, **fields: Any) -> Log:
    """All events of these kinds that say exactly this."""
    return [e for e in log if e["type"] in kinds and all(e[name] == value for name, value in fields.items())]


def only(log: Log, *kinds: str, **fields: Any) -> dict[str, Any] | None:
    """The last such event, if there is one."""
    found = every(log, *kinds, **fields)
    return found[-1] if found else None


def policy(log: Log) -> dict[str, Any] | None:
    """The policy of the day, as text."""
    adopted = only(log, "PolicyAdopted")
    return adopted["document"] if adopted else None


def proposal(log: Log, candidate: str) -> dict[str, Any] | None:
    return only(log, "CandidateProposed", candidate=candidate)


def generations(log: Log) -> Log:
    """The founder and every released candidate, in order."""
    founded = every(log, "LineageFounded")
    return founded and [*founded, *(e for e in every(log, "CandidateReleased") if e["generation"] > 0)]


def reached(log: Log) -> int:
    """The lineage's level: the highest that any released member had reached when it was released; it never falls."""
    levels = [0]
    for index, event in enumerate(log):
        if event["type"] == "CandidateReleased" and event["generation"] > 0:
            levels.append(level(log[:index], event["candidate"]))
    return max(levels)


def level(log: Log, candidate: str) -> int:
    """The duties that apply: those of the lineage, and of every capability line not shown to be above the candidate."""
    levels = [reached(log)]
    levels += [e["level"] for e in every(log, "LevelRaised", candidate=candidate)]
    rules = policy(log)
    for threshold in rules["thresholds"] if rules else []:
        seen = only(log, "EvidenceRecorded", candidate=candidate, threshold=threshold["id"])
        if threshold["kind"] == "capability" and seen and seen["verdict"] != "CLEAR":
            levels.append(threshold["raises_to"])
    return max(levels)


def row(log: Log, gate: str, candidate: str) -> dict[str, Any] | None:
    rules, here = policy(log), level(log, candidate)
    rows = [r for r in (rules or {"gates": []})["gates"] if (r["action"], r["level"]) == (gate, here)]
    return rows[0] if rows else None


def rung(log: Log, candidate: str) -> dict[str, Any] | None:
    rules, here = policy(log), level(log, candidate)
    rungs = [r for r in (rules or {"levels": []})["levels"] if r["id"] == here]
    return rungs[0] if rungs else None


# Promise 3: easy to stop, hard to go


def standing(log: Log) -> dict[str, Any] | None:
    """The first halt that nobody lifted."""
    halts = [e for e in every(log, "HaltRequested") if not every(log, "LoopResumed", halt=e["halt"])]
    return halts[0] if halts else None


def stopped(log: Log, dossier: str) -> bool:
    """A halt stands, it is the one that people sign for, and the last look showed everything dead."""
    halt = standing(log)
    if halt is None:
        return False
    looked = only(log, "HaltProven", "HaltUnproven", halt=halt["halt"])
    sealed = only(log, "DossierSealed", dossier=dossier)
    right = sealed is None or sealed["document"].get("halt") == halt["halt"]
    return looked is not None and looked["type"] == "HaltProven" and right


# Promise 1: no successor without clearance


def complete(log: Log, candidate: str) -> bool:
    """An undecided candidate, made from the present parent, new, and of exactly the declared files."""
    said, members, rules = proposal(log, candidate), generations(log), policy(log)
    if said is None or not members:
        return False
    over = every(log, "CandidateReleased", "CandidateRejected", "CandidateShadowed", candidate=candidate)
    if over or said["parent"] != members[-1]["root"] or any(said["root"] == each["root"] for each in members):
        return False
    declared = {file["name"] for file in rules["subject"]["files"]} if rules else None
    exact = declared is None or declared == {file["name"] for file in said["files"]}
    return exact and looped(log, said)


def looped(log: Log, said: dict[str, Any]) -> bool:
    """From a loop: a program that this very step admitted, and else nothing but the parent's own files."""
    loop = (policy(log) or {}).get("loop")
    if loop is None:
        return True
    made = {file["name"]: file["digest"] for file in said["files"]}
    before = [e["files"] for e in generations(log) if e["type"] == "LineageFounded" and e["root"] == said["parent"]]
    before += [e["files"] for e in every(log, "CandidateProposed", root=said["parent"])]
    kept = {file["name"]: file["digest"] for file in (before[0] if before else [])}
    same = {name: digest for name, digest in made.items() if name != loop["program"]}
    rest = {name: digest for name, digest in kept.items() if name != loop["program"]}
    return same == rest and made.get(loop["program"]) in admitted(log, said["attempt"])


def admitted(log: Log, attempt: int) -> set[str]:
    """Every program whose last verdict let it in, and whose conduct was never in question."""
    rows = [row for event in every(log, "ProgramsJudged", attempt=attempt) for row in event["programs"]]
    last = {row["program"]: row["verdict"] for row in rows}
    caught = {row["program"] for row in rows if "conduct_must_be_clean" in row["rules"]}
    return {name for name, verdict in last.items() if verdict == "admitted"} - caught


def spent(log: Log, warrant: str) -> dict[str, Any]:
    """What every batch of every step under this warrant charged; a price that is unknown once stays unknown."""
    steps = {started["attempt"] for started in every(log, "ImprovementStarted", warrant=warrant)}
    used = [event["used"] for event in every(log, "ProgramsJudged") if event["attempt"] in steps]
    whole = {name: sum(each[name] for each in used) for name in ("programs", "requests", "tokens", "wall_seconds")}
    return {**whole, "usd": None if any(each["usd"] is None for each in used) else sum(each["usd"] for each in used)}


def clean(log: Log, candidate: str) -> bool:
    """No incident about its conduct; two kinds only repeat what its evidence says, and evidence speaks for itself."""
    said = proposal(log, candidate)
    if said is None:
        return True
    named = [*every(log, "IncidentOpened", candidate=candidate), *every(log, "IncidentOpened", attempt=said["attempt"])]
    bytes_of = {file["digest"] for file in said["files"]}
    named += [each for each in every(log, "IncidentOpened") if bytes_of & set(each["facts"].get("programs", []))]
    return all(each["kind"] in ("drift-beyond-limit", "forged-claim") for each in named)


def covered(log: Log, candidate: str) -> bool:
    """The attempt was made under a warrant, and the warrant reaches as high as the candidate."""
    said = proposal(log, candidate)
    started = only(log, "ImprovementStarted", attempt=said["attempt"]) if said else None
    warrants = every(log, "WarrantIssued", warrant=started["warrant"]) if started else []
    return bool(warrants) and level(log, candidate) <= warrants[0]["level_ceiling"]


def tight(log: Log, candidate: str) -> bool:
    said, here = proposal(log, candidate), rung(log, candidate)
    if said is None or policy(log) is None:
        return True
    least = here["sandbox"] if here else "T4"
    tried = {e["threshold"] for e in every(log, "EvidenceRecorded", candidate=candidate)}
    for purpose in [f"improve:{said['attempt']}", *(f"trial:{candidate}:{name}" for name in tried)]:
        seen = only(log, "SandboxAttested", purpose=purpose)
        if seen is None and least != "T0":
            return False
        if seen and (TIERS.index(seen["tier"]) < TIERS.index(least) or seen["problems"]):
            return False
    return True


# Promise 2: doubt holds


def shown(log: Log, candidate: str) -> bool:
    """Every threshold of the day was tried as it stands, every limit cleared, and no claim was shown to be false."""
    rules = policy(log)
    if proposal(log, candidate) is None or rules is None:
        return False
    return all(_shown(log, candidate, threshold) for threshold in rules["thresholds"])


def _shown(log: Log, candidate: str, threshold: dict[str, Any]) -> bool:
    seen = only(log, "EvidenceRecorded", candidate=candidate, threshold=threshold["id"])
    if seen is None:
        return False
    if threshold["kind"] == "limit" and seen["verdict"] != "CLEAR":
        return False
    if threshold["kind"] == "claim" and seen["verdict"] == "CLEAR":
        return False
    planned = only(log, "TrialPlanned", trial=seen["trial"])
    plan = planned["plan"] if planned else {}
    same = ["kind", "suite", "metric"] + (["line", "margin"] if threshold["kind"] != "claim" else [])
    asked = all(plan.get(name) == threshold[name] for name in same)
    about = plan.get("reference") == threshold.get("reference", "")
    return asked and about and plan.get("error", 1.0) <= threshold["lifetime_error"]


def fresh(log: Log, candidate: str, now: int) -> bool:
    rules = policy(log)
    if proposal(log, candidate) is None or rules is None:
        return True
    limit = rules["freshness"]["evidence_seconds"] * 1000
    return all(now - seen["at"] <= limit for seen in every(log, "EvidenceRecorded", candidate=candidate))


# Promise 9: oversight keeps pace


def in_pace(log: Log, candidate: str) -> bool:
    members, here = generations(log), rung(log, candidate)
    if not members:
        return True
    looked_at = {e["root"] for e in every(log, "GenerationAudited")}
    ahead = 0
    for member in reversed(members):
        if member["root"] in looked_at or member is members[0]:
            break
        ahead += 1
    rules = policy(log)
    bound = here.get("unaudited_max", rules["pace"]["unaudited_max"]) if here and rules else 0
    return ahead + 1 <= int(bound)


# Promise 6: what is signed is what ships


def place(log: Log, dossier: str) -> int:
    return next((i for i, e in enumerate(log) if e["type"] == "DossierSealed" and e["dossier"] == dossier), -1)


def unused(log: Log, dossier: str, now: int) -> bool:
    """Sealed, within its window, and nothing came of it yet."""
    if place(log, dossier) < 0:
        return False
    kinds = ("PolicyAdopted", "LineageFounded", "WarrantIssued", "PermitIssued", "LoopResumed", "BlobErased")
    return now < log[place(log, dossier)]["document"]["not_after"] and not every(log, *kinds, dossier=dossier)


def fits(log: Log, request: str, gate: str, dossier: str, candidate: str) -> bool:
    """It is about this request, these bytes, this policy and this level; nothing was learnt after it was sealed."""
    index, adopted = place(log, dossier), only(log, "PolicyAdopted")
    if index < 0:
        return True
    text, said = log[index]["document"], proposal(log, candidate)
    subject = text.get("candidate") or {"name": "", "root": ""}
    later = [e for e in every(log[index:], "EvidenceRecorded") if e["candidate"] == candidate]
    under = {"digest": adopted["digest"], "version": adopted["version"]} if adopted else {}
    return (
        text["request"] == request
        and text["gate"] == gate
        and (candidate in ("", subject["name"]))
        and (said is None or said["root"] == subject["root"])
        and not later
        and text["policy"] == under
        and text["level"] == level(log, candidate)
    )


def counts(log: Log, index: int, now: int) -> bool:
    """A decision counts that an enrolled person signed, with a key of their own, for exactly this, and in time."""
    said, project, adopted = log[index], log[0], only(log, "PolicyAdopted")
    sealed = place(log, said["dossier"])
    text = log[sealed]["document"]
    if adopted is None:
        return False
    people = [p for p in adopted["document"]["people"] if p["id"] == said["person"] and said["role"] in p["roles"]]
    keys = [key for person in people for key in person["keys"] if key["public"] == said["key"]]
    exact = {
        "policy": adopted["digest"],
        "policy_version": adopted["version"],
        "gate": log[sealed]["document"]["gate"],
        "level": text["level"],
        "artifact": (text.get("candidate") or {}).get("root", ""),
        "genesis": project["genesis"],
        "origin": project["origin"],
        "lineage": project["name"],
    }
    return (
        all(said[name] == value for name, value in exact.items())
        and sealed < said["evidence_index"] <= index
        and said["not_before"] <= now < said["not_after"]
        and bool(keys)
        and all(key["kind"] != "simulated" or project["demo"] for key in keys)
        and said["key"] not in (project["service_key"], project["log_key"])
        and said["key"] not in governors(log)
        and not disguised(said["key"], project["service_key"])
        and log[sealed]["actor"] != f"person:{said['person']}"
        and said["person"] not in kept_out(log, text)
    )


def governors(log: Log) -> set[str]:
    """Every key that some policy made the governor's: once its own, never a person's."""
    tables = [adopted["document"].get("governor", {}) for adopted in every(log, "PolicyAdopted")]
    named = {table["service_key"] for table in tables if "service_key" in table}
    return named | {vkey for table in tables for vkey in table.get("log_keys", [])}


# Design section 5: policy n+1 is signed by the thresholds of n and n+1


def agreed(old: dict[str, Any], new: dict[str, Any], level: int, signed: set[Any], approved: set[Any]) -> bool:
    """Nobody's keys or roles change, or every new key signed and some way of seating who agreed fills `amend` anew."""
    before = {(p["id"], k["public"]) for p in old["people"] for k in p["keys"]}
    after = {(p["id"], k["public"]) for p in new["people"] for k in p["keys"]}
    if old["people"] == new["people"]:
        return True
    rows = [row for row in new["gates"] if (row["action"], row["level"]) == ("amend", level)]
    if not rows or not after - before <= signed:
        return False
    willing = sorted({person for person, key in (signed | approved) & after})
    roles = {p["id"]: p["roles"] for p in new["people"]}
    seats = [seat["role"] for seat in rows[0]["quorum"] for _ in range(seat["persons"])]
    ways = permutations(willing, len(seats))
    return any(all(role in roles[who] for who, role in zip(way, seats, strict=True)) for way in ways)


def disguised(key: str, service: str) -> bool:
    """The governor's own key, spelt as the line of an SSH key: its bytes stand somewhere within."""
    return " " in key and b64decode(service) in b64decode(key.split()[1])


def kept_out(log: Log, text: dict[str, Any]) -> set[str]:
    """Under `separate_warrant`: whoever signed anything about the warrant that the candidate was made under."""
    rules = policy(log)
    said = proposal(log, (text.get("candidate") or {}).get("name", ""))
    if text["gate"] != "release" or said is None or not (rules and rules["project"].get("separate_warrant")):
        return set()
    started = only(log, "ImprovementStarted", attempt=said["attempt"])
    warrant = every(log, "WarrantIssued", warrant=started["warrant"])[0] if started else None
    signed = every(log, "ApprovalGiven", "ApprovalRefused", dossier=warrant["dossier"]) if warrant else []
    return {each["person"] for each in signed}


def refused(log: Log, dossier: str, now: int) -> bool:
    """One refusal that counts ends a dossier."""
    refusals = [i for i, e in enumerate(log) if e["type"] == "ApprovalRefused" and e["dossier"] == dossier]
    return any(counts(log, index, now) for index in refusals)


def met(log: Log, gate: str, dossier: str, candidate: str, now: int) -> bool:
    """Some way of seating distinct people fills every seat; all ways are tried."""
    wanted = row(log, gate, candidate)
    if wanted is None or place(log, dossier) < 0:
        return True  # another rule holds the gate then
    signed: dict[str, set[str]] = {}
    for index, event in enumerate(log):
        if event["type"] == "ApprovalGiven" and event["dossier"] == dossier and counts(log, index, now):
            signed.setdefault(event["person"], set()).add(event["role"])
    seats = [seat["role"] for seat in wanted["quorum"] for _ in range(seat["persons"])]
    ways = permutations(sorted(signed), len(seats))
    return any(all(role in signed[who] for who, role in zip(way, seats, strict=True)) for way in ways)
