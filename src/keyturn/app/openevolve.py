"""Govern a folder in OpenEvolve's layout: found a project for it, and run it as a process of its own.

Never imports the adapter or OpenEvolve: they live with keys that the governor's side must not see.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any, Self

from keyturn.app.connect4 import person_text
from keyturn.app.founding import init as found_in
from keyturn.app.founding import new_key, reachable
from keyturn.app.operating import opening
from keyturn.app.project import POLICY, Project
from keyturn.core.errors import MalformedInput
from keyturn.keys import keyfile
from keyturn.keys.keyfile import PublicKey
from keyturn.wire import artifact

ADAPTER = "keyturn.adapters.openevolve"
PROGRAM = "program.py"
MARK = "EVOLVE-BLOCK-START"
SAID = "keyturn.log"
"""What the loop's process says besides, beside what OpenEvolve writes there itself."""

PATIENCE_SECONDS = 15.0
"""How long a loop that was told to stop may take before its processes are killed."""

_RUNS = """[[charter]]
clause = "runs"
text = "Can be evaluated whenever it is asked: it neither fails nor answers with anything but what is wanted."
bank = "runs"

[[suites]]                           # your evaluator again: 1 is a program to which it can give no score
id = "runs"
grader = ["python", "-m", "keyturn.sdk.exam", GRADER]
exam = "runs sha256:EXAM"
metric = "charter.runs.broken"
items_max = 200
block = 10

[[thresholds]]                       # add a `held_out.py` and a suite for it: what nobody measures, selection erodes
id = "runs"
kind = "limit"
suite = "runs"
metric = "charter.runs.broken"
line = 0.10
margin = 0.0
lifetime_error = 0.05
"""
_HELD_OUT = """[[charter]]
clause = "holds-out"
text = "Does what it is scored for also where the loop's score does not look."
bank = "held-out"

[[suites]]                           # your held-out check: 1 is a program that it refuses
id = "held-out"
grader = ["python", "-m", "keyturn.sdk.exam", GRADER]
exam = "held-out sha256:CHECK"
metric = "charter.holds-out.broken"
items_max = 200
block = 10

[[thresholds]]                       # no quorum overrides it
id = "held-out"
kind = "limit"
suite = "held-out"
metric = "charter.holds-out.broken"
line = 0.10
margin = 0.0
lifetime_error = 0.05
"""


@dataclass(frozen=True, slots=True)
class Example:
    """A folder in OpenEvolve's layout: the first program, the evaluator, and what else there is."""

    folder: Path
    initial_program: Path
    evaluator: Path
    config: Path | None
    held_out: Path | None


def example(folder: Path) -> Example:
    """What lies in a folder; raises `MalformedInput` where a file that every run needs is missing."""
    folder = folder.absolute()
    for name in ("initial_program.py", "evaluator.py"):
        if not (folder / name).is_file():
            raise MalformedInput(
                f"there is no `{name}` in `{folder}`",
                help="name a folder that holds both; `config.yaml` and `held_out.py` may lie beside them",
            )

    def there(name: str) -> Path | None:
        return folder / name if (folder / name).is_file() else None

    return Example(
        folder, folder / "initial_program.py", folder / "evaluator.py", there("config.yaml"), there("held_out.py")
    )


def init(
    of: Example,
    root: Path,
    *,
    name: str,
    person: str,
    keys: Path,
    passphrase_file: Path | None,
    demo: bool = False,
    unseen: bool = False,
) -> Project:
    """Found a project for an example: the first program is the founder, the evaluator grades what leaves a run.

    A `keyturn.toml` that lies there already is taken as it is. Founding the lineage then waits for the `amend` quorum.
    """
    opening.require_no_log(root)
    root.mkdir(parents=True, exist_ok=True)
    founder = root / "founder"
    founder.mkdir(exist_ok=True)
    (founder / PROGRAM).write_bytes(of.initial_program.read_bytes())
    if not (root / POLICY).exists():
        key = keyfile.path_of(keys, person)
        if not key.exists():
            new_key(person, kind="ed25519", keys=keys, passphrase_file=passphrase_file)
        text = policy_text(of, founder, name=name, person=person, key=keyfile.read_public(key), demo=demo)
        (root / POLICY).write_text(text, encoding="utf-8")
    return found_in(
        root,
        name=name,
        person=person,
        keys=keys,
        unseen=unseen,
        passphrase_file=passphrase_file,
        founder=founder,
        policy=root / POLICY,
    )


