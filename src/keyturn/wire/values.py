"""Plain data as text, between a sealed program and whoever calls it: numbers, text, bytes, containers, arrays.

It imports nothing of ours, because it also lies beside the runner inside the sandbox. It never builds anything but
plain data, never calls what it is given, and refuses what is too deep or too large before it grows.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

DEPTH_MAX: Final = 64
"""How many containers may lie inside one another."""

NODES_MAX: Final = 1_000_000
"""How many values one text may hold, containers included."""

TEXT_MAX: Final = 32 << 20
"""How many characters one text may have."""

_DTYPE = re.compile(r"[<>|=](b1|i[1248]|u[1248]|f[248]|c8|c16)")
_NUMBERS = {"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
            "f2": "e", "f4": "f", "f8": "d", "c8": "ff", "c16": "dd"}  # fmt: skip  # a table of formats
_INTEGER_MAX = 2**53 - 1
_AXES_MAX = 32
_AXIS_MAX = 1 << 40
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_CLASH_MAX = 64
"""How many members of a dict or set may share one hash: who picks many such keeps a reader busy for hours."""


@dataclass(frozen=True, slots=True)
class Array:
    """Numbers in C order, as numpy names their kind; `scalar` where it was a single number, not an array of none."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes
    scalar: bool = False

    def item(self) -> bool | int | float | complex:
        """The number of a scalar, or the first of an array, without numpy; raises ValueError where there is none."""
        kind = self.dtype[1:]
        if len(self.data) < int(kind[1:]):
            raise ValueError("an array without numbers has no first one")
        order = ">" if self.dtype[0] == ">" else "<"
        found = struct.unpack_from(order + _NUMBERS[kind], self.data)
        number: bool | int | float | complex = complex(*found) if kind[0] == "c" else found[0]
        return number


@dataclass(frozen=True, slots=True)
class Handle:
    """What is no plain data and stays where it is: its number there, and the name of its type, for people."""

    number: int
    kind: str


