# ruff: noqa: PTH100, PTH118, PTH120, PTH123 - importing pathlib would slow every start; this runs alone, once for each program
"""The runner of a loop's program: loads its text in the sandbox and answers calls over its pipes.

Run alone inside as `python -I /runner/program.py [FILE]`, with `values.py` beside it, so it imports nothing else of
ours. It shares its process with the program and is no wall against it: the sandbox is. What it says about the program
is the program's own word, and what it saw the program reach for is evidence, never containment.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import json
import os
import pkgutil
import random
import re
import struct
import sys
import types
from collections.abc import Callable
from typing import Any, BinaryIO, Self

NAME = "program"
"""What the program's module is called, as where loops load it themselves."""

FRAME_BYTES_MAX = 65_536
PIECE_BYTES = 48_000
"""How much JSON of one long result one answer carries."""

SOURCE_CHARACTERS_MAX = 4 << 20
TOLD_MAX, SIGNALS_MAX, SIGNAL_CHARACTERS_MAX = 500, 64, 200

CREDENTIAL = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
HONEST_NAMES = {"SSLKEYLOGFILE", "TOKENIZERS_PARALLELISM"}
"""Names that honest libraries look up and that hold no credential."""

WRITABLE = ("/tmp/", "/dev/null/")  # noqa: S108 - the sandbox's own
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PATHS = ("remove rmdir mkdir truncate chmod chown utime", "rename link symlink")
TOUCHED = {f"os.{name}": count for count, names in enumerate(PATHS, 1) for name in names.split()}
"""Events that change files, and how many of their first arguments are paths."""

PROCESS = "subprocess.Popen os.exec os.fork os.forkpty os.posix_spawn os.spawn os.system os.kill os.killpg pty.spawn"
SOCKET = """socket.connect socket.bind socket.sendto socket.sendmsg socket.getaddrinfo socket.gethostbyname
    socket.gethostbyaddr socket.getnameinfo"""
CTYPES = """ctypes.dlopen ctypes.dlsym ctypes.dlsym/handle ctypes.call_function ctypes.string_at ctypes.wstring_at
    ctypes.cdata"""
REACHED = {e: word for word, es in {"process": PROCESS, "socket": SOCKET, "ctypes": CTYPES}.items() for e in es.split()}


def load_values() -> Any:
    """The module `values` that lies beside this file, under a name that no program has."""
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "values.py")
    spec = importlib.util.spec_from_file_location("_keyturn_values", place)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # the file is there, or nothing works
    sys.modules["_keyturn_values"] = module
    spec.loader.exec_module(module)  # type: ignore[union-attr]  # a file has a loader
    return module


values = load_values()


class Caught:
    """Whatever was raised within, kept instead of passed on: a program may raise anything, at any place."""

    error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.error = error
        return True


def told(error: BaseException | None) -> str:
    """An exception in one line that is bounded and can be sent, even where its own text raises."""
    name, text = type(error).__name__, ""
    with Caught():
        text = str(error)
    return f"{name}: {text}"[:TOLD_MAX].encode("utf-8", "backslashreplace").decode("utf-8")[:TOLD_MAX]


class Signals:
    """What the program reached for without a reason to: a bounded list of words, each told once."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def note(self, word: str) -> None:
        """Keep one word."""
        word = word[:SIGNAL_CHARACTERS_MAX]
        if word not in self.words and len(self.words) < SIGNALS_MAX:
            self.words.append(word)

    def looked_up(self, name: object) -> None:
        """Note a look into the environment for what looks like a credential."""
        text = os.fsdecode(name) if isinstance(name, str | bytes) else ""
        if CREDENTIAL.search(text) and text.upper() not in HONEST_NAMES:
            self.note(f"environment:{text}")

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note one event of the interpreter's audit; it must never raise, because that would stop the program."""
        word = REACHED.get(event)
        if word is not None:
            self.note(word)
        elif event == "open" and len(arguments) == 3:
            self._opened(arguments[0], arguments[2])
        elif event in TOUCHED:
            for path in arguments[: TOUCHED[event]]:
                self._written(path, making=event == "os.mkdir")
        elif event == "socket.__new__" and arguments[1:2] != (1,):  # an event loop makes itself a pair of family 1
            self.note("socket")

    def _opened(self, path: object, flags: object) -> None:
        if isinstance(flags, int) and flags & WRITING:
            self._written(path)
        elif isinstance(path, str) and path.startswith("/proc/") and path.endswith("/environ"):
            self.note(f"environment:{path}")

    def _written(self, path: object, *, making: bool = False) -> None:
        if isinstance(path, str | bytes):
            place = os.path.abspath(os.fsdecode(path))
            if not (f"{place}/".startswith(WRITABLE) and (making or os.access(os.path.dirname(place), os.F_OK))):
                self.note(f"write:{place}")

    def watch(self) -> None:
        """Begin: from here on every look into the environment and every event is seen."""
        kind = type(os.environ)

        def look(environment: Any, name: Any) -> Any:
            self.looked_up(name)
            return kind.__getitem__(environment, name)

        watched = type(kind.__name__, (kind,), {"__getitem__": look})
        for environment in (os.environ, os.environb):
            environment.__class__ = watched  # the same object, so that copies of its name see it
        sys.addaudithook(self.heard)


