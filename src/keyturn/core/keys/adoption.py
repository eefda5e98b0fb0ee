"""When other people or keys may take over: the quorum of the policy before is not enough.

The next policy needs the `amend` quorum of its own people too, and every key that it names anew signs for itself: so
nobody is enrolled under a key that they do not hold, and no policy takes effect that its own people do not want.
It never checks a signature; it is handed who signed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from keyturn.core.events import ProjectFounded
from keyturn.core.keys.governor import every_secret
from keyturn.core.keys.public import same_secret
from keyturn.core.policy import Adopted, Policy, seated
from keyturn.core.terms import Gate

Pair = tuple[str, str]
"""A person's id and one of their public keys."""


def pairs(policy: Policy) -> tuple[Pair, ...]:
    """Every person of a policy with every key that it gives them."""
    return tuple((person.id, key.public) for person in policy.people for key in person.keys)


def named_anew(old: Policy, new: Policy) -> tuple[Pair, ...]:
    """The keys that the next policy gives to somebody who did not have them; each must sign for itself."""
    known = frozenset(pairs(old))
    return tuple(pair for pair in pairs(new) if pair not in known)


def missing(
    old: Policy, new: Policy, *, level: int, signed: Collection[Pair], approved: Iterable[Pair]
) -> tuple[str, ...]:
    """What the next policy's own people have yet to do, in words; nothing where people and keys stay as they are.

    `signed` are those who signed the adoption itself, `approved` those whose approvals of its dossier count under the
    policy before. An approval names the dossier, the dossier the next policy: whoever gave it and keeps that key
    agreed to the next policy too.
    """
    if old.people == new.people:
        return ()
    held = frozenset(pairs(new))
    willing = [person for person, key in (*signed, *approved) if (person, key) in held]
    return (*_unproven(old, new, signed), *_empty_seats(new, level, willing))


def _unproven(old: Policy, new: Policy, signed: Collection[Pair]) -> Iterator[str]:
    for person, key in named_anew(old, new):
        if (person, key) not in signed:
            yield f"`{person}` did not sign the policy that names them with the key `{key[-24:]}`"


def _empty_seats(new: Policy, level: int, willing: Sequence[str]) -> Iterator[str]:
    row = new.row(Gate.AMEND, level)
    if row is None:
        yield f"the new policy has no row for `amend` on level {level}: its people could never change it again"
        return
    wanted = {seat.role: seat.persons for seat in row.quorum}
    able = {person.id: person.roles for person in new.people if person.id in willing}
    filled = list(seated(wanted, able).values())
    for role, persons in wanted.items():
        if filled.count(role) < persons:
            yield f"{filled.count(role)} of {persons} person(s) in the role `{role}` of the new policy agreed to it"


def borrowed(founded: ProjectFounded, policies: Sequence[Adopted]) -> str:
    """A person of the newest policy to whom it gives a key of the governor's, past or present; empty for none."""
    own = every_secret(founded, policies)
    return next((person for person, key in pairs(policies[-1].policy) if same_secret(key) in own), "")
