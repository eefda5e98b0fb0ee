"""Base64 with one spelling: the standard alphabet, padded, no spare bits (RFC 4648 sections 3.5 and 4).

It never accepts the URL alphabet, line breaks or missing padding: what is signed has one spelling.
"""

from __future__ import annotations

import base64
import binascii

from keyturn.core.errors import MalformedInput

_HELP = "encode the bytes with standard, padded base64"


def encode(data: bytes) -> str:
    """Return the standard, padded base64 of `data`."""
    return base64.b64encode(data).decode("ascii")


def decode(text: object, *, what: str) -> bytes:
    """Return the bytes that `text` spells; raises MalformedInput, whose message calls the field `what`."""
    if not isinstance(text, str):
        raise MalformedInput(f"found no text in `{what}`; base64 is expected", help=_HELP)
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise MalformedInput(f"found `{text[:40]}` in `{what}`; base64 is expected", help=_HELP) from error
    if encode(data) != text:
        raise MalformedInput(f"found a second spelling of base64 in `{what}`", help=_HELP)
    return data
