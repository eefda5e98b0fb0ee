"""The built-in project: connect4's founder and policy, filled in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from keyturn.core.errors import Unavailable
from keyturn.core.keys.public import read_ssh
from keyturn.keys.keyfile import PublicKey
from keyturn.wire import artifact

Enrolled = tuple[str, tuple[str, ...], PublicKey]
"""A person's id, roles and public key."""


def teach(out: Path, *, seed: int) -> Path:
    """Let people's program teach the founder; deterministic by seed."""
    done = subprocess.run(
        [sys.executable, "-m", "keyturn.subjects.connect4.teach", "--seed", str(seed), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        lacks_numpy = "No module named" in said[0]
        help = "`pip install keyturn[connect4]`" if lacks_numpy else "see whether the disk is full, and try again"
        raise Unavailable(f"the founder could not be taught: {said[0][:200]}", help=help)
    return out


SECOND_SEAT = ', { role = "security", persons = 1 }'
TIER = 'sandbox = "T2"'


def policy_text(
    *, name: str, people: Sequence[Enrolled], founder: Path, demo: bool, seed: int, tier: str = "T2"
) -> str:
    """The policy of a connect4 project with these people, to be read and changed before anyone signs it.

    With one person alone the second seat of level 1 is left out: nobody could fill it, and every screen says
    SINGLE PERSON.
    """
    text = resources.files("keyturn.subjects.connect4").joinpath("keyturn.toml").read_text(encoding="utf-8")
    files = {entry.name: entry.read_bytes() for entry in founder.iterdir() if entry.is_file()}
    root = artifact.root(artifact.manifest(files))
    text = text.replace("sha256:FOUNDER", root).replace('name = "connect4"', f'name = "{name}"', 1)
    text = text.replace("demo = false", f"demo = {str(demo).lower()}").replace("seed = 1", f"seed = {seed}", 1)
    text = text.replace(TIER, f'sandbox = "{tier}"')
    if len(people) == 1:
        text = text.replace(SECOND_SEAT, "")
    return text.replace("# PEOPLE", "\n".join(person_text(*each) for each in people))


def person_text(person: str, roles: Sequence[str], key: PublicKey) -> str:
    """A person as the policy enrols them; of a security key the touch is demanded."""
    device = key.kind == "ssh" and read_ssh(key.public).security_key
    kept = 'custody = "hardware", touch = true' if device else 'custody = "shared-account"'
    listed = ", ".join(f'"{role}"' for role in roles)
    return (
        f'[[people]]\nid = "{person}"\nroles = [{listed}]\n'
        f'keys = [{{ kind = "{key.kind}", public = "{key.public}", {kept} }}]\n'
    )
