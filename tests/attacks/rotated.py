"""A project whose people or keys changed by policy, as honest people do it; what a thief of old keys makes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from keyturn.core import events as ev
from keyturn.core.policy import Policy
from keyturn.core.policy_change import change
from keyturn.core.terms import Digest, Instant
from keyturn.flow import policy as policies
from keyturn.flow.log import Log
from keyturn.flow.project import Signed
from keyturn.ledger import checkpoint, note, tree
from keyturn.verify.bundle import Bundle
from keyturn.verify.check import Checked, check
from keyturn.verify.trust import Seen, Trust
from keyturn.wire import leaf
from tests.verify.scene import ACTION, KEYS, LOG, SCOPE, SERVICE, Hand, Key, Scene, document, policy_of, root_over


class LogKey(Key):
    """A key that signs under the log's name."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.name = LOG.name


NEXT_SERVICE, NEXT_LOG = LogKey("next service"), LogKey("next log")
NEW = {name: Key(f"new {name}") for name in ("ada", "ben", "dot", "eve")}
RING = {key.public: key for key in (NEXT_SERVICE, NEXT_LOG, LogKey(LOG.name))}


def vkey(key: Key) -> str:
    return note.Verifier(LOG.name, key.public).vkey


def row(who: str, *roles: str, key: Key | None = None) -> dict[str, Any]:
    public = (key or NEW[who]).public
    return {"id": who, "roles": list(roles), "keys": [{"kind": "ed25519", "public": public, "custody": "separate"}]}


def governor(service: Key | None = None, *log: Key) -> dict[str, Any]:
    """The table of the governor's keys."""
    said = {"service_key": service.public} if service else {}
    return {**said, **({"log_keys": [vkey(each) for each in log]} if log else {})}


def begin(path: Any) -> Scene:
    """A founded lineage, whose governor finds its further keys."""
    made = Scene.begin(path / "log.db")
    made.log.find = RING.get
    made.found()
    made.log.publish()
    return made


def signature(log: Log, new: Policy, dossier: Digest, who: str, key: Key) -> Signed:
    """What somebody of the new policy signs for its adoption."""
    made = key.sign(policies.adoption_message(log.state, new, dossier, who))
    return Signed(who, key.public, base64.b64encode(made).decode())


def asked(made: Scene, text: dict[str, Any], approvers: Sequence[str] = ("ada", "ben")) -> tuple[Policy, Digest]:
    """A policy that the quorum of the one before approved."""
    current, new = made.log.state.current, policy_of(text)
    assert current is not None
    dossier = policies.ask(made.log, new, change(current.policy, new))
    for who in approvers:
        made.sign(dossier, who, "safety")
    return new, dossier


def adopted(made: Scene, text: dict[str, Any], *signers: tuple[str, Key]) -> Digest:
    """The same, and everybody whom the new policy needs signed it: it is in force. Returns its dossier."""
    new, dossier = asked(made, text)
    signed = [signature(made.log, new, dossier, who, key) for who, key in signers]
    assert policies.adopt_cleared(made.log, new, dossier, signed)
    return dossier


def released(made: Scene, name: str = "c1") -> str:
    """A candidate on level 0, released by ada."""
    made.files = {**made.files, "recipe.json": f'{{"made":"{name}"}}'.encode()}
    dossier = made.propose(name, level=0)
    made.sign(dossier, "ada", "safety")
    return made.release(dossier, name)


def leaves_of(made: Scene) -> list[bytes]:
    return list(made.log.store.leaves(0, made.log.head.size))


def events_of(made: Scene) -> list[ev.Event]:
    """Every entry, read with the keys of its place; the founding's own is left out."""
    policies, founded = made.log.state.policies, made.trust.founded
    return [leaf.decode(data, leaf.keyring(founded, policies, n)) for n, data in enumerate(leaves_of(made)) if n > 1]


def seen_by(made: Scene, permit: str) -> Trust:
    """A node that loaded this permit's bundle and remembers it."""
    found = checked(made, made.bundle(permit), made.trust)
    assert found.seen is not None
    return replace(made.trust, seen=found.seen)


def checked(made: Scene, bundle: Bundle, trust: Trust) -> Checked:
    return check(bundle, trust, action=ACTION, scope=SCOPE, now=Instant(made.clock.at + 1000))


def doubts(made: Scene, bundle: Bundle, trust: Trust | None = None) -> list[tuple[int, str]]:
    return [(doubt.check, doubt.message) for doubt in checked(made, bundle, trust or made.trust).doubts]


@dataclass
class Thief:
    """Whoever holds a copy of the log and these keys of the governor's; bound by no rule."""

    made: Scene
    leaves: list[bytes]
    service: Key = SERVICE
    log: tuple[Key, ...] = (LOG,)

    def add(self, data: bytes) -> int:
        self.leaves.append(data)
        return len(self.leaves) - 1

    def show(
        self, permit: int, approvals: Sequence[int], chain: Sequence[int] = (), *, seen: Seen | None = None
    ) -> Bundle:
        """A bundle over these leaves, under a checkpoint by the thief's log keys."""
        hand: Any = Hand(self.leaves, None)  # type: ignore[arg-type]  # everything that it would look up is given
        old = seen.size if seen else 0
        bundle: Bundle = hand.show(permit, approvals, chain, old_size=old)
        hashes = [tree.leaf_hash(each) for each in self.leaves]
        head = checkpoint.Checkpoint(LOG.name, len(hashes), root_over(hashes))
        return replace(
            bundle, checkpoint=checkpoint.sign(head, *(LogKey(each.name) if each is LOG else each for each in self.log))
        )


def people(**changes: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The scene's people, some replaced, removed (None) or added."""
    rows = {each["id"]: each for each in document()["people"]}
    return [each for each in {**rows, **changes}.values() if each is not None]


__all__ = ["KEYS", "LOG", "SERVICE"]
