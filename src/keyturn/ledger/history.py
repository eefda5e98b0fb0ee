"""From the bytes of a log to the state that they prove: every signature, digest and founding promise is checked.

It reads and never writes; the same code serves the governor, an auditor's replay and a stranger's copy.
"""

from __future__ import annotations

from collections.abc import Iterable

from keyturn.core import events as ev
from keyturn.core.errors import TamperDetected
from keyturn.core.evolve import evolve
from keyturn.core.state import State
from keyturn.wire import base64, canonical, leaf, signature
from keyturn.wire.digest import sha256


class History:
    """A state and how it came about; `read` takes the next leaf, `state` is what holds after it."""

    def __init__(self) -> None:
        self.state = State()

    def read(self, data: bytes) -> ev.Event:
        """Check the next leaf and fold its event in; on any error the state stays as it was."""
        event = leaf.decode(data, keyring(self.state))
        _check_digests(self.state, event)
        self.state = evolve(self.state, event)
        return event

    def read_all(self, leaves: Iterable[bytes]) -> State:
        """Fold every leaf and return the state after the last."""
        for data in leaves:
            self.read(data)
        return self.state


def keyring(state: State) -> leaf.Keyring | None:
    """The keys that may sign the next leaf."""
    if state.project is None:
        return None
    people = state.current.policy.people if state.current else ()
    return leaf.Keyring(state.project.service_key, {p.id: tuple(key.public for key in p.keys) for p in people})


def _check_digests(state: State, event: ev.Event) -> None:
    if isinstance(event, ev.DossierSealed):
        _must(event.dossier == sha256(canonical.encode(event.document)), "a dossier that its digest does not name")
    if isinstance(event, ev.PolicyAdopted):
        _must(event.digest == sha256(canonical.encode(event.document)), "a policy that its digest does not name")
        if event.version == 1 and state.project is not None:
            _check_genesis(state.project, event)


def _check_genesis(founded: ev.ProjectFounded, event: ev.PolicyAdopted) -> None:
    """Policy 1 is signed by every person whom it names, each with every key that it gives them."""
    _must(leaf.genesis_digest(founded, event.document) == founded.genesis, "a first policy other than the founding one")
    signed = {(str(each.get("person")), str(each.get("key"))): each for each in event.signatures}
    for person, public in _named_keys(event.document):
        said = signed.get((person, public))
        message = leaf.genesis_message(founded.genesis, person)
        good = said is not None and signature.verify(public, message, base64.decode(said.get("sig"), what="sig"))
        _must(good, f"a founding that `{person}` did not sign")


def _named_keys(document: ev.Document) -> list[tuple[str, str]]:
    found = []
    people = document.get("people")
    for person in people if isinstance(people, list) else []:
        keys = person.get("keys") if isinstance(person, dict) else []
        for key in keys if isinstance(keys, list) else []:
            if isinstance(person, dict) and isinstance(key, dict):
                found.append((str(person.get("id")), str(key.get("public"))))
    return found


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise TamperDetected(f"the log holds {what}", help="do not act on this log; compare it with another copy")
