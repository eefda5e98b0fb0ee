"""Where a key lies, judged as weakly as can be shown: it never reports more protection than the system enforces.

Only `shared-account` and `host` can be observed from here; `separate` and `hardware` are a person's word in the
policy and are recorded as declared.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Custody

_ROOT_UID: Final = 0
_ORDER: Final = tuple(Custody)

DESCRIPTIONS: Final = {
    Custody.SHARED_ACCOUNT: "the key lies in the governor's own account: does not protect against the operator",
    Custody.HOST: "the key lies in another account of this machine: protects against the governor's account, "
    "not against whoever administers the machine",
    Custody.SEPARATE: "the person declares that the key lies on another machine",
    Custody.HARDWARE: "the person declares that the key cannot leave a hardware device",
}


@dataclass(frozen=True, slots=True)
class CustodyRecord:
    """The custody to record for a key: `basis` is `observed` or `declared`, `why` says it in a sentence."""

    custody: Custody
    basis: str
    why: str


def custody_of(key_path: Path, *, governor_uid: int, project_dir: Path) -> Custody:
    """Judge where a key file lies: `host` only if the governor's account cannot read or replace it.

    The governor running as root, an owner in common, a loose mode or folder, or a place inside the project folder
    all make it `shared-account`. Raises MalformedInput when there is no such file.
    """
    try:
        found = key_path.lstat()
    except OSError:
        message = f"there is no key file `{key_path}` whose custody could be judged"
        raise MalformedInput(message, help="name the key file, or declare its custody in the policy") from None
    if governor_uid in (_ROOT_UID, found.st_uid) or not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
        return Custody.SHARED_ACCOUNT
    real = key_path.resolve()
    if real.is_relative_to(project_dir.resolve()):
        return Custody.SHARED_ACCOUNT
    loose = any(_replaceable(folder, governor_uid) for folder in real.parents)
    return Custody.SHARED_ACCOUNT if loose else Custody.HOST


def _replaceable(folder: Path, governor_uid: int) -> bool:
    """Whether the governor's account could swap what lies in this folder; a sticky folder protects its entries."""
    found = folder.stat()
    sticky = bool(found.st_mode & stat.S_ISVTX)
    return found.st_uid == governor_uid or bool(found.st_mode & 0o022 and not sticky)


def record(*, observed: Custody | None, declared: Custody | None) -> CustodyRecord:
    """Settle what is recorded: the weaker of what was seen and what was declared; nothing known is weakest.

    A declaration alone counts only where no key file was seen, and stays marked as declared.
    """
    if observed is None and declared is None:
        return CustodyRecord(Custody.SHARED_ACCOUNT, "observed", "nothing is known, so the weakest is assumed")
    if observed is None or (declared is not None and _ORDER.index(declared) < _ORDER.index(observed)):
        custody = declared or Custody.SHARED_ACCOUNT
        return CustodyRecord(custody, "declared", describe(custody))
    return CustodyRecord(observed, "observed", describe(observed))


def describe(custody: Custody) -> str:
    """Say in one sentence what this custody protects against and what it does not."""
    return DESCRIPTIONS[custody]
