"""Check what others hand over: a permit bundle, offline; a whole log, decided again from its first leaf."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keyturn.app.operating.opening import open_any
from keyturn.core import events as ev
from keyturn.core.errors import KeyturnError, MalformedInput
from keyturn.core.replay import recheck
from keyturn.core.terms import Instant
from keyturn.flow.permit import SCOPE
from keyturn.ledger.check import check_store
from keyturn.ledger.history import History
from keyturn.ledger.stores.port import LogStore
from keyturn.verify import bundle as bundles
from keyturn.verify import trust as trusts
from keyturn.verify.check import check
from keyturn.verify.load import examine

Tell = Callable[[str], None]
PROGRESS_ENTRIES = 500


@dataclass(frozen=True, slots=True)
class Verified:
    """What a bundle is worth here and now; `ok` only when every check held."""

    ok: bool
    doubts: tuple[tuple[int, str, str], ...]
    permit: ev.PermitIssued | None
    status: ev.StatusPublished | None
    unwitnessed: bool
    simulated: bool
    people: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """What deciding everything again showed."""

    entries: int
    decisions: int
    problems: tuple[tuple[int, str, str], ...]
    root_hex: str


def verify_permit(bundle: Path, *, trust: Path, weights: Path | None, action: str, scope: str | None) -> Verified:
    """Check a bundle, and the weights in a folder against it; needs no network and no trust in the bundle."""
    pinned = trusts.read(trust)
    try:
        opened = bundles.decode(bundle.read_bytes())
    except OSError as fault:
        raise MalformedInput(f"the bundle `{bundle}` cannot be read: {fault.strerror}", help="name the file") from fault
    now = Instant(time.time_ns() // 1_000_000)  # `wiring` has a clock, and what one system alone has
    if weights is None:
        checked = check(opened, pinned, action=action, scope=scope or SCOPE, now=now)
    else:
        checked = examine(weights, opened, trust=pinned, action=action, scope=scope or SCOPE, now=now)
    if checked.seen is not None:  # also of a bundle that is refused: a halt once seen is not forgotten
        trusts.remember(pinned, checked.seen)
    return Verified(
        not checked.doubts,
        tuple((doubt.check, doubt.message, doubt.help) for doubt in checked.doubts),
        checked.permit,
        checked.status,
        True,
        checked.permit.simulated if checked.permit else False,
        tuple(dict.fromkeys(approval.person for approval in checked.approvals)),
    )


def verify_log(db: Path | str, *, trust: Path | None, tell: Tell) -> Replay:
    """Decide the log again that lies in this file, or in the database of this address; see `verify_store`."""
    with open_any(str(db)) as store:
        return verify_store(store, trust=trust, tell=tell)


def verify_store(store: LogStore, *, trust: Path | None, tell: Tell) -> Replay:
    """Recompute the tree and decide every event again by the rules of its day; every problem is named."""
    history = History()
    problems: list[tuple[int, str, str]] = []
    decisions = 0
    head = store.head()
    for index, data in enumerate(store.leaves(0, head.size)):
        before = history.state
        try:
            event = history.read(data)
        except KeyturnError as fault:
            problems.append((index, "leaf_must_be_signed_and_lawful", fault.message))
            break
        decisions += isinstance(event, ev.GateDecided)
        problems += [(index, finding.rule, finding.message) for finding in recheck(before, event)]
        if index and index % PROGRESS_ENTRIES == 0:
            tell(f"{index} of {head.size} entries decided again")
    problems += _tree(store, history, trust)
    return Replay(head.size, decisions, tuple(problems), head.root.hex())


def _tree(store: LogStore, history: History, trust: Path | None) -> list[tuple[int, str, str]]:
    """What the tree and its signed heads say, and whether the log is the one that is trusted."""
    project = history.state.project
    if project is None:
        return [(0, "log_must_begin_with_its_founding", "the log holds no founding")]
    found = [(each.rule, each.message) for each in check_store(store, project.log_key)]
    if trust is not None:
        pinned = trusts.read(trust)
        if pinned.genesis != project.genesis:
            found.append(
                ("genesis_must_be_the_pinned_one", f"the log rests on {project.genesis}, not on {pinned.genesis}")
            )
        elif pinned.seen.size > store.head().size:
            found.append(("log_must_not_shrink", f"{pinned.seen.size} entries were seen; {store.head().size} are here"))
        elif pinned.seen.size and store.root_at(pinned.seen.size).hex() != pinned.seen.root:
            found.append(
                ("log_must_not_be_rewritten", f"the first {pinned.seen.size} entries are not those that were seen")
            )
    return [(store.head().size, rule, message) for rule, message in found]
