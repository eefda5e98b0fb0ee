"""What this machine can give: the sandbox tier found out by doing, and what is missing for more."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from keyturn.app.operating import operation
from keyturn.sandbox import open_backend


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at: whether it is well, what was found, what to do."""

    name: str
    ok: bool
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Doctor:
    """The tier that this machine gives now, how it was found, and in what it is weaker than one would wish."""

    tier: str
    rows: tuple[Row, ...]
    weaker: tuple[str, ...]


def doctor(root: Path | None) -> Doctor:
    """Look by doing: a probe is launched sealed, nothing of the project is touched."""
    folder = Path(tempfile.mkdtemp(prefix="keyturn-doctor-"))
    try:
        choice = operation.read(root or Path.cwd()).sandbox
        backend = open_backend(folder / "run", runtime_cache=folder / "runtime.json", choice=choice)
        try:
            seen = backend.capabilities()
        finally:
            backend.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    rows = [_python(), _account(), _log(root)]
    rows.append(Row("sandbox", not seen.missing, f"tier {seen.tier}, found by launching a probe", ""))
    rows += [Row(each.what, False, each.why, each.remedy) for each in seen.missing]
    rows += [Row(name, True, str(value), "") for name, value in sorted(seen.kernel.items())]
    return Doctor(seen.tier, tuple(rows), seen.weaker)


def _python() -> Row:
    version = ".".join(map(str, sys.version_info[:3]))
    return Row("python", sys.version_info >= (3, 11), version, "Python 3.11 or newer")


def _account() -> Row:
    root = os.geteuid() == 0
    what = "root: subjects run as a user of their own" if root else "an ordinary user: subjects share its uid"
    return Row("account", True, what, "")


def _log(root: Path | None) -> Row:
    from keyturn.app.operating.opening import is_shared
    from keyturn.app.project import open_project
    from keyturn.core.errors import KeyturnError

    try:
        project = open_project(root)
    except KeyturnError as fault:
        return Row("project", root is None, fault.message, fault.help)
    try:
        head = project.head()
    except KeyturnError as fault:
        return Row("project", False, fault.message, fault.help)
    where = " in a database" if is_shared(project.root) else ""
    return Row("project", True, f"{project.root.name}: {head.size} entries{where}, {head.published} published", "")
