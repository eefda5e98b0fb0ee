"""What the house tests look at: the parsed modules of `src/`, and the text files that the repository holds."""

from __future__ import annotations

import ast
import functools
import io
import os
import tokenize
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
SRC = REPO / "src"

MADE = {"__pycache__", "build", "dist", "demo-out", ".git"}
"""What is made here, not written."""


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file: where it lies, its dotted name, its room, its text and its tree."""

    path: str
    name: str
    room: str
    text: str
    tree: ast.Module

    @property
    def is_room_door(self) -> bool:
        """Whether this is the `__init__.py` of a package."""
        return self.path.endswith("__init__.py")


def module_of(path: str, text: str) -> Module:
    """Read one file as a module; `path` is relative to the repository.

    The room is the folder under `keyturn`, or the file itself where it lies directly in `keyturn`.
    """
    parts = Path(path).with_suffix("").parts
    dotted = [part for part in parts if part not in {"src", "__init__"}]
    room = dotted[1] if len(dotted) > 1 else dotted[0]
    return Module(path, ".".join(dotted), room, text, ast.parse(text, filename=path))


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every module under `src/keyturn`, in order of path."""
    files = sorted((SRC / "keyturn").rglob("*.py"))
    return tuple(module_of(str(file.relative_to(REPO)), file.read_text(encoding="utf-8")) for file in files)


@functools.cache
def python_files() -> tuple[Module, ...]:
    """Every Python file of the repository: `src`, `tests` and `bench`."""
    found = [path for path in repository_files() if path.endswith(".py")]
    return tuple(module_of(path, (REPO / path).read_text(encoding="utf-8")) for path in found)


@functools.cache
def repository_files() -> tuple[str, ...]:
    """Every file that belongs to the repository, without asking git: a tarball is held to the same rules."""
    found: list[str] = []
    for folder, inner, files in os.walk(REPO):
        inner[:] = [name for name in inner if name not in MADE and (name[0] != "." or name in {".ci", ".github"})]
        inner[:] = [name for name in inner if not name.endswith(".egg-info")]
        found += [str((Path(folder) / name).relative_to(REPO)) for name in files if name not in MADE]
    return tuple(sorted(found))


@functools.cache
def text_of(path: str) -> str | None:
    """The text of a file of the repository; None where it is not text."""
    raw = (REPO / path).read_bytes()
    try:
        return None if b"\0" in raw else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def functions(tree: ast.Module) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its qualified name, the nested ones included."""
    found: list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]] = []

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append((prefix + child.name, child))
                walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                walk(child, f"{prefix}{child.name}.")
            else:
                walk(child, prefix)

    walk(tree, "")
    return found


def dotted_name(node: ast.AST) -> str:
    """`a.b.c` for an attribute chain, `a` for a name, and nothing for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted_name(node.value)}.{node.attr}".lstrip(".")
    return ""


def comments(text: str) -> list[tuple[int, str]]:
    """Every comment of a Python text, with its line."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
