"""The arrows between the rooms, and the purity of the rooms that decide."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

import pytest

from tests.house.ratchet import Violation, hold
from tests.house.reading import SRC, Module, dotted_name, module_of, modules

LEDGER_PURE = {"tree", "note", "checkpoint", "proof", "tiles", "cosignature", "request"}
"""The files of `ledger/` that are only mathematics and format; `verify/` is built on them."""

ROOMS = {"core", "wire", "ledger", "verify", "keys", "sandbox", "trials", "disclosure", "flow"}

ARROWS: dict[str, set[str]] = {
    "core": set(),
    "wire": {"core"},
    "ledger": {"core", "wire"},
    "verify": {"core", "wire"} | {f"ledger.{name}" for name in LEDGER_PURE},
    "keys": {"core", "wire"},
    "sandbox": {"core"},
    "trials": {"core", "wire"},
    "disclosure": {"core", "wire"},
    "flow": {"core", "wire", "ledger", "verify"},
    "app": ROOMS | {"subjects"},
    "cli": {"app", "core"},
    "web": {"app", "core"},
    "sdk": {"verify", "wire", "core"},
    "adapters": {"sdk", "verify", "wire", "core"},
    "adapters.inspect": {"adapters.inspect", "sandbox", "wire", "core"},
    "subjects": {"wire", "core"},
    "__main__": {"cli"},
    "keyturn": set(),
}
"""Which room may import which; a room may always import itself.

A dotted name is a part of a room with arrows of its own: a provider of sandboxes drives a sandbox, and no log.
"""

PURE_MODULES = {
    "__future__", "abc", "base64", "binascii", "collections", "collections.abc", "dataclasses", "datetime", "enum",
    "fractions", "functools", "hashlib", "hmac", "itertools", "json", "math", "operator", "re", "string", "struct",
    "types", "typing", "unicodedata",
}  # fmt: skip  # a set of words reads best as a block
"""What the standard library offers that is the same on every machine and at every moment."""

PURE_THIRD_PARTY = {"core": set[str](), "wire": {"cryptography", "rfc8785"}, "ledger": {"cryptography"}}

THIRD_PARTY = {"cryptography", "rfc8785"}

BEHIND_A_PORT = {
    "src/keyturn/ledger/postgresql/": {"psycopg"},
    "src/keyturn/ledger/places/s3.py": {"boto3", "botocore"},
    "src/keyturn/sandbox/engines/docker.py": {"docker", "requests"},
    "src/keyturn/sandbox/engines/kubernetes.py": {"kubernetes", "urllib3", "websocket"},
}
"""The adapters that speak with a server of a team's own (docs/decisions/0007), and the library that each may load when
it is opened: never as its file loads, so that nobody else needs it."""

EXACT_MATH = {
    "ceil", "comb", "copysign", "fabs", "floor", "frexp", "fsum", "gcd", "inf", "isclose", "isfinite", "isinf", "isnan",
    "isqrt", "ldexp", "nan", "sqrt", "trunc", "ulp", "nextafter",
}  # fmt: skip  # a set of words reads best as a block
"""What `math` computes exactly or rounds correctly, so that a replay agrees to the bit on any machine."""

IMPURE_CALLS = {
    "open": "hand the bytes in",
    "input": "hand the text in",
    "print": "return what is to be shown; `cli` shows it",
    "hash": "use hashlib: `hash` differs from process to process",
    "id": "use an id from the log: `id` differs from run to run",
    "datetime.now": "take `now: Instant` as an argument",
    "datetime.utcnow": "take `now: Instant` as an argument",
    "datetime.today": "take `now: Instant` as an argument",
    "date.today": "take `now: Instant` as an argument",
    "__import__": "import at the top of the file",
}


def imported(module: Module) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, with its line; `from room import file` counts as `room.file`.

    A room's door exports nothing, so what is imported from a room is a file of it.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                is_room = base.split(".")[0] == "keyturn" and (SRC / base.replace(".", "/")).is_dir()
                yield node.lineno, f"{base}.{alias.name}" if is_room else base


def _for_types_only(tree: ast.Module) -> set[int]:
    """The lines under `if TYPE_CHECKING:`: they never run, so they are no dependency and no impurity."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and dotted_name(node.test).endswith("TYPE_CHECKING"):
            for inner in node.body:
                lines.update(range(inner.lineno, (inner.end_lineno or inner.lineno) + 1))
    return lines


