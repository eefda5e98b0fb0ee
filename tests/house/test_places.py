"""Nothing that is committed names a place: a folder of somebody's machine, or where packages come from."""

from __future__ import annotations

import re

import pytest

from tests.house.ratchet import Violation, hold
from tests.house.reading import repository_files, text_of

# The names are put together from parts, so that this file does not itself name what it looks for.
FOLDERS = [
    "/" + name + "/" for name in ("wo" + "rk", "ro" + "ot", "home/[a-z][a-z0-9_-]*", "Us" + "ers", "op" + "t/py" + "pi")
]
HOSTS = [
    r"py" + r"pi\.(org|python\.org)",
    r"python" + r"hosted\.org",
    r"npm" + r"js\.(org|com)",
    r"crates" + r"\.io",
    r"deb\.deb" + r"ian\.org",
    r"archive\.ubu" + r"ntu\.com",
    r"conda\.ana" + r"conda\.org",
    r"--(extra-)?index-url",
    r"--trusted-host",
    r"--find-links",
]
REMEDIES = {
    "folder": (
        re.compile(r"(?<![\w.~-])(" + "|".join(FOLDERS) + ")"),
        "write the path relative to the repository, or `~`",
    ),
    "host": (re.compile("|".join(HOSTS), re.IGNORECASE), "leave it to the machine's own settings: it may use a mirror"),
    "temporary": (
        re.compile(r"(?<![\w.~-])/tmp/\w"),
        "use `tempfile`; outside tests only the sandbox's own `/tmp` may be named",
    ),
    "number": (re.compile(r"\b(issue|PR|pull request) #?\d+|\bGH-\d+", re.IGNORECASE), "say what the matter was"),
}

EXEMPT = {"tests/house/test_places.py", "LICENSE"}


def named_places(path: str, text: str) -> list[Violation]:
    """Each place that a text names, with its line and what to write instead."""
    found = []
    for kind, (pattern, remedy) in REMEDIES.items():
        if kind == "temporary" and path.startswith(("tests/", "bench/")):
            continue
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Violation(path, f"{path}:{line}: names `{match.group()}`: {remedy}"))
    return found


def test_no_file_names_a_place() -> None:
    paths = [path for path in repository_files() if path not in EXEMPT]
    hold("places", [found for path in paths for found in named_places(path, text_of(path) or "")])


@pytest.mark.parametrize(
    "text",
    ["see /wo" + "rk/main", "/ro" + "ot/.cache", "/home/ada/x", "https://py" + "pi.org/simple", "/tmp/x", "issue #12"],
)
def test_a_named_place_is_seen(text: str) -> None:
    assert named_places("src/keyturn/core/x.py", text)


@pytest.mark.parametrize("text", ["the parent's /tmp is its own", "src/wo" + "rk/x", "homework/x", "~/.config/keyturn"])
def test_what_only_looks_like_one_is_not(text: str) -> None:
    assert named_places("src/keyturn/core/x.py", text) == []
