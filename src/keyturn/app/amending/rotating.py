"""The governor's next key: made in its folder and written into the policy file; it signs nothing before its adoption.

Only the adoption, by the quorum, puts it in force. The old file stays: the log before that was signed with it.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.app.wiring import POST_QUANTUM, SystemClock
from keyturn.app.witnessing import post_quantum
from keyturn.core.errors import Conflict, MalformedInput
from keyturn.core.keys.governor import keys_of
from keyturn.core.policy import GovernorKeys
from keyturn.flow import policy as policies
from keyturn.keys import keyfile
from keyturn.ledger import note

if TYPE_CHECKING:
    from keyturn.app.project import Project

TABLE = re.compile(r"(?m)^[ \t]*\[[ \t]*governor[ \t]*\][^\n]*\n(?:(?![ \t]*\[)[^\n]*(?:\n|\Z))*")
"""The table `[governor]` up to the next header. Its lists stand on one line each, as `rotate` writes them."""

FOLDERS = {"service": "service.key", "log": "log.key"}


@dataclass(frozen=True, slots=True)
class Rotated:
    """The key that was made, as the policy names it, and the keys that the file now asks for."""

    which: str
    public: str
    keys: GovernorKeys


def rotate(project: Project, which: str, person: str, *, ml_dsa: bool = False) -> Rotated:
    """Make the governor's next `service` or `log` key and write it into the policy file, for `person` to adopt.

    A log key is put first, before those in force, which go on signing beside it; with `ml_dsa` one of ML-DSA-44 is put
    last. Raises `Conflict` when the file asks
    for other keys than those in force already: one change after the other.
    """
    state = project.state()
    current = state.current
    if current is None or state.project is None:
        raise MalformedInput("no policy is adopted; there is no key to replace", help="`keyturn init`")
    if current.policy.person(person) is None:
        known = ", ".join(each.id for each in current.policy.people)
        raise MalformedInput(f"`{person}` is not enrolled; enrolled are {known}", help="`keyturn person list`")
    if policies.read_file(project.policy_path).governor != current.policy.governor:
        message = "the policy file asks for other keys of the governor's already, and they are not adopted"
        raise Conflict(message, help="`keyturn policy adopt` first, or take that change out of the file")
    text = project.policy_path.read_text(encoding="utf-8")
    before = keys_of(state.project, state.policies)
    written(text, before)  # a file that could not be changed is found before a key is made
    origin, folder = state.project.origin, project.home / FOLDERS[which]
    if ml_dsa:
        second = note.Verifier(origin, _post_quantum(folder / POST_QUANTUM), note.ML_DSA)
        keys = GovernorKeys(before.service_key, (*before.log_keys, second.vkey))
        _replace(project.policy_path, written(text, keys))
        return Rotated(which, second.vkey, keys)
    made = _made(folder, which)
    if which == "service":
        keys = GovernorKeys(made, before.log_keys)
    else:
        keys = GovernorKeys(before.service_key, (note.Verifier(origin, made).vkey, *before.log_keys))
    _replace(project.policy_path, written(text, keys))
    return Rotated(which, keys.service_key if which == "service" else keys.log_keys[0], keys)


def written(text: str, keys: GovernorKeys) -> str:
    """The policy text with these keys of the governor's, and not a byte of its other rules changed."""
    table = f"[governor]\nservice_key = {json.dumps(keys.service_key)}\nlog_keys = {json.dumps(list(keys.log_keys))}\n"
    said = TABLE.sub("", text).rstrip("\n") + f"\n\n{table}"
    try:
        before, after = tomllib.loads(text), tomllib.loads(said)
    except tomllib.TOMLDecodeError:
        before, after = {}, {"unread": True}
    before.pop("governor", None)
    after.pop("governor", None)
    if before != after:
        message = "the table `[governor]` of the policy file is written in a way that this command cannot change"
        raise MalformedInput(message, help="write it as two lines, `service_key = ...` and `log_keys = [...]`")
    return said


def _post_quantum(folder: Path) -> str:
    """A fresh ML-DSA-44 key; raises `Unavailable` where that is not built in, `Conflict` where there is one already."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return post_quantum.create(folder / "log-1.json")


def _made(folder: Path, which: str) -> str:
    """A fresh key in the governor's folder, under the first name that is free."""
    for number in range(2, 1000):
        name = f"{which}-{number}"
        if not keyfile.path_of(folder, name).exists():
            return keyfile.create(folder, name, keyfile.KeyKind.SERVICE, created_at=SystemClock().now()).public
    raise Conflict(f"`{folder}` is full of keys", help="see what lies there")


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".toml.tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
