"""What is asked and answered, as bytes: read back as written, and strictly."""

from __future__ import annotations

import base64

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.ledger.witnessing import request
from keyturn.ledger.witnessing.request import Request

HASH = base64.b64encode(b"h" * 32)


@pytest.mark.parametrize("hashes", [0, 1, 63])
@pytest.mark.parametrize("old", [0, 1, 2**53 - 1])
def test_it_is_read_as_it_was_written(old, hashes):
    asked = Request(old, (b"h" * 32,) * hashes, b"a note\n\n- with an empty line\n")
    assert request.decode(request.encode(asked)) == asked


def test_the_example_of_the_specification_has_this_form():
    body = b"old 20852014\n" + (HASH + b"\n") * 4 + b"\nexample.com/behind-the-sofa\n"
    asked = request.decode(body)
    assert (asked.old, len(asked.hashes), asked.note) == (20852014, 4, b"example.com/behind-the-sofa\n")
    assert request.encode(asked) == body


@pytest.mark.parametrize(
    "body",
    [
        b"", b"old 0", b"old 0\n", b"old  0\n\nx", b"old 00\n\nx", b"old 01\n\nx", b"old -1\n\nx", b"old +1\n\nx",
        b"old 1 \n\nx", b"Old 0\n\nx", b"0\n\nx", b"old 9007199254740992\n\nx", b"old 99999999999999999\n\nx",
        b"old \xd9\xa1\n\nx", b"\nold 0\n\nx", b"old 0\r\n\r\nx", b"old 1\nAAAA\n\nx",
        b"old 1\n" + HASH[:-1] + b"\n\nx",
        b"old 1\n" + HASH + b" \n\nx", b"old 1\n" + HASH.replace(b"=", b"\xff") + b"\n\nx",
        b"old 1\n" + (HASH + b"\n") * 64 + b"\nx", b"old 0\n\n" + b"x" * request.REQUEST_BYTES_MAX,
    ],
)  # fmt: skip
def test_what_is_no_request_is_malformed(body):
    with pytest.raises(MalformedInput):
        request.decode(body)


@pytest.mark.parametrize("body", [b"", b"5", b"5\n\n", b" 5\n", b"05\n", b"-1\n", b"5\r\n", b"9007199254740992\n"])
def test_what_is_no_size_is_malformed(body):
    with pytest.raises(MalformedInput):
        request.decode_size(body)
    assert request.decode_size(b"5\n") == 5


@pytest.mark.parametrize("body", [b"", b"\xff\n", b"no end", b"x\n" * 101])
def test_what_are_no_lines_is_malformed(body):
    with pytest.raises(MalformedInput):
        request.decode_lines(body)
    assert request.decode_lines(b"one\ntwo\n") == ("one", "two")
