"""Envelopes: what is signed is unambiguous, and nothing rides along unsigned and unnoticed."""

from __future__ import annotations

import base64
import json

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.wire import canonical, dsse

TWO = (dsse.Signature("k1", b"\x01\x02"), dsse.Signature("", b"\x03"))
GOOD = dsse.Envelope("application/x", b"hello", TWO)


def altered(**members):
    value = json.loads(dsse.encode(GOOD))
    value.update(members)
    return canonical.encode({key: item for key, item in value.items() if item is not ...})


def test_the_pre_authentication_encoding_of_the_specification():
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("é", b"") == "DSSEv1 2 é 0 ".encode()
    assert GOOD.signed() == dsse.pae("application/x", b"hello")


def test_an_envelope_reads_back_equal():
    assert dsse.decode(dsse.encode(GOOD)) == GOOD
    spaced = json.dumps(json.loads(dsse.encode(GOOD)), indent=2).encode()
    assert dsse.decode(spaced) == GOOD


def test_two_payloads_never_share_what_is_signed():
    assert dsse.pae("a", b"1 b 1 c") != dsse.pae("a 1 b", b"1 c")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "found no object; a DSSE envelope is expected"),
        (
            altered(extra=1),
            "found the members `extra`, `payload`, `payloadType`, `signatures`; a DSSE envelope is expected",
        ),
        (altered(payload=...), "found the members `payloadType`, `signatures`; a DSSE envelope is expected"),
        (altered(payloadType=""), "found no text in `payloadType`; a media type is expected"),
        (altered(signatures=[]), "found no list of 1 to 64 `signatures`"),
        (altered(signatures=[{"sig": "AA=="}] * 65), "found no list of 1 to 64 `signatures`"),
        (altered(signatures=[{"keyid": "a"}]), "found the members `keyid` in `signatures`; `sig` is expected"),
        (
            altered(signatures=[{"sig": "AA==", "cert": ""}]),
            "found the members `cert`, `sig` in `signatures`; `sig` is expected",
        ),
        (altered(signatures=[{"keyid": 1, "sig": "AA=="}]), "found a `keyid` that is not text"),
        (altered(payload="aGVsbG8"), "found `aGVsbG8` in `payload`; base64 is expected"),
        (altered(payload="aGV\nsbG8="), "found `aGV\nsbG8=` in `payload`; base64 is expected"),
        (altered(payload="_-8="), "found `_-8=` in `payload`; base64 is expected"),
        (altered(payload="AB=="), "found a second spelling of base64 in `payload`"),
        (altered(payload=None), "found no text in `payload`; base64 is expected"),
    ],
)
def test_an_envelope_with_room_for_what_nobody_signed_is_refused(data, message):
    with pytest.raises(MalformedInput) as caught:
        dsse.decode(data)
    assert caught.value.message == message


def test_a_missing_keyid_is_an_empty_hint():
    data = altered(signatures=[{"sig": base64.b64encode(b"x").decode()}])
    assert dsse.decode(data).signatures == (dsse.Signature("", b"x"),)
