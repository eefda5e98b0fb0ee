"""Canonical JSON: one value has one form, and a reader is never left two ways to understand bytes."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.errors import MalformedInput
from keyturn.wire import canonical

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not 2**53 <= abs(x) < 1e21)
INTEGERS = st.integers(-canonical.INTEGER_MAX, canonical.INTEGER_MAX)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_reads_back_equal_and_canonical(value):
    data = canonical.encode(value)
    assert canonical.decode_canonical(data) == value
    assert canonical.encode(canonical.decode(data)) == data


@given(st.dictionaries(TEXT, INTEGERS))
def test_the_order_of_keys_does_not_matter(value):
    assert canonical.encode(dict(reversed(value.items()))) == canonical.encode(value)


def test_the_example_of_rfc_8785_section_3_2_2():
    source = b"""{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\"\\/",
      "literals": [null, true, false]
    }"""
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical.encode(canonical.decode(source)) == expected.encode()


def test_keys_are_ordered_by_utf16_as_rfc_8785_section_3_2_3_demands():
    keys = ["€", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "ö"]
    value = canonical.decode(canonical.encode(dict.fromkeys(keys, 0)))
    assert isinstance(value, dict)
    assert list(value) == ["\r", "1", "\u0080", "ö", "€", "\U0001f600", "\ufb33"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a":1,"a":1}', "found the key `a` twice in one object"),
        (b'{"a":{"b":1,"\\u0062":2}}', "found the key `b` twice in one object"),
        (b"[NaN]", "found `NaN`; JSON has finite numbers only"),
        (b"-Infinity", "found `-Infinity`; JSON has finite numbers only"),
        (b"1e999", "found the number 1e999, which is not finite"),
        (b"9007199254740992", "found the integer 9007199254740992; +-(2^53 - 1) is the limit"),
        (b"-9007199254740992", "found the integer -9007199254740992; +-(2^53 - 1) is the limit"),
        (b"1" * 5000, "found the integer 111111111111111111111111; +-(2^53 - 1) is the limit"),
        (b'"\xff"', "found no UTF-8 at offset 1"),
        (b'"\\ud800"', "found a lone surrogate; Unicode text is expected"),
        (b'{"\\udc00":1}', "found a lone surrogate; Unicode text is expected"),
        (b"{} {}", "found no JSON at character 3: extra data"),
        (b"1,", "found no JSON at character 1: extra data"),
        (b"", "found no JSON at character 0: expecting value"),
        (b"\xef\xbb\xbf{}", "found no JSON at character 0: expecting value"),
        (b'"a\nb"', "found no JSON at character 2: invalid control character at"),
        (b"[" * 33 + b"]" * 33, "found JSON nested deeper than 32 levels"),
        (b"[" * 100_000, "found JSON nested deeper than 32 levels"),
        (b'{"a":' * 100_000, "found JSON nested deeper than 32 levels"),
    ],
)
def test_bytes_that_two_readers_could_understand_differently_are_refused(data, message):
    with pytest.raises(MalformedInput) as caught:
        canonical.decode(data)
    assert caught.value.message == message
    assert caught.value.help


def test_the_depth_allowed_is_exact_and_brackets_in_text_do_not_count():
    assert canonical.decode(b"[" * 32 + b"]" * 32) is not None
    assert canonical.decode(b'["' + b"[" * 500 + b'\\"[["]', depth_max=1) is not None
    with pytest.raises(MalformedInput):
        canonical.decode(b"[[]]", depth_max=1)


@pytest.mark.parametrize("data", [b'"\\"' + b'\\"' * 200_000, b"[[" + b'"\\"' * 150_000, b'{"a":[' + b'"' * 300_000])
def test_hostile_bytes_are_refused_in_linear_time(data):
    began = time.monotonic()
    with pytest.raises(MalformedInput):
        canonical.decode(data, depth_max=1)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (2**53, "9007199254740992"),
        (1e20, "found the number 1e+20"),
        ({1: 2}, "object keys must be strings"),
        ("\ud800", "non-UTF-8"),
        ({"\ud800": 1}, "lone surrogate in a key"),
        (b"bytes", "unsupported type"),
    ],
)
def test_what_json_cannot_carry_exactly_is_never_written(value, fragment):
    with pytest.raises(MalformedInput) as caught:
        canonical.encode(value)
    assert fragment in caught.value.message


def test_a_value_too_deep_to_be_read_is_never_written():
    value: object = 0
    for _ in range(33):
        value = [value]
    with pytest.raises(MalformedInput, match="nested deeper than 32"):
        canonical.encode(value)


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b'{"a": 1}', 5),
        (b'{"b":1,"a":1}', 2),
        (b"1.0", 1),
        (b"-0", 0),
        (b'"\\u0041"', 1),
        (b"{}\n", 2),
        (b"1e2", 1),
    ],
)
def test_bytes_that_are_not_canonical_are_named_by_offset(data, offset):
    json.loads(data)
    with pytest.raises(MalformedInput) as caught:
        canonical.decode_canonical(data)
    assert caught.value.message == f"found JSON that is not canonical from offset {offset}"
