"""Check what others hand over: a permit bundle, offline; a whole log, decided again from its first leaf."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keyturn.app.auditing.replaying import pin_of
from keyturn.app.operating.opening import open_any
from keyturn.core import events as ev
from keyturn.core.errors import MalformedInput
from keyturn.core.state import State
from keyturn.core.terms import Instant
from keyturn.flow.permit import SCOPE
from keyturn.ledger.auditing.walk import Walk
from keyturn.ledger.check import check_store
from keyturn.ledger.checkpoint import Keys
from keyturn.ledger.history import log_keys
from keyturn.ledger.stores.port import LogStore
from keyturn.verify import bundle as bundles
from keyturn.verify import trust as trusts
from keyturn.verify.check import check
from keyturn.verify.load import examine

Tell = Callable[[str], None]


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
    witnesses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """What deciding everything again showed."""

    entries: int
    decisions: int
    problems: tuple[tuple[int, str, str], ...]
    root_hex: str
    witnesses: tuple[str, ...] = ()


def verify_permit(bundle: Path, *, trust: Path, weights: Path | None, action: str, scope: str | None) -> Verified:
    """Check a bundle, and the weights in a folder against it; needs no network and no trust in the bundle."""
    pinned = trusts.read(trust)
    try:
        with bundle.open("rb") as file:
            opened = bundles.decode(file.read(bundles.BUNDLE_BYTES_MAX + 1))
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
        not checked.witnesses,
        checked.permit.simulated if checked.permit else False,
        tuple(dict.fromkeys(approval.person for approval in checked.approvals)),
        checked.witnesses,
    )


def verify_log(db: Path | str, *, trust: Path | None, tell: Tell) -> Replay:
    """Decide the log again that lies in this file, or in the database of this address; see `verify_store`."""
    with open_any(str(db)) as store:
        return verify_store(store, trust=trust, tell=tell)


def verify_store(store: LogStore, *, trust: Path | None, tell: Tell) -> Replay:
    """Recompute the tree and decide every event again by the rules of its day; every problem is named."""
    pinned = trusts.read(trust) if trust is not None else None
    walk, head = Walk(tell), store.head()
    for data in store.leaves(0, head.size):
        walk.take(data)
    if walk.founded is not None:
        state = walk.history.state
        keys = keys_over_time(state, pinned) if pinned else log_keys(walk.founded, state.policies)
        for each in check_store(store, keys):
            walk.wrong(head.size, each.rule, each.message)
    walk.against(pin_of(pinned) if pinned else None, store.root_at)
    state = walk.history.state
    seen = state.cosigners if state.is_witnessed else ()
    return Replay(head.size, walk.decisions, tuple(walk.problems), head.root.hex(), seen)


def keys_over_time(state: State, trust: trusts.Trust) -> Keys:
    """The log's keys as a replay from the pinned founding shows them; the pinned one alone where it has another."""
    same = state.project is not None and state.project.genesis == trust.genesis
    return log_keys(trust.founded, state.policies if same else ())