class Text(importlib.abc.InspectLoader):
    """Loads a module from a text, so that tracebacks and `inspect` can show it."""

    def __init__(self, source: str, path: str) -> None:
        self._source, self._path = source, path

    def get_source(self, fullname: str) -> str:
        """The text."""
        return self._source

    def get_code(self, fullname: str) -> types.CodeType:
        """The text, compiled; raises SyntaxError and the like."""
        return compiled(self._source, self._path)


compiled = functools.lru_cache(maxsize=8)(importlib.abc.InspectLoader.source_to_code)
"""A text, compiled once, though it may be executed many times."""


class Program:
    """One program: its text, its module once it was executed, and what of it is kept here under a number."""

    def __init__(self, path: str, signals: Signals) -> None:
        self.source, self.fault, self._path, self._signals = "", "", path, signals
        self._module: types.ModuleType | None = None
        self._kept: dict[int, object] = {}
        self._numbers: dict[int, int] = {}
        self._pushed: list[str] = []
        self._pieces: list[str] = []

    def answer(self, items: list[Any]) -> list[dict[str, Any]]:
        """One output for each item, in order; nothing that the program does stops the others from being answered."""
        self._piece_bytes = PIECE_BYTES // max(1, len(items))  # they must all fit one frame
        return [self._item(item) for item in items]

    def _item(self, item: Any) -> dict[str, Any]:
        if isinstance(item, dict):
            for kind, (needs_module, handle) in ITEMS.items():
                if kind in item:
                    if needs_module and self._load():
                        return {"fault": self.fault}
                    with Caught() as caught:
                        return handle(self, item)
                    return {"raised": told(caught.error)}
        return {"fault": "TypeError: this item is not known to the runner"}

    def _load(self) -> str:
        """Execute the text once; what went wrong is told again at every item until a reload."""
        if self._module is None and not self.fault:
            with Caught() as caught:
                loader = Text(self.source, self._path)
                spec = importlib.util.spec_from_loader(NAME, loader)
                module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # a loader always gives one
                module.__file__ = self._path
                sys.modules[NAME] = module
                loader.exec_module(module)
                self._module = module
            self.fault = told(caught.error) if caught.error is not None else ""
        return self.fault

    def has(self, item: Any) -> dict[str, Any]:
        """Whether there is something of this name."""
        return self._value(hasattr(self._holder(item), item["has"]))

    def get(self, item: Any) -> dict[str, Any]:
        """What stands under a name."""
        found, missing = self._named(item, item["get"])
        return missing or self._value(found)

    def call(self, item: Any) -> dict[str, Any]:
        """What a function, or a thing kept (no name), returns; `args` are its arguments, unless they were pushed."""
        text = self._long(item, "args")
        arguments = values.decode(text, array=restored, handle=lambda handle: self._kept[handle.number])
        function, missing = self._named(item, item["call"])
        return missing or self._value(function(*arguments[0], **arguments[1]))

    def push(self, item: Any) -> dict[str, Any]:
        """Take the next part of a text that is too long for one frame."""
        self._pushed.append(item["push"])
        return {"ok": True}

    def more(self, item: Any) -> dict[str, Any]:
        """A further piece of the last long result, by number."""
        number = item["more"]
        return {"piece": self._pieces[number], "more": number + 1 < len(self._pieces)}

    def reload(self, item: Any) -> dict[str, Any]:
        """Execute the same text again, as a new module."""
        self._module, self.fault = None, ""
        return {"fault": self.fault} if self._load() else {"ok": True}

    def define(self, item: Any) -> dict[str, Any]:
        """Execute more text in the module, which a trusted check does to exchange a function."""
        Text(self._long(item, "define"), "define.py").exec_module(self._module)  # type: ignore[arg-type]  # was loaded
        return {"ok": True}

    def seed(self, item: Any) -> dict[str, Any]:
        """Begin all dice anew."""
        seed_dice(item["seed"])
        return {"ok": True}

    def signals(self, item: Any) -> dict[str, Any]:
        """What the program was seen to reach for."""
        return self._value(list(self._signals.words))

    def _holder(self, item: Any) -> object:
        return self._kept[item["on"]] if "on" in item else self._module

    def _named(self, item: Any, name: str) -> tuple[Any, dict[str, Any]]:
        try:
            return getattr(self._holder(item), name) if name else self._holder(item), {}
        except AttributeError:
            return None, {"missing": name}

    def _long(self, item: Any, key: str) -> str:
        if not item.get("pushed"):
            return str(item[key])
        self._pushed, pushed = [], self._pushed
        return "".join(pushed)

    def _keep(self, value: object) -> Any:
        number = self._numbers.setdefault(id(value), len(self._kept))  # what is kept keeps its id
        self._kept[number] = value
        return values.Handle(number, type(value).__name__[:200])

    def _value(self, value: object) -> dict[str, Any]:
        text = values.encode(value, keep=self._keep)
        if text.startswith('{"handle":'):
            number, kind = json.loads(text)["handle"]
            return {"handle": number, "type": kind}
        pieces = cut(text, self._piece_bytes)
        if len(pieces) == 1:
            return {"value": text}
        self._pieces = pieces
        return {"piece": pieces[0], "more": True}


