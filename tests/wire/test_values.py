"""Plain data as text: what goes there and back unchanged, and what is refused."""

from __future__ import annotations

import collections
import enum
import json
import math

import numpy as np
import pytest

from keyturn.wire import values
from keyturn.wire.values import Array, Handle, decode, encode

PLAIN: list[object] = [
    None, True, False, 0, -1, 2**53 - 1, 2**53, -(2**53), 2**400, -(2**4000), 0.0, 1.5, -2.5e-300, 1e308,
    math.inf, -math.inf, "", "text", "ü €\n\0\"\\ \ud800", b"", b"\0\xff", [], [1, [2, [3]]], (), (1, (2,)), [(1,), {}],
    {}, {"a": 1}, {1: "one", (1, 2): [3], None: None, 1.5: b"x"}, {"array": 1}, {"tuple": [1]}, set(), {1, 2},
    frozenset({"a"}), 1j, complex(math.inf, -2.5),
]  # fmt: skip  # a list of cases


class Colour(enum.IntEnum):
    RED = 3


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("a subclass had a say")


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:40].encode("unicode_escape").decode())
def test_plain_data_comes_back_equal_and_of_the_same_type(value: object) -> None:
    found = decode(encode(value))
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_comes_back_and_so_does_the_sign_of_nought() -> None:
    assert math.isnan(decode(encode(math.nan)))  # type: ignore[arg-type]  # a float came back
    assert math.copysign(1.0, decode(encode(-0.0))) == -1.0  # type: ignore[arg-type]  # a float came back


def test_text_is_ascii_so_that_it_may_be_cut_anywhere() -> None:
    assert encode(["ü", "\ud800", {"é": "\u2028"}]).isascii()


def test_subclasses_of_plain_types_are_written_as_those_without_a_say() -> None:
    pair = collections.namedtuple("pair", "a b")(1, 2)  # noqa: PYI024 - the untyped form is the common one
    counted = collections.Counter("aab")
    assert decode(encode([Colour.RED, pair, counted, Loud("x")])) == [3, (1, 2), {"a": 2, "b": 1}, "x"]


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u8", "f2", "f4", "f8", "c8", "c16", ">f8", ">i2"]
)
def test_arrays_come_back_with_kind_shape_and_bytes(dtype: str) -> None:
    array = np.arange(6).astype(dtype).reshape(2, 3)
    found = decode(encode({"x": array.T}))["x"]  # type: ignore[index]  # a dict came back
    assert found == Array(array.dtype.str, (3, 2), array.T.tobytes())
    assert (np.frombuffer(found.data, found.dtype).reshape(found.shape) == array.T).all()


def test_numbers_of_numpy_come_back_as_single_numbers() -> None:
    for number in (
        np.float64(0.25),
        np.int8(-3),
        np.bool_(True),
        np.complex64(1 + 2j),
        np.float16(0.5),
        np.uint64(2**63),
    ):
        found = decode(encode(number))
        assert isinstance(found, Array)
        assert found.scalar
        assert found.item() == number.item()
    assert decode(encode(np.array(2.0))) == Array("<f8", (), np.array(2.0).tobytes())
    assert decode(encode(np.str_("x"))) == "x"


def test_a_hook_turns_arrays_and_handles_into_what_the_caller_wants() -> None:
    text = encode([np.float32(0.5), Handle(3, "Thing")])
    found = decode(text, array=lambda array: array.item(), handle=lambda handle: handle.number)
    assert found == [0.5, 3]


def test_what_is_no_plain_data_is_kept_or_refused() -> None:
    kept: list[object] = []

    def keep(value: object) -> Handle:
        kept.append(value)
        return Handle(len(kept), type(value).__name__)

    assert decode(encode((len, [1, np.array([object()])]), keep=keep)) == (
        Handle(1, "builtin_function_or_method"),
        [1, Handle(2, "ndarray")],
    )
    for value in (object(), len, np.array(["x"]), np.array([None])):
        with pytest.raises(TypeError, match="is no plain data"):
            encode([value])


def test_what_is_too_deep_too_wide_or_too_long_is_refused_before_it_grows() -> None:
    deep: object = 0
    for _ in range(values.DEPTH_MAX):
        deep = [deep]
    assert decode(encode(deep)) == deep
    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        encode((deep,))
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(ValueError, match="nested deeper"):
        encode(cycle)
    doubling: object = 0
    for _ in range(60):
        doubling = [doubling, doubling]
    with pytest.raises(ValueError, match="holds more than 1000000 values"):
        encode(doubling)
    with pytest.raises(ValueError, match="needs more than 33554432 characters"):
        encode([bytes(1 << 20)] * 40)
    with pytest.raises(ValueError, match="needs more than"):
        encode(1 << (values.TEXT_MAX * 4 + 8))


BROKEN = {
    "nothing": "",
    "no json": "[1",
    "two values": "1 2",
    "not a number": "NaN",
    "an unknown tag": '{"exec":[1]}',
    "two tags at once": '{"tuple":[],"set":[]}',
    "no tag at all": "{}",
    "a tag without a list": '{"tuple":{"tuple":[]}}',
    "a member without a hash": '{"set":[[1]]}',
    "a key without a hash": '{"dict":[[[1],2]]}',
    "a pair of three": '{"dict":[[1,2,3]]}',
    "bytes of another alphabet": '{"bytes":"*"}',
    "bytes that are a list": '{"bytes":[1]}',
    "a long integer in words": '{"int":"ten"}',
    "a float that is finite": '{"float":"1.5"}',
    "a float that is a list": '{"float":["nan"]}',
    "a complex of texts": '{"complex":["1","2"]}',
    "a complex of one": '{"complex":[1]}',
    "an array of objects": '{"array":["|O",[1],"AAAAAAAAAAA="]}',
    "an array of text": '{"array":["<U1",[1],"AAAAAA=="]}',
    "an array of longer shape": '{"array":["|u1",[2],"AA=="]}',
    "an array of negative shape": '{"array":["|u1",[-1],"AA=="]}',
    "an array of boolean shape": '{"array":["|u1",[true],"AA=="]}',
    "an array of nothing that is endless": '{"array":["|u1",[0,1099511627776,1099511627776],""]}',
    "an array of too many axes": '{"array":["|u1",[' + "1," * 32 + '1],"AA=="]}',
    "a single number with a shape": '{"scalar":["|u1",[1],"AA=="]}',
    "a handle below nought": '{"handle":[-1,"x"]}',
    "a handle without a name": '{"handle":[1,2]}',
    "an integer of many digits": "1" * 5000,
    "too deep": "[" * 65 + "]" * 65,
    "far too deep": "[" * 200_000,
    "too many values": "[" + "0," * 3_000_001 + "0]",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=list(BROKEN))
def test_what_nobody_of_ours_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)


def test_text_that_only_looks_like_many_values_is_read() -> None:
    text = "," * 3_500_000
    assert decode(encode(text)) == text


def test_text_beyond_the_limit_is_not_even_looked_at() -> None:
    with pytest.raises(ValueError, match="33554432 is the limit"):
        decode(json.dumps("x" * values.TEXT_MAX))
