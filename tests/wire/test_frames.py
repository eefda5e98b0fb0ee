"""Frames from a sealed subject: how the bytes were cut never matters, and no limit can be talked around."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.errors import MalformedInput
from keyturn.wire.frames import FRAME_BYTES_MAX, FrameReader, encode_frame

OBJECTS = st.lists(st.dictionaries(st.text("abc", max_size=3), st.integers(-9, 9), max_size=3), max_size=5)


def reader(bytes_max_total: int = 1_000_000, frames_max: int = 100) -> FrameReader:
    return FrameReader(bytes_max_total=bytes_max_total, frames_max=frames_max)


def outcome(chunks, subject=None, **limits):
    """All objects that come out of `chunks`, and the fault at the end, if any."""
    subject, found = subject or reader(**limits), []
    try:
        for chunk in chunks:
            found += subject.feed(chunk)
        subject.end()
    except MalformedInput as error:
        return found, error.message
    return found, ""


@given(OBJECTS, st.binary(max_size=9), st.data())
def test_how_the_bytes_are_cut_never_changes_what_is_accepted(objects, tail, data):
    stream = b"".join(encode_frame(obj) for obj in objects) + tail
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    limits = {"bytes_max_total": data.draw(st.integers(0, 200)), "frames_max": data.draw(st.integers(0, 6))}
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    single = [stream[i : i + 1] for i in range(len(stream))]
    whole, fault = outcome([stream], **limits)
    for cut in (pieces, single):
        found, other = outcome(cut, **limits)
        assert found == whole
        assert bool(other) == bool(fault)


def test_frames_come_out_as_they_went_in():
    assert outcome([encode_frame({"hello": "keyturn", "n": [1, 2]}), encode_frame({})]) == (
        [{"hello": "keyturn", "n": [1, 2]}, {}],
        "",
    )


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (struct.pack(">I", FRAME_BYTES_MAX + 1), "found a frame of 65537 bytes; 1 to 65536 are allowed"),
        (b"\xff\xff\xff\xff", "found a frame of 4294967295 bytes; 1 to 65536 are allowed"),
        (b"\0\0\0\0", "found a frame of 0 bytes; 1 to 65536 are allowed"),
        (b"\0\0\0\x02[]", "found a frame that is no JSON object"),
        (b"\0\0\0\x03{} ", "found JSON that is not canonical from offset 2"),
        (b"\0\0\0\x02{x", "found no JSON at character 1: expecting property name enclosed in double quotes"),
        (b"\0\0\0\x0d" + b'{"a":1,"a":2}', "found the key `a` twice in one object"),
        (b'\0\0\0\x15{"a":' + b"[" * 8 + b"]" * 8, "found JSON nested deeper than 8 levels"),
        (b"\0\0\0\x05{}", "found 6 bytes of an unfinished frame at the end"),
        (b"\0\0", "found 2 bytes of an unfinished frame at the end"),
    ],
)
def test_a_bad_frame_is_named_and_the_reader_stays_broken(stream, message):
    subject = reader()
    assert outcome([stream], subject=subject) == ([], message)
    for _ in range(2):
        with pytest.raises(MalformedInput) as again:
            subject.feed(encode_frame({}))
        assert again.value.message == message


def test_what_came_before_a_fault_is_delivered_before_the_fault():
    subject = reader()
    assert subject.feed(encode_frame({"a": 1}) + b"\0\0\0\0") == [{"a": 1}]
    with pytest.raises(MalformedInput):
        subject.feed(b"")


def test_bytes_after_the_last_allowed_frame_are_a_fault():
    assert outcome([encode_frame({}), encode_frame({})], frames_max=1) == (
        [{}],
        "found bytes after the last frame that is allowed",
    )
    assert outcome([encode_frame({})], frames_max=1) == ([{}], "")


def test_the_byte_budget_covers_every_byte_and_bounds_the_buffer():
    frame = encode_frame({"a": 1})
    assert outcome([frame], bytes_max_total=len(frame)) == ([{"a": 1}], "")
    short = outcome([frame], bytes_max_total=len(frame) - 1)
    assert short == ([], "found more bytes than are allowed in total")


def test_an_object_that_could_not_be_read_back_is_never_sent():
    with pytest.raises(MalformedInput, match="is the limit"):
        encode_frame({"a": "x" * FRAME_BYTES_MAX})
    with pytest.raises(MalformedInput, match="nested deeper than 8"):
        encode_frame({"a": [[[[[[[[0]]]]]]]]})
    fits = {"a": "x" * (FRAME_BYTES_MAX - len(b'{"a":""}'))}
    assert outcome([encode_frame(fits)]) == ([fits], "")
