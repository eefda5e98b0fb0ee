"""Ask for leave to train, and grant it once the quorum of the `train` gate cleared the dossier."""

from __future__ import annotations

from keyturn.core import events as ev
from keyturn.core.agenda import Grant, Hold, Step
from keyturn.core.bounds import NO_BOUNDS, Bounds
from keyturn.core.errors import Conflict, MalformedInput
from keyturn.core.evidence import SECOND
from keyturn.core.lawful.gates import body
from keyturn.core.policy import Policy
from keyturn.core.terms import Digest, Gate, Instant
from keyturn.flow.decided import decided
from keyturn.flow.dossier import seal_other
from keyturn.flow.log import Log

HOURS_MAX = 24 * 366
"""For how long leave may be given at most; who needs longer gives it again."""


def waiting(step: Step, loop: Bounds) -> Digest | None:
    """The dossier of a warrant that waits for people, if one does; whoever names other bounds is not made to sign it.

    Raises `Conflict`.
    """
    if not isinstance(step, Hold) or step.dossier.gate != Gate.TRAIN:
        return None
    bounds = body(step.dossier.document, "bounds")
    if loop not in (NO_BOUNDS, Bounds.from_json(body(bounds, "loop"))):
        raise Conflict(
            f"a warrant with other bounds on its loop waits already: dossier `{step.dossier.digest[7:15]}`",
            help="sign that one without naming bounds, or refuse it and ask anew: `keyturn dossier show`",
        )
    return step.dossier.digest


def ask(
    log: Log, policy: Policy, *, candidates: int, level_ceiling: int, hours: float, loop: Bounds = NO_BOUNDS
) -> Digest:
    """Seal the dossier of a warrant with these bounds, `loop` being those of somebody else's; it grants nothing yet."""
    if candidates < 1 or not 0 < hours <= HOURS_MAX:
        raise MalformedInput(
            f"a warrant needs at least one candidate, and some time of at most {HOURS_MAX} hours",
            help="`--candidates N --hours H`",
        )
    if policy.level(level_ceiling) is None:
        raise MalformedInput(f"level {level_ceiling} is not in the policy", help="name a level of `keyturn.toml`")
    _require_loop_bounds(policy, Bounds.from_json(loop.to_json()))
    expires_at = int(log.now() + hours * 3600 * SECOND)
    bounds: ev.Document = {
        "candidates_max": candidates,
        "level_ceiling": level_ceiling,
        "expires_at": expires_at,
    }
    if loop != NO_BOUNDS:
        bounds["loop"] = loop.to_json()
    return seal_other(log, "IssueWarrant", {"bounds": bounds})


def _require_loop_bounds(policy: Policy, loop: Bounds) -> None:
    """Bounds on programs and time where there is a loop, and none where they would bound nothing."""
    if policy.loop is None and loop != NO_BOUNDS:
        raise MalformedInput(
            "the policy has no `[loop]`, so bounds on programs, requests, tokens or money would bound nothing",
            help="leave out `--programs`, `--wall-minutes`, `--requests`, `--tokens` and `--usd`",
        )
    if policy.loop is not None and not loop.given:
        raise MalformedInput(
            "a warrant for a loop must say how many programs may run and for how long",
            help="`--programs N --wall-minutes M`; `--requests`, `--tokens` and `--usd` bound what they name",
        )


def grant(log: Log, step: Grant) -> None:
    """Issue the warrant that the cleared dossier describes; one append, so a crash leaves all or nothing."""
    bounds = step.dossier.document.get("bounds")
    figures = bounds if isinstance(bounds, dict) else {}
    lineage = log.state.lineage
    name = lineage.id if lineage else ""
    log.append(
        decided(step.decision, step.dossier.digest),
        lambda stamp: ev.WarrantIssued(
            **stamp,
            warrant=f"w-{step.dossier.digest[7:15]}",
            lineage=name,
            dossier=step.dossier.digest,
            candidates_max=_figure(figures, "candidates_max"),
            level_ceiling=_figure(figures, "level_ceiling"),
            not_before=stamp["at"],
            expires_at=Instant(_figure(figures, "expires_at")),
            bounds=body(figures, "loop"),
        ),
    )


def _figure(figures: ev.Document, key: str) -> int:
    value = figures.get(key)
    return value if isinstance(value, int) else 0
