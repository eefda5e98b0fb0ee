"""A person's part in adopting the policy file: an approval under the policy in force, a signature for the next one.

Signatures for the next policy wait beside the log, one small file for each key, until the adoption holds them all. Each
is checked whenever it is read, so a file that a stranger put there is worth nothing and stands in nobody's way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.app.founding import require_custody
from keyturn.app.policies import policy_of
from keyturn.core.approval import quorum, row_of, supporters
from keyturn.core.dossier import as_request
from keyturn.core.errors import MalformedInput, Unavailable, UntrustedInput
from keyturn.core.keys.adoption import named_anew, pairs
from keyturn.core.policy_change import change, needs_quorum
from keyturn.core.state import State
from keyturn.flow import policy as policies
from keyturn.flow.project import Signed
from keyturn.keys import keyfile
from keyturn.wire import base64
from keyturn.wire.signature import key_id

if TYPE_CHECKING:
    from keyturn.app.project import Project
    from keyturn.app.reasons.signing import Signing
    from keyturn.core.policy import Policy
    from keyturn.core.terms import Digest, Instant
    from keyturn.flow.log import Log

WAITING = "adoptions"
SIGNATURE_BYTES_MAX = 4096
_RUN = "keep the key where `--keys DIR` finds it; `keyturn policy diff` says who still has to sign"


def adopt(project: Project, who: Signing, *, reason: str) -> bool:
    """Adopt the policy file: at once when it only tightens, else once everybody whom it needs has signed."""
    new = policies.read_file(project.policy_path)
    with project.opened() as log:
        old = policy_of(log.state)
        differences = change(old, new)
        _require_known(old, new, who.person)
        policies.require_adoptable(old, new)
        if not differences:
            return True
        if not needs_quorum(differences):
            policies.adopt(log, new, None)
            return True
        dossier = policies.ask(log, new, differences)
        _sign(project, log, new, dossier, who, reason)
        signed = tuple(_waiting(project, log.state, new, dossier))
        done = policies.adopt_cleared(log, new, dossier, signed)
        if done:
            _forget(project, new, dossier)
        return done


def lacks(project: Project) -> tuple[str, ...]:
    """Who still has to sign for the policy file, and in which capacity; nothing where nobody was asked yet."""
    new = policies.read_file(project.policy_path)
    with project.opened() as log:
        state, now = log.state, log.now()
        dossier = policies.waiting(state, new, now)
        if dossier is None or state.current is None:
            return ()
        row = row_of(state, as_request(state.dossiers[dossier]))
        empty = quorum(state, state.dossiers[dossier], row, now).missing if row else ()
        asked = [f"{n} more approval(s) in the role `{role}` of policy {state.current.version}" for role, n in empty]
        signed = tuple(_waiting(project, state, new, dossier))
        return (*asked, *policies.lacks(state, new, dossier, signed, now))


def _require_known(old: Policy, new: Policy, name: str) -> None:
    if old.person(name) is None and new.person(name) is None:
        known = ", ".join(dict.fromkeys(each.id for each in (*old.people, *new.people)))
        raise MalformedInput(f"`{name}` is not enrolled; enrolled are {known}", help="`keyturn person list`")


# Signing


def _sign(project: Project, log: Log, new: Policy, dossier: Digest, who: Signing, reason: str) -> None:
    """Everything that this person can give with the key in hand: an approval, a signature for the next policy, both."""
    public = keyfile.read_public(keyfile.path_of(who.keys, who.person)).public
    approves = _may_approve(log.state, who, public, dossier)
    if approves:
        project.approve(log, dossier, who, project.typed(reason))
    if _is_wanted(log.state, new, dossier, (who.person, public), log.now()):
        _put(project, dossier, _adoption(project, log.state, new, dossier, who))
    elif not approves:
        message = f"nothing that the key of `{who.person}` in `{who.keys}` could sign is asked for here"
        raise UntrustedInput(message, help=_RUN)


def _may_approve(state: State, who: Signing, public: str, dossier: Digest) -> bool:
    """Whether this person holds, with this key, a seat of the quorum in force that they have not taken yet."""
    person = policy_of(state).person(who.person)
    if person is None or all(key.public != public for key in person.keys):
        return False
    given = {(each.event.person, each.event.key) for each in state.dossiers[dossier].approvals if each.approve}
    return (who.person, public) not in given and (who.role is not None or _has_seat(state, dossier, who.person))


def _has_seat(state: State, dossier: Digest, name: str) -> bool:
    person = policy_of(state).person(name)
    row = row_of(state, as_request(state.dossiers[dossier]))
    return person is not None and row is not None and any(seat.role in person.roles for seat in row.quorum)


def _is_wanted(state: State, new: Policy, dossier: Digest, pair: tuple[str, str], now: Instant) -> bool:
    """Whether the next policy needs this key's own signature, or at least that of its holder."""
    old = policy_of(state)
    if old.people == new.people or pair not in pairs(new):
        return False
    return pair in named_anew(old, new) or pair not in supporters(state, state.dossiers[dossier], now)