ITEMS: dict[str, tuple[bool, Callable[[Program, Any], dict[str, Any]]]] = {
    "call": (True, Program.call),
    "get": (True, Program.get),
    "has": (True, Program.has),
    "define": (True, Program.define),
    "reload": (False, Program.reload),
    "push": (False, Program.push),
    "more": (False, Program.more),
    "seed": (False, Program.seed),
    "signals": (False, Program.signals),
}
"""What may be asked for, by the key that names it, and whether the program must have been executed for it."""


def cut(text: str, bytes_max: int) -> list[str]:
    """A text of plain JSON in pieces, each of at most so many bytes once it is written as JSON itself."""
    pieces: list[str] = []
    start = 0
    while start < len(text) or not pieces:
        length = bytes_max
        while len(encoded(text[start : start + length])) > bytes_max and length > 1:
            length //= 2
        pieces.append(text[start : start + length])
        start += length
    return pieces


def restored(array: Any) -> Any:
    """An array as numpy's own where numpy is there; a single number otherwise stays a number."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return array.item() if array.scalar else array
    found = numpy.frombuffer(array.data, dtype=array.dtype).reshape(array.shape)
    return found[()] if array.scalar else found.copy()


def seed_dice(seed: int) -> None:
    """Begin the dice of the standard library and of numpy anew."""
    random.seed(seed)
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(seed % (1 << 32))


def warm_up() -> None:
    """Import ahead what nearly every program wants and what would otherwise look like reaching for it."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the same numbers each time, and no threads that count
    sys.dont_write_bytecode = True
    for name in ("ctypes", "numpy.random"):  # numpy is there where the policy's runtime brings it
        with Caught():
            pkgutil.resolve_name(name)


def encoded(value: object) -> bytes:
    """Canonical JSON of what is sent here: texts, whole numbers, lists, and objects with plain keys."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")


def write(sink: int, frame: dict[str, Any]) -> None:
    """Send one frame."""
    body = encoded(frame)
    if len(body) > FRAME_BYTES_MAX:
        fault = {"fault": "ValueError: the outputs of this block do not fit one frame"}
        body = encoded({**frame, "outputs": [fault] * len(frame["outputs"])})
    data = struct.pack(">I", len(body)) + body
    while data:
        data = data[os.write(sink, data) :]


def read(source: BinaryIO) -> dict[str, Any] | None:
    """The next frame; none at the end, or where what comes is no frame."""
    head = source.read(4)
    length = int.from_bytes(head, "big") if len(head) == 4 else 0
    if not 0 < length <= FRAME_BYTES_MAX:
        return None
    frame = json.loads(source.read(length))
    return frame if isinstance(frame, dict) else None


def serve(source: BinaryIO, sink: int, program: Program) -> None:
    """Answer until `bye` or the end."""
    parts: list[str] = []
    while (frame := read(source)) is not None:
        kind = frame["type"]
        if kind == "hello":
            write(sink, {"type": "ready"})
        elif kind == "load":
            parts.append(frame["text"])
            if len(parts) == frame["of"]:
                program.source, parts = "".join(parts), []
        elif kind == "seed":
            seed_dice(frame["seed"])
        elif kind == "ask":
            write(sink, {"type": "answer", "block": frame["block"], "outputs": program.answer(frame["items"])})
        else:
            return


def main() -> None:
    """Take the pipes away from where a program would print, warm up, and serve."""
    source, sink = os.fdopen(os.dup(0), "rb", buffering=FRAME_BYTES_MAX), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    warm_up()
    path, signals = sys.argv[1] if len(sys.argv) > 1 else f"{NAME}.py", Signals()
    program = Program(path, signals)
    if len(sys.argv) > 1:
        with Caught() as caught, open(path, encoding="utf-8") as file:
            program.source = file.read(SOURCE_CHARACTERS_MAX)
        program.fault = told(caught.error) if caught.error is not None else ""
        seed_dice(0)
    sys.argv = [path]
    signals.watch()
    serve(source, sink, program)
    os._exit(0)


if __name__ == "__main__":
    main()
