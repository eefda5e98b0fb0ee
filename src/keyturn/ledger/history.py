"""From the bytes of a log to the state that they prove: every signature, digest and founding promise is checked.

It reads and never writes; the same code serves the governor, an auditor's replay and a stranger's copy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from keyturn.core import events as ev
from keyturn.core.errors import TamperDetected, Unavailable
from keyturn.core.evolve import evolve
from keyturn.core.keys.adoption import borrowed
from keyturn.core.keys.governor import every_secret, keys_of
from keyturn.core.keys.vkey import read_vkey
from keyturn.core.policy import Adopted, Policy
from keyturn.core.policy_reading import read_policy
from keyturn.core.replay import recheck
from keyturn.core.state import State
from keyturn.ledger import checkpoint, note, tree
from keyturn.ledger.witnessing.cosignature import HELP_BUILD
from keyturn.wire import base64, canonical, leaf, signature
from keyturn.wire.digest import sha256


class History:
    """A state and how it came about; `read` takes the next leaf, `state` is what holds after it."""

    def __init__(self, state: State | None = None, frontier: tree.Frontier | None = None, root: bytes = b"") -> None:
        self.state = state or State()
        self._frontier = frontier or tree.Frontier()
        self._published_root = root

    def branch(self) -> History:
        """The same history, which may go on in another way without touching this one."""
        return History(self.state, self._frontier, self._published_root)

    def read(self, data: bytes) -> ev.Event:
        """Check the next leaf and fold its event in; on any error the state stays as it was.

        `Unavailable` says that this machine cannot check it: the leaf is neither sound nor found wrong.
        """
        event = leaf.decode(data, keyring(self.state))
        _check_digests(self.state, event)
        if isinstance(event, ev.CheckpointWitnessed):
            _check_witnessed(self.state, event, self._published_root)
        self.state = evolve(self.state, event)
        self._frontier = self._frontier.append(tree.leaf_hash(data))
        if isinstance(event, ev.StatusPublished):
            self._published_root = self._frontier.root()
        return event

    def read_all(self, leaves: Iterable[bytes]) -> State:
        """Fold every leaf and return the state after the last."""
        for data in leaves:
            self.read(data)
        return self.state


def keyring(state: State, at: int | None = None) -> leaf.Keyring | None:
    """The keys that may sign the next leaf, or the one at this place in the log."""
    return leaf.keyring(state.project, state.policies, at) if state.project else None


def log_keys(founded: ev.ProjectFounded, policies: Sequence[Adopted]) -> checkpoint.Keys:
    """The log's keys over time, from a founding that was compared with the pinned one and the policies since."""
    sizes = (0, *(each.index + 1 for each in policies))
    return checkpoint.Keys.of([(size, keys_of(founded, policies, size).log_keys) for size in sizes])


def _check_digests(state: State, event: ev.Event) -> None:
    if isinstance(event, ev.DossierSealed):
        _must(event.dossier == sha256(canonical.encode(event.document)), "a dossier that its digest does not name")
    if isinstance(event, ev.PolicyAdopted):
        _must(event.digest == sha256(canonical.encode(event.document)), "a policy that its digest does not name")
        policy = read_policy(event.document)
        if isinstance(policy, Policy) and state.project is not None:  # what is no policy, `evolve` refuses
            adopted = Adopted(event.version, event.digest, policy, state.size)
            _check_witnesses(every_secret(state.project, (*state.policies, adopted)), policy)
            _check_genesis(state.project, policy, event)
            _check_adoption(state, policy, event)


def _check_witnessed(state: State, event: ev.CheckpointWitnessed, root: bytes) -> None:
    """The head is this log's own, and whoever is said to have cosigned it did."""
    project, current = state.project, state.current
    if project is None or current is None:
        _must(False, "a witnessed head before its founding")
        return
    data, log = event.note.encode(), log_keys(project, state.policies)
    head = checkpoint.open_checkpoint(data, log).checkpoint
    _must((head.size, head.root) == (event.size, root), "a witnessed head that is not the head of its own entries")
    _must(event.root == root.hex(), "a witnessed head that names another root than it shows")
    parties = current.policy.witnesses.parties
    missing = set(event.parties) - set(checkpoint.cosigners(data, log, parties))
    if missing and missing <= checkpoint.uncheckable(data, log, parties):
        message = f"`{min(missing)}` is said to have cosigned a head with ML-DSA-44, which cannot be checked here"
        raise Unavailable(message, help=HELP_BUILD)
    _must(not missing, "a witnessed head that somebody is said to have cosigned and did not")


def _check_adoption(state: State, policy: Policy, event: ev.PolicyAdopted) -> None:
    """A governor acts on no policy that could not be adopted: one that tightens, or has every quorum that it needs."""
    if state.current is not None and state.project is not None:
        _must(state.current.policy.origin == policy.origin, f"a policy {event.version} of another project")
        leaf.adopters(state.project.genesis, event, policy)
        require_usable(policy)
    for finding in recheck(state, event):
        _must(False, f"a policy {event.version} that could not be adopted: {finding.message}")


def _check_witnesses(governor: Collection[str], policy: Policy) -> None:
    """Whoever holds the governor's keys, past or present, must not be a witness of it by another name."""
    keys = [base64.encode(read_vkey(key).raw) for party in policy.witnesses.parties for key in party.keys]
    _must(not any(key in governor for key in keys), "a policy that takes the governor's own key for a witness's")


def require_usable(policy: Policy) -> None:
    """Refuse a policy under which no governor could sign; raises `MalformedInput` for a key that is none."""
    for vkey in policy.governor.log_keys:
        note.parse_vkey(vkey)
    if policy.governor.service_key:
        signature.public_bytes(policy.governor.service_key)


def _check_genesis(founded: ev.ProjectFounded, policy: Policy, event: ev.PolicyAdopted) -> None:
    """Policy 1 is signed by every person whom it names, each with every key that it gives them."""
    if event.version != 1:
        return
    _must(leaf.genesis_digest(founded, event.document) == founded.genesis, "a first policy other than the founding one")
    person = borrowed(founded, (Adopted(1, event.digest, policy, 1),))
    _must(not person, "a founding that gives a person the governor's own key")
    signed = {(str(each.get("person")), str(each.get("key"))): each for each in event.signatures}
    for person, key in ((each.id, key) for each in policy.people for key in each.keys):
        said = signed.get((person, key.public))
        message, sig = leaf.genesis_message(founded.genesis, person), said.get("sig") if said else ""
        raw = base64.decode(sig, what="sig")
        good = signature.verify(key.public, message, raw, touch=key.touch, pin=key.pin)
        _must(good, f"a founding that `{person}` did not sign")


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise TamperDetected(f"the log holds {what}", help="do not act on this log; compare it with another copy")
