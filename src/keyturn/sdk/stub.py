"""A file that stands where a program's file would lie, for evaluators that load programs by their path.

Loading it executes the program anew, in its sandbox, and gives a module whose attributes are the program's. The file
holds nothing of the program, and is good only in the process that made it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from keyturn.core.errors import MalformedInput
from keyturn.sdk.sealed import Sealed

_TEXT: Final = """\
# A program that runs sealed is reached through this file; its text is not here. Written by Keyturn.
if __name__ == "__main__":
    raise SystemExit(
        "error: this evaluator starts programs as commands, which is not supported: they run in a sandbox\\n"
        "help: load it with importlib.util.spec_from_file_location and call its functions"
    )
from keyturn.sdk.stub import loaded as __loaded

__getattr__ = __loaded("TOKEN")
"""

_KNOWN: Final[dict[str, Sealed]] = {}
_LOADED: Final[set[str]] = set()


def stub_for(program: Sealed, folder: Path) -> Path:
    """Write the file for one program into a folder; `forget` it when the program has been judged."""
    token = secrets.token_hex(8)
    place = folder / f"program_{token}.py"
    place.write_text(_TEXT.replace("TOKEN", token), encoding="utf-8")
    _KNOWN[token] = program
    return place


def forget(place: Path) -> None:
    """Remove such a file, and what it stands for."""
    token = place.stem.removeprefix("program_")
    _KNOWN.pop(token, None)
    _LOADED.discard(token)
    place.unlink(missing_ok=True)


def was_loaded(place: Path) -> bool:
    """Whether anything has loaded this file since it was written; a score without that says nothing of the program."""
    return place.stem.removeprefix("program_") in _LOADED


def loaded(token: str) -> Callable[[str], Any]:
    """Execute the program anew and give what looks its attributes up; raises what executing it raises."""
    program = _KNOWN.get(token)
    if program is None:
        raise MalformedInput(
            "this file stands for a program of another process, or one that was judged",
            help="load and call programs in the process in which the evaluator was called",
        )
    _LOADED.add(token)
    program.reload()
    return program.named
