"""The build of `keyturn-verify`: collect what the verifier imports, rename it, and hand it to setuptools.

What belongs to it is not listed anywhere: it is `keyturn.verify.load` and `main.py`, and all that these import.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
NAME = "keyturn_verify"
OURS = re.compile(r"^(\s*(?:from|import) )keyturn\b", re.MULTILINE)


def build_wheel(folder: str, settings: object = None, metadata: object = None) -> str:
    """Make the wheel in `folder`; the same sources give the same bytes."""
    from setuptools import build_meta

    target = Path(folder).resolve()
    os.environ.setdefault("SOURCE_DATE_EPOCH", "1767225600")
    with _staged():
        return build_meta.build_wheel(str(target))


def build_sdist(folder: str, settings: object = None) -> str:
    """Make the source archive in `folder`: what was collected, which then needs setuptools alone."""
    from setuptools import build_meta

    target = Path(folder).resolve()
    with _staged() as stage:
        text = (stage / "pyproject.toml").read_text("utf-8")
        text = text.replace('build-backend = "gather"\nbackend-path = ["."]', 'build-backend = "setuptools.build_meta"')
        (stage / "pyproject.toml").write_text(text, "utf-8")
        return build_meta.build_sdist(str(target))


def needed() -> dict[str, Path]:
    """Every module that the verifier needs, by its dotted name, with its file."""
    found: dict[str, Path] = {}
    waiting = ["keyturn.verify.load", *_imported(HERE / "main.py")]
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is None or name in found:
            continue
        found[name] = path
        waiting += [name.rpartition(".")[0], *_imported(path)]
    return found


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def _file_of(name: str) -> Path | None:
    if name.split(".")[0] != "keyturn":
        return None
    place = REPO / "src" / name.replace(".", "/")
    return next((each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file()), None)


@contextmanager
def _staged() -> Iterator[Path]:
    """A folder that setuptools can build, while this holds; it is the working directory too."""
    with tempfile.TemporaryDirectory() as made:
        stage = Path(made)
        for path in (HERE / "pyproject.toml", HERE / "README.md", REPO / "LICENSE"):
            shutil.copyfile(path, stage / path.name)
        for path in needed().values():
            _put(path, stage / NAME / path.relative_to(REPO / "src" / "keyturn"))
        _put(HERE / "main.py", stage / NAME / "main.py")
        with chdir(stage):
            yield stage


def _put(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(OURS.sub(rf"\1{NAME}", path.read_text("utf-8")), "utf-8")
    place.chmod(0o644)
