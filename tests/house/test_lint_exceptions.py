"""Every exception to a tool's rule names the rule and states its reason on the same line."""

from __future__ import annotations

import re

import pytest

from tests.house.ratchet import Violation, hold
from tests.house.reading import REPO, Module, comments, module_of, python_files

MARK = re.compile(r"#\s*(noqa|type:\s*ignore|pragma:\s*no cover|ruff:|mypy:)", re.IGNORECASE)
CODED = re.compile(r"noqa:\s*[A-Z]+\d|type:\s*ignore\[[a-z-]+|pragma|ruff:|mypy:", re.IGNORECASE)
REASON = re.compile(
    r"(noqa:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*|type:\s*ignore\[[a-z, -]+\]|no cover|(ruff|mypy):\s*[\w:=, -]+?)"
    r"\s*(#|-|–|—|:)\s*\w.{9,}",
    re.IGNORECASE,
)
"""After the mark comes a dash or a second comment sign, and then at least a few words."""


def unexplained(module: Module) -> list[Violation]:
    """Marks that silence a tool without a code, or without saying why."""
    found = []
    for line, comment in comments(module.text):
        if MARK.search(comment) and not (CODED.search(comment) and REASON.search(comment)):
            message = f"{module.path}:{line}: `{comment}`: name the rule and say why on the same line, or mend the code"
            found.append(Violation(module.path, message))
    return found


def test_every_lint_exception_says_why() -> None:
    hold("lint_exceptions", [found for module in python_files() for found in unexplained(module)])


def test_every_rule_left_out_of_the_linter_says_why() -> None:
    text = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("\nignore = [\n", 1)[1].split("\n]", 1)[0]
    assert [line for line in block.splitlines() if not re.search(r'"[A-Z]+\d+",\s+# .{10,}', line)] == []


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "# noqa: S101",
        "# type: ignore",
        "# type: ignore[misc]",
        "# pragma: no cover",
        "# noqa - because of this",
    ],
)
def test_an_unexplained_exception_is_seen(comment: str) -> None:
    assert unexplained(module_of("src/keyturn/core/x.py", f"x = 1  {comment}\n"))


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa: S101 - the library asks for it",
        "# type: ignore[misc]  # the stub lacks this method",
        "# pragma: no cover - runs in the child",
        "# noqa: S101, BLE001  # a broken rule must hold its gate",
        "# only a comment",
    ],
)
def test_an_explained_one_is_not(comment: str) -> None:
    assert unexplained(module_of("src/keyturn/core/x.py", f"x = 1  {comment}\n")) == []
