"""The part of replay that looks at what a sandbox was attested with: the containment check that its tier rests on.

Whether a check was really run nobody can replay; what the entry itself says of it must bear the tier that it claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from keyturn.core import events as ev
from keyturn.core.evidence import SECOND
from keyturn.core.lawful.gates import Check, body
from keyturn.core.state import State
from keyturn.core.terms import Tier

CHECK: Final = "check"
"""Where an attestation's facts hold the check: `suite`, `held`, `scored`, `controlled`, `tier`, and `at`, a moment."""


def sandbox_attested(state: State, event: ev.SandboxAttested) -> Iterator[Check]:
    """What was attested without a problem rests on a check that did not fail, and under this policy on a fresh one.

    Logs from before there were checks hold none; only a policy that names `check_seconds_max` asks for one.
    """
    check = body(event.facts, CHECK)
    if event.problems:
        return
    most = state.current.policy.sandbox.check_seconds_max if state.current else None
    if most is None and not check:
        return
    yield bool(check), "it rests on no check of the sandbox; the policy asks for one"
    if not check:
        return
    earned = Tier(str(check.get("tier")))
    yield earned is not Tier.T0, "the check that it rests on failed"
    yield Tier(event.tier).rank <= earned.rank, f"it says tier {event.tier}; the check that it rests on earned {earned}"
    yield _adds_up(check), "the check that it rests on held more probes than it scored, or scored none"
    at = check.get("at")
    if most is not None and isinstance(at, int):
        age = event.at - at
        yield 0 <= age <= most * SECOND, f"its check was {age // SECOND} seconds old; the policy allows {most}"
    yield isinstance(at, int), "it does not say when the check was run"


def _adds_up(check: ev.Document) -> bool:
    held, scored, controlled = (_count(check, name) for name in ("held", "scored", "controlled"))
    return 0 <= held <= scored and scored > 0 and controlled >= 0


def _count(check: ev.Document, name: str) -> int:
    value = check.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
