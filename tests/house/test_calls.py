"""Calls that have no place here, each with what to do instead."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest

from tests.house.ratchet import Violation, hold
from tests.house.reading import Module, dotted_name, module_of, modules

NOWHERE = {
    "eval": "read data with `keyturn.wire.canonical` or `tomllib`",
    "exec": "write the code down where it can be read and tested",
    "__import__": "use an import statement",
    "os.system": "use `subprocess.run` with a list",
    "os.popen": "use `subprocess.run` with a list",
    "datetime.now": "take `now: Instant` as an argument",
    "datetime.utcnow": "take `now: Instant` as an argument",
    "datetime.today": "take `now: Instant` as an argument",
    "date.today": "take `now: Instant` as an argument",
    "tempfile.mktemp": "use `tempfile.mkdtemp`: a name alone can be taken by another",
    "yaml.load": "use TOML or JSON",
    "sys.setrecursionlimit": "limit the depth of what is read",
}
"""Forbidden in all of `src`."""

ONLY_IN = {
    "print": ({"cli", "subjects", "__main__"}, "return what is to be shown; `cli` shows it"),
    "input": ({"cli"}, "ask in `cli`, hand in the answer"),
    "time.time": ({"flow", "app", "cli", "sandbox", "web"}, "take `now: Instant` as an argument"),
    "time.time_ns": ({"flow", "app", "cli", "sandbox", "web"}, "take `now: Instant` as an argument"),
    "time.sleep": ({"flow", "app", "cli", "sandbox", "trials", "web"}, "wait on an event or a deadline in the shell"),
    "sys.exit": ({"cli", "keys", "subjects", "sandbox", "__main__"}, "raise an error that says who is at fault"),
    "os._exit": ({"sandbox"}, "raise an error that says who is at fault"),
    "importlib.import_module": ({"app", "cli", "adapters"}, "import at the top, or lazily with an import statement"),
}
"""Allowed in some rooms only."""

PICKLES = {"pickle", "cPickle", "_pickle", "shelve", "marshal", "dill", "cloudpickle", "joblib"}


def _dotted_matches(called: str, pattern: str) -> bool:
    return called == pattern or ("." in pattern and called.endswith("." + pattern))


def banned_calls(module: Module) -> list[Violation]:
    """Calls by name that the two tables forbid here."""
    found = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        called = dotted_name(node.func)
        for pattern, remedy in NOWHERE.items():
            if _dotted_matches(called, pattern):
                found.append((node.lineno, called, remedy))
        for pattern, (rooms, remedy) in ONLY_IN.items():
            if _dotted_matches(called, pattern) and module.room not in rooms:
                found.append((node.lineno, called, remedy))
    return [_violation(module, line, f"`{called}`", remedy) for line, called, remedy in found]


def bare_asserts(module: Module) -> list[Violation]:
    """`assert` vanishes under `python -O`; an invariant must not."""
    remedy = "use `invariant` from keyturn.core.errors, which `python -O` cannot remove"
    return [
        _violation(module, node.lineno, "`assert`", remedy)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assert) and module.room != "subjects"
    ]


def shells(module: Module) -> list[Violation]:
    """Commands that a shell would read once more."""
    return [
        _violation(module, node.lineno, "`shell=`", "hand the command over as a list")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "shell" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    ]


def pickles(module: Module) -> list[Violation]:
    """Formats whose reading runs what was written."""
    found = []
    for node in ast.walk(module.tree):
        line = getattr(node, "lineno", 1)
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name.split(".")[0] in PICKLES for name in names):
            found.append(_violation(module, line, "`pickle` or its like", "reading it runs it; use canonical JSON"))
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and _is_true(node.value):
            found.append(_violation(module, line, "`allow_pickle`", "reading it runs it; store plain arrays"))
    return found


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def swallowed(module: Module) -> list[Violation]:
    """Handlers of everything that do not raise again: doubt would turn into silence."""
    remedy = "catch what you expect, or raise again: a swallowed error is a doubt that nobody sees"
    return [
        _violation(module, node.lineno, "a handler of every exception that raises nothing", remedy)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler)
        and _catches_all(node)
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    ]


def _catches_all(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or dotted_name(kind) in {"Exception", "BaseException"} for kind in kinds)


def _violation(module: Module, line: int, what: str, remedy: str) -> Violation:
    return Violation(module.path, f"{module.path}:{line}: {what} in `{module.room}`: {remedy}")


RULES: dict[str, Callable[[Module], list[Violation]]] = {
    "calls": banned_calls,
    "asserts": bare_asserts,
    "shells": shells,
    "pickles": pickles,
    "swallowed": swallowed,
}


@pytest.mark.parametrize("rule", RULES)
def test_no_banned_call_is_in_src(rule: str) -> None:
    hold(rule, [found for module in modules() for found in RULES[rule](module)])


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("calls", "eval('1')"),
        ("calls", "import datetime\nx = datetime.datetime.now()"),
        ("calls", "print(1)"),
        ("calls", "import time\ntime.time()"),
        ("asserts", "assert True"),
        ("shells", "import subprocess\nsubprocess.run('x', shell=True)"),
        ("pickles", "import pickle"),
        ("pickles", "from pickle import loads"),
        ("pickles", "import numpy\nnumpy.load('x', allow_pickle=True)"),
        ("swallowed", "try:\n    pass\nexcept Exception:\n    pass"),
        ("swallowed", "try:\n    pass\nexcept:\n    pass"),
        ("swallowed", "try:\n    pass\nexcept (ValueError, BaseException) as e:\n    print(e)"),
    ],
)
def test_a_banned_call_is_seen(rule: str, text: str) -> None:
    assert RULES[rule](module_of("src/keyturn/trials/x.py", text))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        ("calls", "src/keyturn/cli/x.py", "print(1)"),
        ("calls", "src/keyturn/sandbox/x.py", "import time\ntime.time()"),
        ("calls", "src/keyturn/core/x.py", "evaluate(1)"),
        ("swallowed", "src/keyturn/flow/x.py", "try:\n    pass\nexcept Exception:\n    raise ValueError from None"),
        ("swallowed", "src/keyturn/flow/x.py", "try:\n    pass\nexcept OSError:\n    pass"),
    ],
)
def test_a_call_in_its_place_is_not(rule: str, path: str, text: str) -> None:
    assert RULES[rule](module_of(path, text)) == []
