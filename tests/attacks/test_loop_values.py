"""What a program sends back is read in the loop's own process, beside its keys: it costs little and is what it says."""

from __future__ import annotations

import base64
import time

import numpy as np
import pytest

from keyturn.sdk.sealed import restored
from keyturn.wire import values

ONE_HASH = 2**61 - 1
"""Every multiple of it has the hash 0 in CPython."""


def chosen(tag: str, numbers: list[int]) -> str:
    members = [f'{{"int":"{number:#x}"}}' for number in numbers]
    return f'{{"{tag}":[{",".join(f"[{each},0]" if tag == "dict" else each for each in members)}]}}'


@pytest.mark.parametrize("tag", ["dict", "set", "frozenset"])
def test_keys_that_were_chosen_to_have_one_hash_do_not_keep_the_evaluator_busy(tag: str) -> None:
    clashing = [number * ONE_HASH for number in range(1, 30_001)]
    began = time.process_time()
    for numbers in (clashing, [*clashing, *range(2, 20_000)]):
        with pytest.raises(ValueError, match="chosen to have one hash"):
            values.decode(chosen(tag, numbers))
    assert time.process_time() - began < 20


def test_what_merely_looks_alike_is_read() -> None:
    honest = {number * 2**32: str(number) for number in range(20_000)}
    assert values.decode(values.encode(honest)) == honest
    members = {-1, -2, *(float(n) + 0.5 for n in range(5000)), *map(str, range(5000)), *((n, n) for n in range(5000))}
    assert values.decode(values.encode(members)) == members


def test_truth_values_that_are_neither_are_no_array() -> None:
    for kind, shape in (("array", "[64]"), ("scalar", "[]")):
        data = base64.b64encode(bytes([128]) * (64 if kind == "array" else 1)).decode()
        with pytest.raises(ValueError, match="neither 0 nor 1"):
            values.decode(f'{{"{kind}":["|b1",{shape},"{data}"]}}', array=restored)
    mask = np.array([True, False, True])
    assert np.array_equal(values.decode(values.encode(mask), array=restored), mask)  # type: ignore[arg-type]  # it is an array by then


def test_a_complex_number_of_endless_parts_is_refused_as_data_and_not_raised_as_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match="too large"):
        values.decode('{"complex":[{"int":"0x' + "f" * 1000 + '"},0]}')