def _adoption(project: Project, state: State, new: Policy, dossier: Digest, who: Signing) -> Signed:
    """The person's signature for the next policy, by a key that is kept as that policy says."""
    person, path = new.person(who.person), keyfile.path_of(who.keys, who.person)
    public = keyfile.read_public(path).public
    for key in person.keys if person else ():
        if key.public == public:
            require_custody(path, who.person, key, project.root)
    public, made = who.sign(who.person, policies.adoption_message(state, new, dossier, who.person))
    said = Signed(who.person, public, base64.encode(made))
    if not policies.is_signed(state, new, dossier, said):
        raise UntrustedInput(
            f"the key of `{who.person}` signed without the touch or the PIN that the policy demands of it",
            help="sign again with the device, touched and with its PIN",
        )
    return said


# Signatures that wait


def _place(project: Project, dossier: Digest, person: str, public: str) -> Path:
    return project.home / WAITING / dossier.removeprefix("sha256:") / f"{person}-{key_id(public)[:16]}.json"


def _put(project: Project, dossier: Digest, said: Signed) -> None:
    """Keep a signature until the others are there; a crash leaves it whole or not at all."""
    place = _place(project, dossier, said.person, said.key)
    draft = place.with_suffix(f".{os.getpid()}.tmp")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"person": said.person, "key": said.key, "sig": said.sig}, file)
            file.flush()
            os.fsync(handle)
        draft.replace(place)
    except OSError as fault:
        message = f"the signature cannot be kept in `{place.parent}`: {(fault.strerror or str(fault)).lower()}"
        raise Unavailable(message, help="see who owns that folder, then sign again") from fault


def _waiting(project: Project, state: State, new: Policy, dossier: Digest) -> Iterator[Signed]:
    """The signatures that wait and hold; only the files of keys that the next policy names are ever opened."""
    for person, public in pairs(new):
        said = _read(_place(project, dossier, person, public), person, public)
        if said is not None and policies.is_signed(state, new, dossier, said):
            yield said


def _read(place: Path, person: str, public: str) -> Signed | None:
    """What a file says that this key signed; what cannot be read says nothing, and the screens ask for it again."""
    try:
        handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        try:
            body = json.loads(file.read(SIGNATURE_BYTES_MAX))
        except (OSError, ValueError, RecursionError):
            return None
    sig = body.get("sig") if isinstance(body, dict) else None
    return Signed(person, public, sig) if isinstance(sig, str) else None


def _forget(project: Project, new: Policy, dossier: Digest) -> None:
    """Remove the files of an adoption that the log holds by now."""
    for person, public in pairs(new):
        place = _place(project, dossier, person, public)
        if place.is_file():
            place.unlink()
