"""Play the example for OpenEvolve: its folder, its endpoint, upstream's own command, and a project that governs it.

A run is a process of its own, because it holds the endpoint's key and imports a loop of somebody else's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from keyturn.app import exercise, openevolve
from keyturn.app.connect4 import person_text
from keyturn.app.exercise import Cast
from keyturn.app.project import Project
from keyturn.core.errors import Unavailable
from keyturn.subjects.minimise.endpoint import Answer, Endpoint, Stock

FILES = ("initial_program.py", "evaluator.py", "held_out.py", "config.yaml")
OUTPUT = "openevolve_output"
ADDRESS = "http://127.0.0.1:8000/v1"
"""Where the example's configuration says that the endpoint is."""

UPSTREAM = "import sys; from openevolve.cli import main; sys.exit(main())"
"""What upstream's own command `openevolve-run` does."""

KEY = "OPENAI_API_KEY"
FAKE_KEY = "sk-demo-0000-not-a-real-key"
INHERITED = (KEY, "NO_PROXY", "PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
"""What an ungoverned run finds in its environment: hostile programs run there, and find no key but the fake one."""

SEAT = 'quorum = [{ role = "safety", persons = 1 }]'
SEATS = 'quorum = [{ role = "safety", persons = 1 }, { role = "security", persons = 1 }]'


def example(folder: Path) -> None:
    """Copy the example to a folder of its own, as a user of OpenEvolve would have it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).write_bytes(own(name))


def own(name: str) -> bytes:
    """A file of the example, as it comes with Keyturn."""
    return resources.files("keyturn.subjects.minimise").joinpath(name).read_bytes()


@contextmanager
def endpoint(
    folder: Path, *, seed: int, hostile_every: int = 0, malformed: bool = True, answer_seconds: float = 0.0
) -> Iterator[list[Answer]]:
    """Answer by this seed where the folder's configuration says, with a key in the environment that is none.

    Gives the list into which every answer goes. Hostile programs, if any, write nowhere but in this folder.
    """
    stock = Stock(seed, folder, hostile_every, malformed=malformed, answer_seconds=answer_seconds)
    with Endpoint(stock) as served, _environment({KEY: FAKE_KEY, "NO_PROXY": "127.0.0.1"}):
        text = own("config.yaml").decode().replace(ADDRESS, served.url)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        yield stock.answers


@contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    """These variables, and afterwards those that were there before."""
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def ungoverned(folder: Path, *, iterations: int, timeout_seconds: float = 600.0) -> float:
    """Run the folder with upstream's own command to its end; seconds. Raises Unavailable if it failed."""
    started = time.perf_counter()
    command = [sys.executable, "-c", UPSTREAM, "initial_program.py", "evaluator.py", "--config", "config.yaml"]
    said = folder / "output.txt"
    with said.open("wb") as output:
        done = subprocess.run(
            [*command, "--iterations", str(iterations), "--output", OUTPUT],
            cwd=folder,
            env={name: os.environ[name] for name in INHERITED if name in os.environ} | {"PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=timeout_seconds,
            check=False,
        )
    if done.returncode:
        last = (said.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        help = "`pip install keyturn[openevolve]`" if "No module named 'openevolve'" in last else f"read `{said}`"
        raise Unavailable(f"OpenEvolve did not end well: {last[:200]}", help=help)
    return time.perf_counter() - started


def found(root: Path, folder: Path, *, cast: Sequence[Cast], seed: int) -> Project:
    """Found an exercise project for the example in a folder, with two people for a release.

    The policy is the one that `keyturn openevolve init` writes, but for the people.
    """
    of, founder = openevolve.example(folder), root / "founder"
    founder.mkdir(parents=True, exist_ok=True)
    (founder / openevolve.PROGRAM).write_bytes(of.initial_program.read_bytes())
    people = exercise.enrolled(cast)
    first, _, key = people[0]
    text = openevolve.policy_text(of, founder, name="minimise", person=first, key=key, demo=True)
    alone = person_text(first, ("safety", "security"), key)
    text = text.replace(alone, "\n".join(person_text(*each) for each in people)).replace("seed = 1", f"seed = {seed}")
    head, release, tail = text.partition('action = "release"')
    text = head + release + tail.replace(SEAT, SEATS, 1)
    return exercise.founded(root, text, cast=cast, seed=seed, founder=founder)
