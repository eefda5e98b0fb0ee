"""Read `keyturn.toml`, say by line what is wrong, and adopt a changed one: tightening is free, the rest waits."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.core import events as ev
from keyturn.core.approval import supporters
from keyturn.core.decision import decide
from keyturn.core.dossier import moment, unfit
from keyturn.core.errors import MalformedInput
from keyturn.core.finding import Request
from keyturn.core.keys.adoption import missing
from keyturn.core.policy import Policy
from keyturn.core.policy_contradictions import Problem
from keyturn.core.policy_reading import read_policy
from keyturn.core.state import State
from keyturn.core.terms import NO_DIGEST, Digest, Instant, Json
from keyturn.flow.decided import decided
from keyturn.flow.dossier import seal_other
from keyturn.flow.log import Fact, Log
from keyturn.flow.project import Signed
from keyturn.ledger.history import require_usable
from keyturn.wire import base64, canonical, leaf, signature
from keyturn.wire.digest import sha256

if TYPE_CHECKING:
    from keyturn.core.policy_change import Difference

STEP = re.compile(r"([a-z_]+)(?:\[(\d+)\])?")


class PolicyProblems(MalformedInput):
    """A policy file with mistakes; `rows` holds every one with its line."""

    def __init__(self, path: Path, rows: tuple[tuple[int, Problem], ...]) -> None:
        line, first = rows[0]
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        super().__init__(f"{path.name}:{line}: {first.path}: {first.message}{more}", help=first.help)
        self.rows = rows


def read_file(path: Path) -> Policy:
    """The policy in a file; raises `PolicyProblems` naming line and remedy of every mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise MalformedInput(
            f"the policy `{path}` cannot be read: {fault}", help="`keyturn init` writes one"
        ) from fault
    try:
        document: dict[str, Json] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        said = str(fault)[:200].lower().replace("cannot overwrite a value", "a key stands there twice")
        raise MalformedInput(f"{path.name}: {said}", help="correct the TOML at that line") from fault
    policy = read_policy(document)
    if not isinstance(policy, Policy):
        raise PolicyProblems(path, tuple((line_of(text, problem.path), problem) for problem in policy))
    return policy


def require_adoptable(old: Policy, new: Policy) -> None:
    """Refuse what no adoption can carry over: another project, founder or demo mark, or a key that is none."""
    require_usable(new)
    fixed = (
        ("project", (old.name, old.origin, old.demo), (new.name, new.origin, new.demo)),
        ("founder", old.subject.founder, new.subject.founder),
    )
    for what, before, after in fixed:
        if before != after:
            raise MalformedInput(
                f"the policy's {what} changed; a policy that is adopted later must keep what the founding fixed",
                help="found a new project, or take the change back",
            )


def ask(log: Log, new: Policy, differences: tuple[Difference, ...]) -> Digest:
    """The dossier for adopting this very policy: the open one, or a new one."""
    _require_held(log, new)
    digest, asked = sha256(canonical.encode(new.document)), waiting(log.state, new, log.now())
    if asked is not None:
        return asked
    rows: list[Json] = [{"path": d.path, "effect": d.effect, "why": d.why} for d in differences]
    return seal_other(log, "AdoptPolicy", {"adopts": digest, "differences": rows})


def waiting(state: State, new: Policy, now: Instant) -> Digest | None:
    """The open dossier for adopting this very policy in the place of the present one, if there is one."""
    digest = sha256(canonical.encode(new.document))
    for dossier in state.dossiers.values():
        fits = not unfit(state, dossier, Request("AdoptPolicy", dossier.digest))
        if (
            fits
            and not dossier.used
            and dossier.document.get("adopts") == digest
            and now < moment(dossier, "not_after")
        ):
            return dossier.digest
    return None


def adopt_cleared(log: Log, new: Policy, digest: Digest, signed: Sequence[Signed] = ()) -> bool:
    """Adopt the policy if the `amend` gate clears its dossier and nobody's signature is missing; says whether it did.

    `signed` are the signatures of the new policy's own people; those that do not count are left out.
    """
    good = tuple(each for each in signed if is_signed(log.state, new, digest, each))
    decision = decide(log.state, Request("AdoptPolicy", digest), log.now())
    if not decision.cleared or lacks(log.state, new, digest, good, log.now()):
        return False
    adopt(log, new, decided(decision, digest), dossier=digest, signed=good)
    return True


