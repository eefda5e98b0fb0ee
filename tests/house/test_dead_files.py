"""No file without a reader: every module is imported, or is a door through which people or processes come in."""

from __future__ import annotations

import ast

from tests.house.ratchet import Violation, hold
from tests.house.reading import Module, module_of, modules
from tests.house.test_imports import imported

DOORS = {
    "keyturn.__main__": "python -m keyturn",
    "keyturn.cli.main": "the console script",
    "keyturn.app": "wires every room",
}


def mentioned(module: Module) -> set[str]:
    """Modules that a file starts or reads by name: a string that is a dotted name or a file name of ours."""
    strings = [n.value for n in ast.walk(module.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return {text for text in strings if text.startswith("keyturn.") or text.endswith(".py")}


def dead(found: tuple[Module, ...]) -> list[Violation]:
    """Modules that no other module imports, starts or reads by name; subjects and adapters are started by people."""
    used: set[str] = set(DOORS)
    for module in found:
        used |= {name for _, name in imported(module) if name != module.name}
        used |= {name for name in mentioned(module) if name != module.name}
    return [
        Violation(module.path, f"{module.path}: nothing imports it; wire it in, or delete it")
        for module in found
        if not module.is_room_door
        and module.room not in {"adapters", "sdk"}
        and module.name not in used
        and module.path.rsplit("/", 1)[-1] not in used
    ]


def test_every_module_has_a_reader() -> None:
    hold("dead_files", dead(modules()))


def test_a_dead_file_is_seen() -> None:
    alone = module_of("src/keyturn/core/alone.py", "'keyturn.core.alone'")
    assert [found.key for found in dead((alone,))] == ["src/keyturn/core/alone.py"]


def test_a_file_started_by_name_lives() -> None:
    child = module_of("src/keyturn/sandbox/child.py", "pass")
    parent = module_of("src/keyturn/app.py", "run(['python', '-m', 'keyturn.sandbox.child'])")
    assert dead((child, parent)) == []
