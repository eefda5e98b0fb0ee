"""Read `keyturn.toml`, say by line what is wrong, and adopt a changed one: tightening is free, the rest waits."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.core import events as ev
from keyturn.core.decision import decide
from keyturn.core.errors import MalformedInput
from keyturn.core.finding import Request
from keyturn.core.policy import Policy
from keyturn.core.policy_contradictions import Problem
from keyturn.core.policy_reading import read_policy
from keyturn.core.terms import Digest, Json
from keyturn.flow.decided import decided
from keyturn.flow.dossier import seal_other
from keyturn.flow.log import Fact, Log
from keyturn.wire import canonical
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
        raise MalformedInput(
            f"{path.name}: {str(fault)[:200].lower()}", help="correct the TOML at that line"
        ) from fault
    policy = read_policy(document)
    if not isinstance(policy, Policy):
        raise PolicyProblems(path, tuple((line_of(text, problem.path), problem) for problem in policy))
    return policy


def require_adoptable(old: Policy, new: Policy) -> None:
    """Refuse what this release cannot carry over: other people or keys, another project, founder or demo mark."""
    fixed = (
        ("people", old.people, new.people),
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
    digest = sha256(canonical.encode(new.document))
    for dossier in log.state.dossiers.values():
        same = dossier.document.get("adopts") == digest and not dossier.used
        if same and log.now() < int(str(dossier.document.get("not_after"))):
            return dossier.digest
    rows: list[Json] = [{"path": d.path, "effect": d.effect, "why": d.why} for d in differences]
    return seal_other(log, "AdoptPolicy", {"adopts": digest, "differences": rows})


def adopt_cleared(log: Log, new: Policy, digest: Digest) -> bool:
    """Adopt the policy if the `amend` gate clears its dossier; says whether it did."""
    decision = decide(log.state, Request("AdoptPolicy", digest), log.now())
    if not decision.cleared:
        return False
    adopt(log, new, decided(decision, digest), dossier=digest)
    return True


def adopt(log: Log, new: Policy, decision: Fact | None, *, dossier: str = "") -> None:
    """Write the adoption, and the decision that cleared it, in one append."""
    digest = sha256(canonical.encode(new.document))
    version = len(log.state.policies) + 1
    facts: list[Fact] = [decision] if decision else []
    facts.append(
        lambda stamp: ev.PolicyAdopted(
            **stamp, version=version, digest=digest, document=new.document, signatures=(), dossier=dossier
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
