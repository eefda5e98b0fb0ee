"""Promise 12: the verifier is small, and loads nothing that it does not need."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import keyturn.verify

ROOM = Path(keyturn.verify.__file__).parent
CODE_LINES_MAX = 600
"""Lines that do something: passivetrings, comments, imports and empty lines are not counted."""

FORBIDDEN = ("sqlite3", "numpy", "socket", "ssl", "urllib.request", "http", "asyncio", "subprocess", "keyturn.flow")
FORBIDDEN_OURS = (
    "keyturn.keys",
    "keyturn.app",
    "keyturn.cli",
    "keyturn.sandbox",
    "keyturn.trials",
    "keyturn.ledger.store",
)


def code_lines(text: str) -> int:
    tree = ast.parse(text)
    passive: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            passive |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        for child in ast.iter_child_nodes(node):
            if (
                isinstance(child, ast.Expr)
                and isinstance(child.value, ast.Constant)
                and isinstance(child.value.value, str)
            ):
                passive |= set(range(child.lineno, (child.end_lineno or child.lineno) + 1))
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - passive)


def test_one_person_can_read_it_in_an_hour():
    found = {path.name: code_lines(path.read_text("utf-8")) for path in sorted(ROOM.glob("*.py"))}
    assert sum(found.values()) <= CODE_LINES_MAX, found


def test_code_lines_are_counted_as_said():
    assert (
        code_lines('"""Doc\nmore."""\n\n# why\nx = 1\n\n\ndef f():\n    """Doc."""\n    return (\n        x\n    )\n')
        == 5
    )


def test_loading_imports_neither_a_database_nor_a_network_nor_the_governor():
    script = "import sys, keyturn.verify.load; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOM.parents[1])},
    )
    loaded = done.stdout.split()
    assert "keyturn.verify.load" in loaded
    wrong = [
        name for name in loaded if name in FORBIDDEN or name.startswith((*FORBIDDEN_OURS, "keyturn.flow", "numpy."))
    ]
    assert wrong == []
