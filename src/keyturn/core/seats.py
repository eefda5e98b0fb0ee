"""Who sits where in a quorum: every person takes at most one seat, and no seat stays empty that could be filled.

It never asks whether a signature counts; `approval` does. Seating is a matching, not a queue, so that one more
signature can never leave a quorum further from its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Chair = tuple[str, int]


def seated(wanted: Mapping[str, int], able: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A role for as many persons as can sit at once; `wanted` says how many seats a role has.

    `able` names the roles in which each person may sit, in order of preference; who comes first there is placed
    first and never loses the seat to a later one, though the role may change to make room.
    """
    chairs: dict[Chair, str] = {}
    for person in able:
        _place(person, wanted, able, chairs, set())
    return {person: role for (role, _), person in sorted(chairs.items(), key=lambda item: list(able).index(item[1]))}


def _place(
    person: str,
    wanted: Mapping[str, int],
    able: Mapping[str, Sequence[str]],
    chairs: dict[Chair, str],
    tried: set[Chair],
) -> bool:
    """Seat this person, moving others to another of their roles if that makes room."""
    for chair in ((role, number) for role in able[person] for number in range(wanted.get(role, 0))):
        if chair in tried:
            continue
        tried.add(chair)
        if chair not in chairs or _place(chairs[chair], wanted, able, chairs, tried):
            chairs[chair] = person
            return True
    return False
