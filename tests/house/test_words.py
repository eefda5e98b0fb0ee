"""The words: GLOSSARY.md is read as law, and what people read and what we name is held to it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

import pytest

from tests.house.ratchet import Violation, hold
from tests.house.reading import REPO, Module, comments, module_of, modules, repository_files, text_of

GLOSSARY = "GLOSSARY.md"
QUOTED = re.compile(r"```.*?```|`[^`\n]*`|\"[^\"\n]*\"|“[^”\n]*”|\*[^*\n]+\*", re.DOTALL)
"""What is quoted, or set in italics as a word about which we speak, is not ours to change."""


@dataclass(frozen=True, slots=True)
class Ban:
    """One row of the second table: a pattern, what to say instead, and whether it holds for text, names or both."""

    pattern: re.Pattern[str]
    say: str
    where: str


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading of the glossary, cell by cell; `\\|` stands for a bar."""
    section = (REPO / GLOSSARY).read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows]


def bans() -> list[Ban]:
    """The second table of the glossary, as patterns over whole words."""
    return [
        Ban(re.compile(rf"\b(?:{row[0].strip('`')})\b", re.IGNORECASE), row[1], row[2]) for row in table("Instead of")
    ]


def in_text(place: str, text: str, found: list[Ban]) -> list[Violation]:
    """Banned words in a text that people read; what is quoted is let through, and lines keep their numbers."""
    plain = QUOTED.sub(lambda match: "\n" * match.group().count("\n"), text)
    return [
        Violation(place, f"{place}:{plain.count(chr(10), 0, match.start()) + 1}: `{match.group()}`: say {ban.say}")
        for ban in found
        if ban.where in {"text", "both"}
        for match in ban.pattern.finditer(plain)
    ]


def written(module: Module) -> list[tuple[int, str]]:
    """What people may read in a module: its comments and its strings, each with its line."""
    strings = [
        (node.lineno, node.value)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return strings + comments(module.text)


def named(module: Module) -> list[tuple[int, str]]:
    """The names that a module gives itself; names that it takes from others are theirs."""
    found = [(1, module.name.rsplit(".", 1)[-1])]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append((node.lineno, node.name))
        elif isinstance(node, ast.arg):
            found.append((node.lineno, node.arg))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append((node.lineno, node.id))
    return found


def words_of(name: str) -> str:
    """A name as a sentence: `TrialEnded` and `trial_ended` are both `trial ended`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").strip().lower()


def in_module(module: Module, found: list[Ban]) -> list[Violation]:
    """Banned words in what a module says and in what it calls its own."""
    said = [
        Violation(module.path, re.sub(r":\d+:", f":{line}:", violation.message, count=1))
        for line, text in written(module)
        for violation in in_text(module.path, text, found)
    ]
    called = [
        Violation(module.path, f"{module.path}:{line}: the name `{name}`: say {ban.say}")
        for line, name in named(module)
        for ban in found
        if ban.where in {"names", "both"} and ban.pattern.search(words_of(name))
    ]
    return said + called


def documents() -> list[str]:
    """The texts that people read."""
    return [path for path in repository_files() if path.endswith(".md") and path != GLOSSARY]


def test_the_code_uses_the_words_of_the_glossary() -> None:
    found = bans()
    hold("words", [violation for module in modules() for violation in in_module(module, found)])


def test_the_documents_use_the_words_of_the_glossary() -> None:
    found = bans()
    hold("words_in_documents", [v for path in documents() for v in in_text(path, text_of(path) or "", found)])


def test_every_word_stands_once_with_its_meaning_and_what_it_is_never_for() -> None:
    rows = table("Words")
    assert [row for row in rows if len(row) != 3 or not all(row)] == []
    words = [row[0] for row in rows]
    assert sorted(set(words)) == sorted(words)


def test_the_words_of_the_law_are_all_there() -> None:
    law = """subject lineage founder generation candidate improve artifact weights gate warrant charter trial suite
        grader evidence threshold margin dossier approval quorum permit revocation seal audit pace halt freeze lease
        tripwire incident awareness disclosure clock recall pact checkpoint witness auditor"""
    assert set(law.split()) - {row[0] for row in table("Words")} == set()


def test_every_word_to_avoid_says_what_to_say() -> None:
    assert [row for row in table("Instead of") if len(row) != 3 or row[2] not in {"text", "names", "both"}] == []


@pytest.mark.parametrize(
    "text", ["a saved checkpoint", "the new model version", "a kill-switch", "evals", "Tamper-proof"]
)
def test_a_banned_word_is_seen(text: str) -> None:
    assert in_text("x.md", text, bans())


@pytest.mark.parametrize(
    "text", ["a signed checkpoint", "they say `kill switch`", 'the "kill switch"', "policy version 2"]
)
def test_a_word_in_its_place_is_not(text: str) -> None:
    assert in_text("x.md", text, bans()) == []


def test_a_banned_name_is_seen_and_a_borrowed_one_is_not() -> None:
    found = bans()
    assert in_module(module_of("src/keyturn/core/x.py", "def run_eval(): pass"), found)
    assert in_module(module_of("src/keyturn/core/x.py", "class EvalManager: pass"), found)
    assert in_module(module_of("src/keyturn/core/x.py", "x = library.timestamp()"), found) == []
