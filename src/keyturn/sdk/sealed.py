"""A program in its sandbox as its caller sees it: functions to call, values, and handles for what stays inside.

Only plain data comes out. Whether two handles are equal, and whether one is true, is decided here and never inside.
"""

from __future__ import annotations

import sys
from typing import Any, Final, NoReturn

from keyturn.core.terms import Json
from keyturn.sdk.errors import ProgramEnded, ProgramFailed, ProgramRefused, failed
from keyturn.sdk.pipes import Conversation, Output
from keyturn.wire import canonical, values

PIECE_BYTES: Final = 48_000
"""How much of a long text one question carries, written as JSON."""


class Sealed:
    """One program, called through a conversation; safe to use from several threads.

    A function of the program is also an attribute: `program.solve(7)` is `program.call("solve", 7)`. Every method
    raises ProgramFailed for what the program did wrong, and ProgramEnded once it no longer answers.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._functions: dict[str, Function] = {}

    def call(self, name: str, /, *args: object, **kwargs: object) -> Any:
        """Call a function with plain data, arrays and handles of this program; gives what it returns."""
        return self._call({"call": name}, args, kwargs)

    def has(self, name: str) -> bool:
        """Whether the program has something of this name."""
        return self._ask({"has": name}) is True

    def get(self, name: str) -> Any:
        """What stands under a name: plain data, or a handle."""
        return self._ask({"get": name})

    def reload(self) -> None:
        """Execute the same text again, as a new module; what was kept under handles stays."""
        self._functions.clear()
        self._ask({"reload": True})

    def define(self, source: str) -> None:
        """Execute more text in the program's module: how a check puts another function in the place of one."""
        self._functions.clear()
        self._long({"define": ""}, source, "define")

    def seed(self, seed: int) -> None:
        """Begin the program's dice anew."""
        self._ask({"seed": seed})

    def signals(self, *, seconds: float | None = None) -> tuple[str, ...]:
        """What the program was seen to reach for without a reason; evidence, and the program's own word at that."""
        found = self._ask({"signals": True}, seconds=seconds)
        return tuple(word for word in found if isinstance(word, str)) if isinstance(found, list) else ()

    def module(self) -> Module:
        """The program as if it had been imported: what an evaluator takes it for."""
        return Module(self)

    def named(self, name: str) -> Any:
        """What a module's attribute would be; functions are called by their name, so that a call is one question."""
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"a program in a sandbox shows no `{name}`")
        known = self._functions.get(name)
        if known is not None:
            return known
        found = self.get(name)
        if isinstance(found, Handle) and found.kind == "function":
            return self._functions.setdefault(name, Function(self, name))
        return found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.named(name)

    def _call(self, item: Output, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        return self._long(item, values.encode([list(args), kwargs], keep=self._handed), "args")

    def _handed(self, value: object) -> values.Handle:
        """The number of a handle of this program's; anything else must not go in."""
        if isinstance(value, Handle) and value.owner is self:
            return values.Handle(value.number, value.kind)
        raise TypeError(f"a `{type(value).__name__}` cannot be handed to a program in a sandbox: only plain data can")

    def _long(self, item: Output, text: str, key: str) -> Any:
        """Ask with a text that may need several frames."""
        pieces = cut(text)
        with self._conversation.lock:
            if len(pieces) == 1:
                return self._ask({**item, key: text})
            for piece in pieces:
                self._ask({"push": piece})
            return self._ask({**item, "pushed": True})

    def _ask(self, item: Output, *, seconds: float | None = None) -> Any:
        try:
            with self._conversation.lock:
                return self._result(self._conversation.ask(item, seconds=seconds))
        except (ProgramFailed, ProgramEnded, ProgramRefused) as error:
            error.program = self
            raise

    def _result(self, output: Output) -> Any:
        for told in ("raised", "fault"):
            if told in output:
                raise failed(str(output[told]))
        if "missing" in output:
            raise failed(f"AttributeError: the program has no `{output['missing']}`")
        if "handle" in output:
            return self._decoded(canonical.encode({"handle": [output["handle"], output.get("type")]}).decode())
        if "ok" in output:
            return True
        return self._decoded(self._whole(output) if "piece" in output else _text(output.get("value")))

    def _whole(self, output: Output) -> str:
        pieces = [_text(output.get("piece"))]
        length = len(pieces[0])
        while output.get("more") is True and pieces[-1] and length <= values.TEXT_MAX:
            output = self._conversation.ask({"more": len(pieces)})
            pieces.append(_text(output.get("piece")))
            length += len(pieces[-1])
        return "".join(pieces)

    def _decoded(self, text: str) -> Any:
        try:
            return values.decode(text, array=restored, handle=lambda handle: Handle(self, handle.number, handle.kind))
        except ValueError as error:
            raise failed(f"ValueError: what the program returned cannot be read: {error}") from error


class Handle:
    """Something that is no plain data and stays inside; it can be called, asked for attributes, and handed in again."""

    __slots__ = ("kind", "number", "owner")

    def __init__(self, owner: Sealed, number: int, kind: str) -> None:
        self.owner, self.number, self.kind = owner, number, kind

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Call it, as `Sealed.call`."""
        return self.owner._call({"call": "", "on": self.number}, args, kwargs)  # noqa: SLF001 - its other half

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"what stays in a sandbox shows no `{name}`")
        return self.owner._ask({"get": name, "on": self.number})  # noqa: SLF001 - its other half

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other.owner is self.owner and other.number == self.number

    def __hash__(self) -> int:
        return self.number

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a `{self.kind}` that stays in a sandbox can be neither copied nor pickled")

    def __repr__(self) -> str:
        return f"<`{self.kind}` number {self.number}, in its sandbox>"


class Function:
    """A function of a program, called by its name."""

    __slots__ = ("__name__", "_owner")

    def __init__(self, owner: Sealed, name: str) -> None:
        self._owner, self.__name__ = owner, name

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Call it, as `Sealed.call`."""
        return self._owner.call(self.__name__, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<function `{self.__name__}`, in its sandbox>"


class Module:
    """A program that stands where its imported module would stand; nothing can be set in it from outside."""

    __slots__ = ("_owner",)
    _owner: Sealed

    def __init__(self, owner: Sealed) -> None:
        object.__setattr__(self, "_owner", owner)

    def __getattr__(self, name: str) -> Any:
        return self._owner.named(name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"`{name}` cannot be set from outside a sandbox; execute text in it with `define`")

    def __repr__(self) -> str:
        return "<a program, in its sandbox>"


def restored(array: values.Array) -> Any:
    """An array as numpy's own where the caller has numpy loaded; a single number is at least a number."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return array.item() if array.scalar else array
    found = numpy.frombuffer(array.data, dtype=array.dtype).reshape(array.shape)
    return found[()] if array.scalar else found.copy()


def cut(text: str) -> list[str]:
    """A text in pieces whose JSON fits one frame each."""
    pieces: list[str] = []
    start = 0
    while start < len(text) or not pieces:
        length = PIECE_BYTES
        while len(canonical.encode(text[start : start + length])) > PIECE_BYTES and length > 1:
            length //= 2
        pieces.append(text[start : start + length])
        start += length
    return pieces


def _text(found: Json) -> str:
    if not isinstance(found, str):
        raise ProgramEnded("it broke off the conversation: a text was expected")
    return found