def _allowed(room: str, target: str) -> bool:
    """Whether `room` may import `target`, a dotted name without `keyturn.`."""
    head = target.split(".")[0]
    allowed = ARROWS.get(room, set())
    return head in {room, "__version__"} or head in allowed or ".".join(target.split(".")[:2]) in allowed


def wrong_arrows(module: Module) -> list[Violation]:
    """The imports of a file that go against the arrows."""
    found = []
    if module.room not in ARROWS:
        message = (
            f"{module.path}: the room `{module.room}` is not in the table of tests/house/test_imports.py; add its row"
        )
        return [Violation(module.room, message)]
    part = ".".join(module.name.split(".")[1:3])
    room = part if part in ARROWS else module.room
    for line, name in imported(module):
        if name.startswith("keyturn.") and not _allowed(room, name.removeprefix("keyturn.")):
            may = ", ".join(sorted(ARROWS[room])) or "nothing of ours"
            message = (
                f"{module.path}:{line}: `{module.room}` must not import `{name}`, only {may};"
                " move the shared part inwards, or take it through a port that `app` fills"
            )
            found.append(Violation(module.path, message))
    return found


def is_pure(module: Module) -> bool:
    """Whether a file belongs to the part that must give the same answer for the same input, for ever."""
    stem = module.name.rsplit(".", 1)[-1]
    return module.room in {"core", "wire"} or (module.room == "ledger" and stem in LEDGER_PURE)


def impurities(module: Module) -> list[Violation]:
    """What a pure file imports or calls that a clock, a disk, dice or another machine could change."""
    found = []
    unrun = _for_types_only(module.tree)
    for line, name in imported(module):
        if line in unrun:
            continue
        third = PURE_THIRD_PARTY.get(module.room, set())
        if not name.startswith("keyturn") and name not in PURE_MODULES and name.split(".")[0] not in third:
            message = (
                f"{module.path}:{line}: `{module.room}` is pure and must not import `{name}`;"
                " let the caller hand in what it would have said"
            )
            found.append(Violation(module.path, message))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            called = dotted_name(node.func)
            short = ".".join(called.split(".")[-2:])
            remedy = IMPURE_CALLS.get(called) or (IMPURE_CALLS.get(short) if "." in short else None)
            if remedy:
                message = f"{module.path}:{node.lineno}: `{called}` in the pure room `{module.room}`: {remedy}"
                found.append(Violation(module.path, message))
    return found


def inexact_math(module: Module) -> list[Violation]:
    """Functions of `math` whose last bit depends on the machine's C library."""
    names = [
        (node.lineno, node.attr)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and dotted_name(node.value) == "math" and node.attr not in EXACT_MATH
    ]
    remedy = "use additions, multiplications and exponents, so that a replay agrees to the bit"
    return [Violation(module.path, f"{module.path}:{line}: `math.{name}` in core: {remedy}") for line, name in names]


def foreign_imports(module: Module) -> list[Violation]:
    """Imports of packages that are not among our two dependencies; only subjects and adapters may bring their own.

    What an adapter behind a port of the log loads when it is opened is let through there, and nowhere else.
    """
    if module.room in {"subjects", "adapters"}:
        return []
    found = []
    unrun = _for_types_only(module.tree)
    late = {name for place, names in BEHIND_A_PORT.items() if module.path.startswith(place) for name in names}
    loaded = {node.lineno for node in module.tree.body}
    for line, name in imported(module):
        if line in unrun:
            continue
        head = name.split(".")[0]
        if head in late and line not in loaded:
            continue
        if head != "keyturn" and head not in sys.stdlib_module_names and head not in THIRD_PARTY:
            message = (
                f"{module.path}:{line}: `{head}` is not one of our two dependencies;"
                " do without it, or keep it behind a port in `adapters/`"
            )
            found.append(Violation(module.path, message))
    return found


