"""What this machine can give: the tiers found out by doing, what is missing for more, and the command that mends it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from keyturn.app.machine import facts as found
from keyturn.app.machine.remedies import Remedy, remedies
from keyturn.app.machine.tiers import Given, tiers
from keyturn.core.errors import KeyturnError
from keyturn.core.policy import CHECK_SECONDS
from keyturn.core.state import State
from keyturn.core.terms import Tier
from keyturn.sandbox import open_backend
from keyturn.sandbox.engines.choice import Choice
from keyturn.sandbox.port import Backend, Capabilities
from keyturn.sandbox.standing import checking
from keyturn.sandbox.standing.judging import Standing


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at: whether it is well, what was found, what to do."""

    name: str
    ok: bool
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Doctor:
    """The best tier that this machine gives now, all tiers with their evidence, what else was seen, and the remedies.

    `check` is the last containment check as it stands now, None where no backend is there that it could speak of;
    `facts` are what all this follows from, for a report.
    """

    tier: Tier
    tiers: tuple[Given, ...]
    rows: tuple[Row, ...]
    remedies: tuple[Remedy, ...]
    weaker: tuple[str, ...]
    check: Standing | None
    facts: found.Facts

    @property
    def lacking(self) -> bool:
        """Whether anything is missing that the default tier needs, or that was looked at and is not well."""
        return any(each.blocks for each in self.remedies) or any(not row.ok for row in self.rows)


@contextmanager
def spare_backend(root: Path | None = None) -> Iterator[Backend]:
    """A backend as the operator of this project chose it, below a folder of its own that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="keyturn-machine-"))
    try:
        backend = open_backend(folder / "run", runtime_cache=folder / "runtime.json", choice=_choice(root))
        try:
            yield backend
        finally:
            backend.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _choice(root: Path | None) -> Choice:
    """The engine that the operator chose for this project, or for the folder that is named where there is none."""
    from keyturn.app.operating import operation
    from keyturn.app.project import open_project

    try:
        place = open_project(root).root
    except KeyturnError:
        place = root or Path.cwd()
    return operation.read(place).sandbox


def capabilities() -> Capabilities:
    """What the sandbox gives here, by launching its probe; nothing of any project is touched."""
    with spare_backend() as backend:
        return backend.capabilities()


def doctor(root: Path | None) -> Doctor:
    """Look by doing: a probe is launched sealed, daemons are asked, nothing of the project is touched."""
    if not found.is_linux():
        here = found.Facts(system=found.system(), root=False, tier=Tier.T0, fault="there is no sandbox for this system")
        return Doctor(Tier.T0, tiers(here), (_python(),), remedies(here), (), None, here)
    project, state = _project(root)
    seconds = state.current.policy.sandbox.check_seconds if state.current else CHECK_SECONDS
    with spare_backend(root) as backend:
        seen = backend.capabilities()
        check = _check(backend, seconds)
    here = bounded(found.gather(seen), check)
    rows = (_system(here), _python(), _account(), project, *_engine(seen), *_drill(state))
    return Doctor(here.tier, tiers(here), rows, remedies(here), seen.weaker, check, here)


def bounded(here: found.Facts, check: Standing | None) -> found.Facts:
    """The facts with a tier no better than a check that speaks of this very machine: a governor attests no more."""
    kept = check.kept if check is not None and check.word in {"stands", "failed"} else None
    if kept is None or kept.tier.rank >= here.tier.rank:
        return here
    return replace(here, tier=kept.tier, breached=kept.score)


def _check(backend: Backend, seconds_max: int) -> Standing | None:
    """The last check, judged for what would be launched now."""
    try:
        return checking.look(backend, seconds_max)
    except KeyturnError:
        return None  # there is no backend of which a check could speak; the remedies say so


def _system(here: found.Facts) -> Row:
    named = here.system.name or here.system.id or here.system.kernel
    inside = f", as it seems in a container ({here.system.container})" if here.system.container else ""
    return Row("system", True, f"{named}, Linux {here.system.release}{inside}, {here.bubblewrap or 'no bubblewrap'}")


def _engine(seen: Capabilities) -> list[Row]:
    """What the engine that the operator chose said of itself; nothing where sandboxes are our own."""
    return [Row(name, True, str(value)) for name, value in seen.kernel.items()] if "engine" in seen.kernel else []


def _drill(state: State) -> list[Row]:
    """How the last drill of a halt went in this project, if it had one."""
    if state.drill is None:
        return []
    said = str(state.drill.receipt.get("state"))
    return [Row("drill", said == "STOPPED", f"the last drill of a halt was {said}", "`keyturn halt --drill`")]


def _python() -> Row:
    version = ".".join(map(str, sys.version_info[:3]))
    return Row("python", sys.version_info >= (3, 11), version, "Python 3.11 or newer")


def _account() -> Row:
    root = os.geteuid() == 0
    what = "root: subjects run as a user of their own" if root else "an ordinary user: subjects share its uid"
    return Row("account", True, what)


def _project(root: Path | None) -> tuple[Row, State]:
    """The project, if there is one here, and its state as far as it can be read."""
    from keyturn.app.operating.opening import is_shared
    from keyturn.app.project import open_project

    try:
        project = open_project(root)
    except KeyturnError as fault:
        return Row("project", root is None, fault.message, fault.help), State()
    try:
        head, state = project.head(), project.state()
    except KeyturnError as fault:
        return Row("project", False, fault.message, fault.help), State()
    where = " in a database" if is_shared(project.root) else ""
    what = f"{project.root.name}: {head.size} entries{where}, {head.published} published"
    return Row("project", True, what), state
