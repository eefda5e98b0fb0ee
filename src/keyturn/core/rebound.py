"""Which fixed names a block binds anew: text outside the marks can stand, and still never be what is called.

It reads the text only. What a program does to itself while it runs nobody sees from here; `LIMITATIONS.md` says so.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

Blocks = tuple[tuple[int, int], ...]

_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_CLOSED: Final = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def rebound(tree: ast.Module, blocks: Blocks) -> frozenset[str]:
    """Names of functions, classes, imports and CONSTANTS outside the blocks that a block binds after them."""
    found: set[str] = set()
    for scope in ast.walk(tree):
        if isinstance(scope, ast.Module | ast.ClassDef) and not _in(getattr(scope, "lineno", 0), blocks):
            found |= _rebound(scope, blocks)
    return frozenset(found)


def _rebound(scope: ast.Module | ast.ClassDef, blocks: Blocks) -> set[str]:
    fixed: dict[str, tuple[int, str]] = {}
    found: set[str] = set()
    for statement in scope.body:
        inside = _in(statement.lineno, blocks)
        for name, node, what in _bound(statement):
            if not inside and (what or name.isupper()):
                fixed[name] = (node.lineno, what)
            elif inside and name in fixed and not (what.startswith("import ") and what == fixed[name][1]):
                found.add(name)
    if isinstance(scope, ast.Module):
        found |= {name for name in _claimed(scope, blocks) if name in fixed}
    return found


def _claimed(tree: ast.Module, blocks: Blocks) -> Iterator[str]:
    """Names that functions within blocks declare to be the module's, to bind them later."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global) and _in(node.lineno, blocks):
            yield from node.names


def _bound(node: ast.AST) -> Iterator[tuple[str, ast.stmt | ast.expr | ast.excepthandler | ast.pattern, str]]:
    """Each name that this binds in its own scope: the name, where, and what it is if it is no mere variable."""
    if isinstance(node, _SCOPES):
        yield node.name, node, "definition"
        return
    if isinstance(node, _CLOSED):
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        origin = f"{'.' * node.level}{node.module}" if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            yield alias.asname or alias.name.split(".")[0], node, f"import {origin} {alias.name} {alias.asname}"
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id, node, ""
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name, node, ""
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)


def _in(line: int, blocks: Blocks) -> bool:
    return any(start < line < end for start, end in blocks)