def heavy(module: Module) -> bool:
    """Whether loading a door loads more than itself and the standard library."""
    top = [node for node in module.tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    only_top = Module(module.path, module.name, module.room, module.text, ast.Module(list(top), []))
    return any(name.split(".")[0] not in sys.stdlib_module_names for _, name in imported(only_top))


def test_every_room_imports_only_what_its_arrow_allows() -> None:
    hold("arrows", [found for module in modules() for found in wrong_arrows(module)])


def test_the_pure_rooms_see_no_clock_no_disk_and_no_dice() -> None:
    hold("pure", [found for module in modules() if is_pure(module) for found in impurities(module)])


def test_core_computes_the_same_bits_on_every_machine() -> None:
    hold("inexact_math", [found for module in modules() if module.room == "core" for found in inexact_math(module)])


def test_there_are_two_dependencies() -> None:
    hold("foreign", [found for module in modules() for found in foreign_imports(module)])


def test_a_door_imports_nothing_and_says_never() -> None:
    doors = [module for module in modules() if module.is_room_door]
    lacking = [m for m in doors if m.room != "keyturn" and "never" not in (ast.get_docstring(m.tree) or "").lower()]
    loaded = [m for m in doors if heavy(m)]
    hold(
        "doors",
        [Violation(m.path, f"{m.path}: say in the docstring what this room never does") for m in lacking]
        + [
            Violation(m.path, f"{m.path}: import nothing of ours as it loads, so that one file can be read alone")
            for m in loaded
        ],
    )


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("src/keyturn/core/x.py", "from keyturn.wire import canonical"),
        ("src/keyturn/wire/x.py", "import keyturn.ledger.store"),
        ("src/keyturn/verify/x.py", "def f():\n    from keyturn.ledger.store import Store"),
        ("src/keyturn/verify/x.py", "from keyturn.ledger import store"),
        ("src/keyturn/flow/x.py", "from keyturn.sandbox import run"),
        ("src/keyturn/cli/x.py", "from keyturn.flow.halt import halt"),
        ("src/keyturn/flow/x.py", "from keyturn.subjects.connect4 import banks"),
        ("src/keyturn/adapters/x.py", "from keyturn.app.project import Project"),
        ("src/keyturn/adapters/x.py", "from keyturn.sandbox import port"),
        ("src/keyturn/adapters/inspect/x.py", "from keyturn.sdk import client"),
        ("src/keyturn/adapters/inspect/x.py", "from keyturn.adapters.openevolve import run"),
        ("src/keyturn/app/x.py", "from keyturn.adapters import openevolve"),
        ("src/keyturn/unheard/x.py", "pass"),
    ],
)
def test_an_import_against_the_arrows_is_seen(path: str, text: str) -> None:
    assert wrong_arrows(module_of(path, text))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("src/keyturn/wire/x.py", "from keyturn.core.terms import Json"),
        ("src/keyturn/verify/x.py", "from keyturn.ledger.tree import root"),
        ("src/keyturn/app.py", "from keyturn.sandbox import run"),
        ("src/keyturn/adapters/inspect/x.py", "from keyturn.sandbox import run\nimport keyturn.adapters.inspect.y"),
        ("src/keyturn/cli/x.py", "from keyturn import __version__"),
    ],
)
def test_an_import_along_the_arrows_is_not(path: str, text: str) -> None:
    assert wrong_arrows(module_of(path, text)) == []


@pytest.mark.parametrize(
    "text",
    ["import time", "from pathlib import Path", "import os.path", "import cryptography", "open('x')",
     "import datetime\ndatetime.datetime.now()", "hash('x')"],
)  # fmt: skip  # one case a word
def test_an_impurity_of_core_is_seen(text: str) -> None:
    assert impurities(module_of("src/keyturn/core/x.py", text))


def test_inexact_arithmetic_is_seen() -> None:
    assert inexact_math(module_of("src/keyturn/core/x.py", "import math\nmath.exp(1)"))
    assert inexact_math(module_of("src/keyturn/core/x.py", "import math\nmath.frexp(1)")) == []


def test_a_door_that_loads_a_room_is_seen() -> None:
    assert heavy(module_of("src/keyturn/sandbox/__init__.py", "from keyturn.sandbox.run import go"))
    assert not heavy(module_of("src/keyturn/sandbox/__init__.py", "def f():\n    from keyturn.sandbox.run import go"))


def test_a_third_dependency_is_seen() -> None:
    assert foreign_imports(module_of("src/keyturn/flow/x.py", "def f():\n    import numpy"))


@pytest.mark.parametrize(
    ("path", "text", "seen"),
    [
        ("src/keyturn/ledger/postgresql/x.py", "def f():\n    import psycopg", False),
        ("src/keyturn/ledger/postgresql/x.py", "import psycopg", True),
        ("src/keyturn/ledger/postgresql/x.py", "def f():\n    import boto3", True),
        ("src/keyturn/ledger/places/s3.py", "def f():\n    from botocore.config import Config", False),
        ("src/keyturn/ledger/places/folder.py", "def f():\n    import boto3", True),
        ("src/keyturn/app/x.py", "def f():\n    import psycopg", True),
    ],
)
def test_a_library_behind_a_port_is_let_through_there_and_only_once_it_is_opened(
    path: str, text: str, seen: bool
) -> None:
    assert bool(foreign_imports(module_of(path, text))) is seen