def policy_text(of: Example, founder: Path, *, name: str, person: str, key: PublicKey, demo: bool) -> str:
    """The policy of an example with this one person, to be read and changed before anyone signs it."""
    graders = [str(of.evaluator), *(["--held-out", str(of.held_out)] if of.held_out is not None else [])]
    text = resources.files("keyturn.app").joinpath("openevolve.toml").read_text(encoding="utf-8")
    text = text.replace("# CHARTER\n", _RUNS if of.held_out is None else _HELD_OUT)
    for old, new in {
        "NAME": name,
        "FOUNDER": artifact.root(artifact.manifest(_files(founder))).removeprefix("sha256:"),
        "PROTECT": "evolve-blocks" if MARK in of.initial_program.read_text(encoding="utf-8") else "nothing",
        "EXAM": _exam(of.evaluator),
        "CHECK": _exam(of.held_out or of.evaluator),
        "GRADER": ", ".join(map(json.dumps, graders)),
        "# PEOPLE": person_text(person, ("safety", "security"), key),
        "demo = false": f"demo = {str(demo).lower()}",
        'sandbox = "T2"': f'sandbox = "{reachable()}"',
    }.items():
        text = text.replace(old, new)
    return text


def _exam(file: Path) -> str:
    """The digest by which a policy pins the file of an exam, in hex; `keyturn.sdk.exam` computes it again."""
    return sha256(file.read_bytes()).hexdigest()


def _files(folder: Path) -> Mapping[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in sorted(folder.iterdir()) if entry.is_file()}


def name_of(of: Example) -> str:
    """What a project for this example is called where nobody says: the folder's name, in letters of names."""
    plain = re.sub(r"[^a-z0-9]+", "-", of.folder.name.lower()).strip("-")
    return plain[:40] or "loop"


@dataclass(frozen=True, slots=True)
class Options:
    """How a run differs from what the example's own configuration says."""

    config: Path | None = None
    iterations: int | None = None
    checkpoint: Path | None = None
    output: Path | None = None
    shadow: bool = False


class Loop:
    """A run under way, in a process group of its own; a context manager that leaves nothing of it behind."""

    def __init__(self, of: Example, root: Path, options: Options) -> None:
        self.output = (options.output or of.folder / "openevolve_output").absolute()
        self.output.mkdir(parents=True, exist_ok=True)
        self._said = (self.output / SAID).open("ab")
        self._process = subprocess.Popen(
            _command(of, root, options, self.output),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )

    @property
    def session(self) -> int:
        """The session, and the process group, in which everything of this run but its governor lives."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the run reports, one plain object at a time, until its process has ended."""
        for line in self._process.stdout or ():
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    yield message

    def interrupt(self) -> None:
        """Ask the run to stop, as Ctrl-C does; its step stays open."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def code(self) -> int:
        """How its process ended; one that does not end in time is killed."""
        try:
            return self._process.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            return self._process.wait()

    def last_words(self) -> str:
        """The last line that the process wrote besides; for a run that ended without saying why."""
        lines = (self.output / SAID).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def _command(of: Example, root: Path, options: Options, output: Path) -> list[str]:
    """The adapter's command line."""
    command = [sys.executable, "-m", ADAPTER, "--project", str(root), "--output", str(output)]
    config = options.config or of.config
    rows: tuple[tuple[str, object], ...] = (
        ("--config", config.absolute() if config else None),
        ("--held-out", of.held_out),
        ("--iterations", options.iterations),
        ("--checkpoint", options.checkpoint.absolute() if options.checkpoint else None),
    )
    for flag, value in rows:
        command += [flag, str(value)] if value is not None else []
    return [*command, *(["--shadow"] if options.shadow else []), str(of.initial_program), str(of.evaluator)]