def encode(value: object, *, keep: Callable[[object], Handle] | None = None) -> str:
    """Return `value` as ASCII text that `decode` reads back as an equal value, with arrays as `Array`.

    What is no plain data is given to `keep`, which says under which number it stays. Without it, TypeError is raised;
    ValueError for what is nested too deep or too large. Subclasses of plain types are written as those.
    """
    tree = _Writer(keep).tree(value, DEPTH_MAX)
    text = json.dumps(tree, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    if len(text) > TEXT_MAX:
        raise ValueError(f"the value needs {len(text)} characters; {TEXT_MAX} is the limit")
    return text


def decode(
    text: str,
    *,
    array: Callable[[Array], object] | None = None,
    handle: Callable[[Handle], object] | None = None,
) -> object:
    """Read what `encode` wrote; `array` and `handle` turn those two into what the caller wants in their place.

    Raises ValueError for anything else, whoever wrote it: nothing is repaired, and nothing of it is run.
    """
    if len(text) > TEXT_MAX:
        raise ValueError(f"found {len(text)} characters; {TEXT_MAX} is the limit")
    if _marks(text) > NODES_MAX * 3 and _marks(_STRING.sub("", text)) > NODES_MAX * 3:
        raise ValueError(f"found more than {NODES_MAX} values in one text")
    try:
        tree = json.loads(text, parse_constant=_refuse, object_pairs_hook=_tag)
    except RecursionError as error:
        raise ValueError(f"found a value nested deeper than {DEPTH_MAX} levels") from error
    return _Reader(array, handle).value(tree, DEPTH_MAX)


class _Writer:
    """Plain data to a tree of JSON, within a budget that shared parts use up each time they are met."""

    __slots__ = ("_characters", "_keep", "_nodes")

    def __init__(self, keep: Callable[[object], Handle] | None) -> None:
        self._keep, self._nodes, self._characters = keep, NODES_MAX, TEXT_MAX

    def tree(self, value: Any, depth: int) -> Any:
        """One value; the exact types first, because they are nearly all there is."""
        self._nodes -= 1
        if self._nodes < 0:
            raise ValueError(f"the value holds more than {NODES_MAX} values")
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            self._spend(len(value))
            return value
        if kind is int:
            return self._integer(value)
        if kind is float:
            return _float(value)
        if kind is list or kind is tuple or kind is dict:
            return self._container(value, depth)
        return self._rest(value, depth)

    def _rest(self, value: object, depth: int) -> Any:
        array = _array_of(value)
        if array is not None:
            return {"scalar" if array.scalar else "array": [array.dtype, list(array.shape), self._bytes(array.data)]}
        if isinstance(value, Handle):
            return {"handle": [value.number, value.kind]}
        if isinstance(value, bytes | bytearray):
            return {"bytes": self._bytes(bytes(value))}
        if isinstance(value, complex):
            return {"complex": [_float(value.real), _float(value.imag)]}
        if isinstance(value, list | tuple | dict | set | frozenset):
            return self._container(value, depth)
        if isinstance(value, str):
            return self.tree(str.__str__(value), depth)  # the plain type's own method: a subclass has no say
        if isinstance(value, int):
            return self.tree(int.__int__(value), depth)
        if isinstance(value, float):
            return self.tree(float.__float__(value), depth)
        if self._keep is None:
            raise TypeError(f"a value of type `{type(value).__name__}` is no plain data")
        kept = self._keep(value)
        return {"handle": [kept.number, kept.kind]}

    def _container(self, value: Any, depth: int) -> Any:
        if depth == 0:
            raise ValueError(f"the value is nested deeper than {DEPTH_MAX} levels")
        if isinstance(value, dict):
            return {"dict": [[self.tree(k, depth - 1), self.tree(v, depth - 1)] for k, v in dict.items(value)]}
        if isinstance(value, list):
            return [self.tree(item, depth - 1) for item in list.__iter__(value)]
        name, kind = next((k.__name__, k) for k in (tuple, set, frozenset) if isinstance(value, k))
        return {name: [self.tree(item, depth - 1) for item in kind.__iter__(value)]}

    def _integer(self, value: int) -> Any:
        if abs(value) <= _INTEGER_MAX:
            return value
        self._spend(value.bit_length() // 4)
        return {"int": hex(value)}

    def _bytes(self, value: bytes) -> str:
        self._spend(len(value) * 4 // 3)
        return base64.b64encode(value).decode("ascii")

    def _spend(self, characters: int) -> None:
        self._characters -= characters
        if self._characters < 0:
            raise ValueError(f"the value needs more than {TEXT_MAX} characters")


def _float(value: float) -> Any:
    return float(value) if math.isfinite(value) else {"float": repr(float(value))}


def _array_of(value: Any) -> Array | None:
    """An array or number of numpy, known by how it looks, because numpy itself need not be there."""
    if isinstance(value, Array):
        return value
    if not any(base.__module__ == "numpy" for base in type(value).__mro__):
        return None
    kind, shape, tobytes = (getattr(value, name, None) for name in ("dtype", "shape", "tobytes"))
    dtype = getattr(kind, "str", None)
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype) or not isinstance(shape, tuple) or not tobytes:
        return None
    return Array(dtype, tuple(map(int, shape)), bytes(tobytes()), scalar=not hasattr(type(value), "__setitem__"))


class _Reader:
    """A tree of JSON to plain data; every tag says exactly what may stand in it."""

    __slots__ = ("_array", "_handle")

    def __init__(self, array: Callable[[Array], object] | None, handle: Callable[[Handle], object] | None) -> None:
        self._array, self._handle = array, handle

    def value(self, tree: Any, depth: int) -> object:
        """One value of the tree."""
        if isinstance(tree, list):
            return self.items(tree, depth)
        if not isinstance(tree, _Tag):
            return tree
        read = _TAGS.get(tree.name)
        if read is None:
            raise ValueError(f"found the tag `{tree.name[:40]}`, which is not known")
        try:
            return read(self, tree.body, depth)
        except TypeError as error:
            raise ValueError("found a key or member that has no hash") from error

    def items(self, tree: Any, depth: int) -> list[object]:
        """The values of a list."""
        if depth == 0:
            raise ValueError(f"found a value nested deeper than {DEPTH_MAX} levels")
        return [self.value(item, depth - 1) for item in _list(tree)]

    def pairs(self, tree: Any, depth: int) -> list[tuple[object, object]]:
        """The keys and values of a dict."""
        if depth == 0:
            raise ValueError(f"found a value nested deeper than {DEPTH_MAX} levels")
        rows = [_list(pair, 2) for pair in _list(tree)]
        return [(self.value(key, depth - 1), self.value(value, depth - 1)) for key, value in rows]

    def array(self, body: Any, *, scalar: bool) -> object:
        """An array, or a single number of numpy's."""
        found = _array(body, scalar=scalar)
        return found if self._array is None else self._array(found)

    def handle(self, body: Any) -> object:
        """Something that stays on the other side."""
        number, kind = _list(body, 2)
        if type(number) is not int or number < 0 or not isinstance(kind, str):
            raise ValueError("found a handle without a number or a name of its type")
        found = Handle(number, kind[:200])
        return found if self._handle is None else self._handle(found)


_TAGS: dict[str, Callable[[_Reader, Any, int], object]] = {
    "tuple": lambda reader, body, depth: tuple(reader.items(body, depth)),
    "set": lambda reader, body, depth: set(_spread(reader.items(body, depth))),
    "frozenset": lambda reader, body, depth: frozenset(_spread(reader.items(body, depth))),
    "dict": lambda reader, body, depth: _mapping(reader.pairs(body, depth)),
    "bytes": lambda _, body, __: _bytes(body),
    "int": lambda _, body, __: _long(body),
    "float": lambda _, body, __: _endless(body),
    "complex": lambda reader, body, _: _complex(reader.items(_list(body, 2), 1)),
    "array": lambda reader, body, _: reader.array(body, scalar=False),
    "scalar": lambda reader, body, _: reader.array(body, scalar=True),
    "handle": lambda reader, body, _: reader.handle(body),
}


class _Tag:
    """One JSON object: always one name with what belongs to it."""

    __slots__ = ("body", "name")

    def __init__(self, name: str, body: Any) -> None:
        self.name, self.body = name, body


def _tag(pairs: list[tuple[str, Any]]) -> _Tag:
    if len(pairs) != 1:
        raise ValueError(f"found an object of {len(pairs)} keys; a tag has one")
    return _Tag(*pairs[0])


def _refuse(name: str) -> None:
    raise ValueError(f"found `{name[:40]}`; JSON has finite numbers only")


def _marks(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{")


def _list(tree: Any, length: int | None = None) -> list[Any]:
    if not isinstance(tree, list) or (length is not None and len(tree) != length):
        raise ValueError("found a tag without the list that belongs to it")
    return tree


def _mapping(rows: list[tuple[object, object]]) -> dict[object, object]:
    _spread([key for key, _ in rows])
    return dict(rows)


def _spread(members: list[object]) -> list[object]:
    """The same members, where their hashes tell them apart: looking each up stays quick, whoever chose them."""
    if len(members) > _CLASH_MAX and max(Counter(map(hash, members)).values()) > _CLASH_MAX:
        raise ValueError("found keys or members that were chosen to have one hash")
    return members


def _bytes(body: Any) -> bytes:
    if not isinstance(body, str):
        raise ValueError("found bytes that are no text")
    try:
        return base64.b64decode(body.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("found bytes that are not base64") from error


def _array(body: Any, *, scalar: bool = False) -> Array:
    dtype, shape, text = _list(body, 3)
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise ValueError("found an array of no numeric kind")
    axes = _list(shape)
    if len(axes) > _AXES_MAX or any(type(axis) is not int or not 0 <= axis <= _AXIS_MAX for axis in axes):
        raise ValueError("found an array whose shape is none")
    data = _bytes(text)
    fits = math.prod(axes) * int(dtype[2:]) == len(data) and math.prod(filter(None, axes)) <= _AXIS_MAX
    if not fits or (scalar and axes):
        raise ValueError("found an array whose shape does not fit its bytes")
    if dtype[1] == "b" and data.translate(None, b"\0\1"):
        raise ValueError("found truth values that are neither 0 nor 1")  # numpy trusts them to be
    return Array(dtype, tuple(axes), data, scalar)


def _long(body: Any) -> int:
    if not isinstance(body, str) or not re.fullmatch(r"-?0x[0-9a-f]+", body):
        raise ValueError("found a long integer that is not in hexadecimal")
    return int(body, 16)


def _endless(body: Any) -> float:
    if body not in ("nan", "inf", "-inf"):
        raise ValueError("found a float that is neither `nan` nor infinite")
    return float(body)


def _complex(parts: list[Any]) -> complex:
    if not all(type(part) is float or type(part) is int for part in parts):
        raise ValueError("found a complex number whose parts are no numbers")
    try:
        return complex(*parts)
    except OverflowError as error:
        raise ValueError("found a complex number whose parts are too large") from error
