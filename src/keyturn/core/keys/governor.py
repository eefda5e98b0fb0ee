"""The governor's own keys: those of the founding, until a policy that people cleared names others.

Which of them may sign an entry depends on its place in the log. None of them, past or present, ever counts for a
person.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.core.events import ProjectFounded
from keyturn.core.keys.public import public_of, same_secret
from keyturn.core.policy import Adopted, GovernorKeys


def in_force(policies: Sequence[Adopted], at: int | None = None) -> Adopted | None:
    """The policy under which entry `at` was written; the newest where no entry is named."""
    return next((each for each in reversed(policies) if at is None or each.index < at), None)


def keys_of(founded: ProjectFounded, policies: Sequence[Adopted], at: int | None = None) -> GovernorKeys:
    """The keys that sign entry `at` and the checkpoint of `at` entries; what no policy names is the founding's."""
    current = in_force(policies, at)
    said = current.policy.governor if current else GovernorKeys("", ())
    return GovernorKeys(said.service_key or founded.service_key, said.log_keys or (founded.log_key,))


def every_secret(founded: ProjectFounded, policies: Sequence[Adopted]) -> frozenset[str]:
    """Each key that was ever the governor's, under the name that all spellings of it share."""
    named = [GovernorKeys(founded.service_key, (founded.log_key,)), *(each.policy.governor for each in policies)]
    publics = {key for each in named for key in (each.service_key, *map(public_of, each.log_keys)) if key}
    return frozenset(map(same_secret, publics))
