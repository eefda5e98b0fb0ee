"""An operator's file, loaded from exactly the bytes whose digest is told; it may import what lies beside it.

It never loads a program: those run sealed.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import CodeType, ModuleType

from keyturn.core.errors import MalformedInput


@dataclass(frozen=True, slots=True)
class Pinned:
    """One file of the operator's, read once."""

    path: Path
    data: bytes

    @property
    def digest(self) -> str:
        """What people sign for."""
        return f"sha256:{sha256(self.data).hexdigest()}"

    def load(self, name: str) -> ModuleType:
        """Execute it as a module of this name; raises what it raises."""
        folder = str(self.path.parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        loader = _Bytes(self)
        module = ModuleType(name)
        module.__file__, module.__loader__ = str(self.path), loader
        module.__spec__ = importlib.util.spec_from_loader(name, loader, origin=str(self.path))
        sys.modules[name] = module
        loader.exec_module(module)
        return module


def pin(path: Path) -> Pinned:
    """Read a file once; raises MalformedInput where that cannot be done."""
    try:
        return Pinned(path.resolve(), path.read_bytes())
    except OSError as error:
        raise MalformedInput(f"`{path}` cannot be read: {error.strerror}", help="name a Python file") from error


class _Bytes(importlib.abc.InspectLoader):
    """Gives the bytes that were read, whatever lies on the disk by now."""

    def __init__(self, pinned: Pinned) -> None:
        self._pinned = pinned

    def get_source(self, fullname: str) -> str:
        """The text."""
        return importlib.util.decode_source(self._pinned.data)

    def get_code(self, fullname: str) -> CodeType:
        """The text, compiled."""
        return self.source_to_code(self._pinned.data, str(self._pinned.path))