def adoption_message(state: State, new: Policy, dossier: Digest, person: str) -> bytes:
    """What a person of the new policy signs: this adoption, in this project, as the next one."""
    genesis = state.project.genesis if state.project else NO_DIGEST
    digest, version = sha256(canonical.encode(new.document)), len(state.policies) + 1
    return leaf.adoption_message(genesis, policy=digest, version=version, dossier=dossier, person=person)


def is_signed(state: State, new: Policy, dossier: Digest, said: Signed) -> bool:
    """Whether this is that person's signature with a key that the new policy gives them, as it demands it."""
    person = new.person(said.person)
    key = next((each for each in person.keys if each.public == said.key), None) if person else None
    try:
        raw = base64.decode(said.sig, what="sig")
    except MalformedInput:
        return False
    message = adoption_message(state, new, dossier, said.person)
    return key is not None and signature.verify(key.public, message, raw, touch=key.touch, pin=key.pin)


def lacks(state: State, new: Policy, digest: Digest, signed: Sequence[Signed], now: Instant) -> tuple[str, ...]:
    """What the new policy's own people have yet to do; nothing where people and keys stay as they are."""
    dossier, current = state.dossiers.get(digest), state.current
    if dossier is None or current is None:
        return ("nobody was asked for it yet",)
    level = dossier.document.get("level")
    return missing(
        current.policy,
        new,
        level=level if isinstance(level, int) else -1,
        signed=[(each.person, each.key) for each in signed],
        approved=supporters(state, dossier, now),
    )


def _require_held(log: Log, new: Policy) -> None:
    """Refuse a policy under which this governor could sign nothing any more."""
    if not log.holds(new.governor):
        raise MalformedInput(
            "the policy names a key of the governor's that is not in its folder",
            help="`keyturn key rotate` makes the key there and writes it into the policy",
        )


def adopt(log: Log, new: Policy, decision: Fact | None, *, dossier: str = "", signed: Sequence[Signed] = ()) -> None:
    """Write the adoption, and the decision that cleared it, in one append; the governor's keys change with it."""
    _require_held(log, new)
    rows: tuple[ev.Document, ...] = tuple({"person": s.person, "key": s.key, "sig": s.sig} for s in signed)
    digest = sha256(canonical.encode(new.document))
    version = len(log.state.policies) + 1
    facts: list[Fact] = [decision] if decision else []
    facts.append(
        lambda stamp: ev.PolicyAdopted(
            **stamp, version=version, digest=digest, document=new.document, signatures=rows, dossier=dossier
        )
    )
    log.append(*facts)
    log.publish()


def line_of(text: str, path: str) -> int:
    """The line (from 1) at which the table or key named by a problem's path stands, as near as it can be found."""
    lines = text.splitlines()
    start, prefix = 0, ""
    for step in path.split("."):
        match = STEP.fullmatch(step)
        if match is None:
            break
        name, number = match.group(1), match.group(2)
        found = _header(lines, start, f"{prefix}{name}", int(number) if number else None)
        if found is not None:
            start, prefix = found, f"{prefix}{name}."
        else:
            start = _key(lines, start, name)
    return start + 1


def _header(lines: list[str], start: int, name: str, number: int | None) -> int | None:
    """The line of the table `name`, or of the `number`-th of its rows at or after `start`."""
    wanted = f"[{name}]" if number is None else f"[[{name}]]"
    places = [i for i, line in enumerate(lines) if line.strip().replace(" ", "") == wanted and i >= start]
    index = number or 0
    return places[index] if index < len(places) else None


def _key(lines: list[str], start: int, name: str) -> int:
    """The line of the key `name` in the table that starts at `start`; that table's line when it is not there."""
    for i in range(start, len(lines)):
        if i > start and lines[i].lstrip().startswith("["):
            break
        if re.match(rf"\s*{re.escape(name)}\s*=", lines[i]) or re.search(rf"[{{,]\s*{re.escape(name)}\s*=", lines[i]):
            return i
    return start
