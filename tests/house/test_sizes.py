"""Sizes: a file that can be read in one sitting, a function that fits a screen, a room that one can hold in mind."""

from __future__ import annotations

from collections import Counter

from tests.house.ratchet import Violation, hold
from tests.house.reading import Module, functions, module_of, modules

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
ROOM_FILES_MAX = 13


def long_files(module: Module) -> list[Violation]:
    """The file, where it is longer than one sitting."""
    lines = len(module.text.splitlines())
    if lines <= FILE_LINES_MAX:
        return []
    message = f"{module.path} has {lines} lines, at most {FILE_LINES_MAX}; split it where its docstring says `and`"
    return [Violation(module.path, message, lines)]


def long_functions(module: Module) -> list[Violation]:
    """Functions that do not fit a screen, decorators and docstring included."""
    found = []
    for name, node in functions(module.tree):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            message = (
                f"{module.path}:{node.lineno}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX};"
                " give each paragraph of it a name"
            )
            found.append(Violation(f"{module.path}::{name}", message, lines))
    return found


def full_rooms(found: tuple[Module, ...]) -> list[Violation]:
    """Folders with more files than one can hold in mind; the door does not count."""
    folders = Counter(module.path.rsplit("/", 1)[0] for module in found if not module.is_room_door)
    return [
        Violation(folder, f"{folder} has {count} files, at most {ROOM_FILES_MAX}; join what changes together", count)
        for folder, count in folders.items()
        if count > ROOM_FILES_MAX
    ]


def test_no_file_is_longer_than_one_sitting() -> None:
    hold("file_lines", [found for module in modules() for found in long_files(module)])


def test_no_function_is_longer_than_a_screen() -> None:
    hold("function_lines", [found for module in modules() for found in long_functions(module)])


def test_no_room_is_too_full() -> None:
    hold("room_files", full_rooms(modules()))


def test_what_is_too_long_is_seen() -> None:
    body = "\n".join(["def f():", *["    pass"] * FILE_LINES_MAX])
    module = module_of("src/keyturn/core/x.py", body)
    assert [found.size for found in long_files(module)] == [FILE_LINES_MAX + 1]
    assert [found.key for found in long_functions(module)] == ["src/keyturn/core/x.py::f"]


def test_a_full_room_is_seen() -> None:
    files = tuple(module_of(f"src/keyturn/core/x{n}.py", "") for n in range(ROOM_FILES_MAX + 1))
    assert [found.size for found in full_rooms(files)] == [ROOM_FILES_MAX + 1]
