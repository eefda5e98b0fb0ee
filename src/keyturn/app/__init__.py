"""Everything a door can ask for, wired: the only room that knows every adapter.

Never decides. What it offers is loaded when it is first asked for, so that a door opens quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyturn.app.amending.rotating import Rotated as Rotated
    from keyturn.app.amending.rotating import rotate as rotate
    from keyturn.app.auditing.exporting import Exported as Exported
    from keyturn.app.auditing.exporting import export_log as export_log
    from keyturn.app.auditing.replaying import Replayed as Replayed
    from keyturn.app.auditing.replaying import replay_export as replay_export
    from keyturn.app.disclosing import ClockRow as ClockRow
    from keyturn.app.founding import default_keys as default_keys
    from keyturn.app.founding import enrol_ssh as enrol_ssh
    from keyturn.app.founding import found as found
    from keyturn.app.founding import init as init
    from keyturn.app.founding import new_key as new_key
    from keyturn.app.machine.checked import CheckedHere as CheckedHere
    from keyturn.app.machine.checked import check_sandbox as check_sandbox
    from keyturn.app.machine.doctor import Doctor as Doctor
    from keyturn.app.machine.doctor import Row as Row
    from keyturn.app.machine.doctor import doctor as doctor
    from keyturn.app.policies import diff_policy as diff_policy
    from keyturn.app.policies import explain_policy as explain_policy
    from keyturn.app.policies import read_policy as read_policy
    from keyturn.app.project import Head as Head
    from keyturn.app.project import Project as Project
    from keyturn.app.project import open_project as open_project
    from keyturn.app.reasons.erasing import erase as erase
    from keyturn.app.reasons.erasing import look as look
    from keyturn.app.reasons.reading import shortened as shortened
    from keyturn.app.reasons.signing import Signing as Signing
    from keyturn.app.verifying import Replay as Replay
    from keyturn.app.verifying import Verified as Verified
    from keyturn.app.verifying import verify_log as verify_log
    from keyturn.app.verifying import verify_permit as verify_permit
    from keyturn.core.policy_change import Difference as Difference
    from keyturn.flow.policy import PolicyProblems as PolicyProblems
    from keyturn.keys.custody import describe
    from keyturn.verify.trust import read

    describe_custody = describe
    read_trust = read

_PLACES = {
    "CheckedHere": "keyturn.app.machine.checked",
    "ClockRow": "keyturn.app.disclosing",
    "Difference": "keyturn.core.policy_change",
    "Doctor": "keyturn.app.machine.doctor",
    "Exported": "keyturn.app.auditing.exporting",
    "Head": "keyturn.app.project",
    "PolicyProblems": "keyturn.flow.policy",
    "Project": "keyturn.app.project",
    "Replay": "keyturn.app.verifying",
    "Replayed": "keyturn.app.auditing.replaying",
    "Rotated": "keyturn.app.amending.rotating",
    "Row": "keyturn.app.machine.doctor",
    "Signing": "keyturn.app.reasons.signing",
    "Verified": "keyturn.app.verifying",
    "check_sandbox": "keyturn.app.machine.checked",
    "default_keys": "keyturn.app.founding",
    "describe_custody": "keyturn.keys.custody",
    "diff_policy": "keyturn.app.policies",
    "doctor": "keyturn.app.machine.doctor",
    "enrol_ssh": "keyturn.app.founding",
    "explain_policy": "keyturn.app.policies",
    "export_log": "keyturn.app.auditing.exporting",
    "found": "keyturn.app.founding",
    "init": "keyturn.app.founding",
    "new_key": "keyturn.app.founding",
    "open_project": "keyturn.app.project",
    "read_policy": "keyturn.app.policies",
    "read_trust": "keyturn.verify.trust",
    "replay_export": "keyturn.app.auditing.replaying",
    "erase": "keyturn.app.reasons.erasing",
    "look": "keyturn.app.reasons.erasing",
    "rotate": "keyturn.app.amending.rotating",
    "shortened": "keyturn.app.reasons.reading",
    "verify_log": "keyturn.app.verifying",
    "verify_permit": "keyturn.app.verifying",
}


_NAMES = {"describe_custody": "describe", "read_trust": "read"}
"""What is called otherwise where it lives."""


def __getattr__(name: str) -> object:
    """Load what is asked for from where it lives."""
    if name not in _PLACES:
        raise AttributeError(f"module `keyturn.app` has no attribute `{name}`")
    return getattr(import_module(_PLACES[name]), _NAMES.get(name, name))
