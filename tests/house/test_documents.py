"""The documents say what the code does: every command and every event, no more and no less."""

from __future__ import annotations

import argparse
import importlib
import re
import tomllib

from keyturn.core.events import EVENTS
from tests.house.ratchet import Violation, excuses, hold
from tests.house.reading import REPO, text_of

PARSER = "keyturn.cli.main"
LINK = r"\]\(([^)#\s]+)(?:#[^)]*)?\)"


def commands(parser: argparse.ArgumentParser, prefix: str = "") -> set[str]:
    """Every command that a parser knows, as words: `run`, `policy check`; a group counts by its members only."""
    found: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                found |= commands(inner, f"{prefix}{name} ") or {f"{prefix}{name}"}
    return found


def commands_in(text: str, known: set[str]) -> tuple[set[str], set[str]]:
    """The commands that a text shows, and the invocations in it that are no command.

    What counts is `keyturn ...` in code marks or at the start of a line of a code block.
    """
    shown, unknown = set(), set()
    for match in re.finditer(r"(?:`|^\s*(?:\$ )?)keyturn ((?:[a-z][a-z-]*\b ?)+)", text, re.MULTILINE):
        words = match.group(1).split()
        hits = [" ".join(words[:length]) for length in (3, 2, 1) if " ".join(words[:length]) in known]
        if hits:
            shown.add(hits[0])
        else:
            unknown.add(" ".join(words[:2]))
    return shown, unknown


def undocumented_commands(parser: argparse.ArgumentParser, text: str) -> list[Violation]:
    """Commands that the text does not show, and shown ones that do not exist."""
    known = commands(parser)
    shown, unknown = commands_in(text, known)
    return [
        Violation(f"keyturn {name}", f"`keyturn {name}` is not in README.md: show it in a line with what it is for")
        for name in known - shown
    ] + [
        Violation(
            f"keyturn {name}", f"README.md shows `keyturn {name}`, which is no command: correct it or take it out"
        )
        for name in unknown
    ]


def undocumented_events(names: set[str], text: str) -> list[Violation]:
    """Events without a row or heading of their own, and documented ones that do not exist."""
    described = set(re.findall(r"^(?:\|\s*|#+\s*)`([A-Z][A-Za-z]+)`", text, re.MULTILINE))
    return [
        Violation(name, f"`{name}` is not described in docs/events.md: give it a row that begins with its name")
        for name in names - described
    ] + [
        Violation(name, f"docs/events.md describes `{name}`, which is no event: take it out")
        for name in described - names
    ]


def awaited(key: str, exists: bool) -> bool:
    """Whether something is listed as still to be written; a listed one that exists fails, so that the list shrinks."""
    listed = key in excuses().get("awaited", {})
    if listed and exists:
        raise AssertionError(f"`{key}` exists now: take it out of [awaited] in tests/house/exceptions.toml")
    return listed


def test_the_readme_shows_every_command() -> None:
    exists = (REPO / "src/keyturn/cli/main.py").is_file() and (REPO / "README.md").is_file()
    if awaited("commands in README.md", exists):
        return
    parser = importlib.import_module(PARSER).build_parser()
    hold("commands", undocumented_commands(parser, text_of("README.md") or ""))


def test_every_event_is_documented() -> None:
    exists = (REPO / "docs/events.md").is_file()
    if awaited("docs/events.md", exists):
        return
    hold("events", undocumented_events(set(EVENTS), text_of("docs/events.md") or ""))


def test_every_link_between_documents_leads_somewhere() -> None:
    pages = [*REPO.glob("*.md"), *REPO.glob("docs/**/*.md")]
    links = [(page, target) for page in pages for target in re.findall(LINK, page.read_text(encoding="utf-8"))]
    inner = [(page, target) for page, target in links if "://" not in target and not target.startswith("mailto:")]
    broken = [f"{page.name} links to `{target}`" for page, target in inner if not (page.parent / target).exists()]
    assert broken == []


def test_the_locks_pin_every_file_and_hold_our_two_dependencies() -> None:
    declared = tomllib.loads(text_of("pyproject.toml") or "")["project"]["dependencies"]
    assert {re.split(r"[<>=~!]", name)[0] for name in declared} == {"cryptography", "rfc8785"}
    run = text_of("requirements/run.txt") or ""
    loops = text_of("requirements/openevolve.txt") or ""
    tests = text_of("requirements/test.txt") or ""
    for lock in (run, loops, tests):
        pinned = re.findall(r"^[a-z0-9_.-]+==[^ ]+ \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
        assert len(pinned) == len(re.findall(r"^[a-z0-9]", lock, re.MULTILINE)) > 2
    fewer, more, all = (set(re.findall(r"^\S+==\S+", lock, re.MULTILINE)) for lock in (run, loops, tests))
    assert fewer <= more <= all


def test_an_undocumented_command_is_seen() -> None:
    parser = argparse.ArgumentParser()
    nouns = parser.add_subparsers()
    nouns.add_parser("run")
    nouns.add_parser("policy").add_subparsers().add_parser("check")
    assert commands(parser) == {"run", "policy check"}
    assert undocumented_commands(parser, "`keyturn run` and\n$ keyturn policy check x.toml") == []
    assert [found.key for found in undocumented_commands(parser, "`keyturn run`")] == ["keyturn policy check"]
    assert "keyturn fly" in [found.key for found in undocumented_commands(parser, "`keyturn fly`")]


def test_an_undocumented_event_is_seen() -> None:
    assert undocumented_events({"HaltProven"}, "| `HaltProven` | the halt is proven |") == []
    assert undocumented_events({"HaltProven"}, "later we mention `HaltProven`")
    assert undocumented_events(set(), "### `HaltForgotten`")
