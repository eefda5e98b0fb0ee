"""A blob binds salt and data, hides the data, and is told apart from everything else that is hashed or typed."""

from __future__ import annotations

import hashlib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core import events as ev
from keyturn.core.errors import MalformedInput, TamperDetected
from keyturn.core.terms import Digest, Instant
from keyturn.wire.blobs.blob import (
    DATA_BYTES_MAX,
    Blob,
    commitment,
    decode,
    named_by,
    reasons_of,
    referred,
    replaced,
)

SALT = bytes(range(32))
SALTS, DATA = st.binary(min_size=32, max_size=32), st.binary(max_size=200)
STAMP = {"id": "1", "at": Instant(1), "actor": "governor", "policy": ""}


def test_the_bytes_are_those_that_the_page_says() -> None:
    blob = Blob(SALT, "Zoë left".encode())
    assert blob.encoded == b"keyturn-blob-v1\n" + SALT.hex().encode() + b"\n" + "Zoë left".encode()
    assert blob.digest == commitment(SALT, blob.data) == "sha256:" + hashlib.sha256(blob.encoded).hexdigest()
    assert (
        blob.digest
        == "sha256:"
        + subprocess.run(["sha256sum"], input=blob.encoded, capture_output=True, check=True)
        .stdout.decode()
        .split(" ", maxsplit=1)[0]
    )
    assert (blob.reference, blob.text) == ("withheld:" + blob.digest, "Zoë left")


@given(SALTS, DATA, SALTS, DATA)
def test_no_two_pairs_share_their_bytes_and_each_reads_back(s1: bytes, d1: bytes, s2: bytes, d2: bytes) -> None:
    one, two = Blob(s1, d1), Blob(s2, d2)
    assert (one.encoded == two.encoded) is ((s1, d1) == (s2, d2))
    assert decode(one.encoded, one.digest) == one


def test_attack_a_guessed_reason_cannot_be_confirmed_from_the_log_without_the_salt() -> None:
    """What stands in the entry is the same for nobody's guess: not the bare text, not an unsalted or an empty salt."""
    guess = b"ada is ill"
    digest = commitment(SALT, guess)
    bare = {hashlib.sha256(each).hexdigest() for each in (guess, b"keyturn-blob-v1\n" + guess, SALT[:0] + guess)}
    assert digest.removeprefix("sha256:") not in bare
    assert digest != commitment(bytes(32), guess)


@pytest.mark.parametrize("flip", [0, 15, 16, 79, 80, 81, -1])
def test_attack_a_blob_with_one_changed_byte_is_tampering(flip: int) -> None:
    blob = Blob(SALT, b"no")
    other = bytearray(blob.encoded)
    other[flip] ^= 1
    with pytest.raises(TamperDetected, match="holds other bytes than those that the log names") as found:
        decode(bytes(other), blob.digest)
    assert blob.digest in found.value.proof


def test_what_only_hashes_right_is_no_blob() -> None:
    """An entry of the log, or anything else that somebody hashed, cannot be passed off as the words of a person."""
    for data in (b"", b"{}", b"keyturn-blob-v1\n" + b"g" * 64 + b"\nx", b"keyturn-blob-v1\n" + b"a" * 63 + b"\nx"):
        with pytest.raises(TamperDetected):
            decode(data, Digest("sha256:" + hashlib.sha256(data).hexdigest()))


@pytest.mark.parametrize(("salt", "data"), [(b"", b"x"), (bytes(31), b"x"), (bytes(32), bytes(DATA_BYTES_MAX + 1))])
def test_a_short_salt_and_too_much_data_are_refused(salt: bytes, data: bytes) -> None:
    with pytest.raises(MalformedInput, match="32 and at most 1048576 are expected"):
        Blob(salt, data)


def test_only_a_whole_field_of_the_exact_form_is_a_reference() -> None:
    blob = Blob(SALT, b"x")
    assert referred(blob.reference) == blob.digest
    near = (blob.digest, blob.reference.upper(), blob.reference + " ", " " + blob.reference, blob.reference[:-1], "", 7)
    assert [referred(each) for each in near] == [None] * len(near)


def test_old_entries_name_no_blob() -> None:
    old = ev.PermitRevoked(**STAMP, permit="p", reason="recalled")  # type: ignore[arg-type]  # a stamp is four fields
    assert named_by(old) == ()
    ended = {"attempt": 1, "outcome": "failed", "detail": "", "cpu_seconds": 0.0, "wall_seconds": 0.0}
    kept = ev.ImprovementEnded(**STAMP, **ended, processes_left=0, diagnostics="sha256:" + "0" * 64)  # type: ignore[arg-type]  # a stamp is four fields
    assert named_by(kept) == ()
    blob = Blob(SALT, b"x")
    now = ev.ImprovementEnded(**STAMP, **ended, processes_left=0, diagnostics=blob.reference)  # type: ignore[arg-type]  # a stamp is four fields
    assert (named_by(now), reasons_of(now)) == ((blob.digest,), ())


def test_attack_words_that_look_like_a_reference_are_not_looked_up_once_more() -> None:
    """Whoever types a reference to somebody else's words does not make a screen say them in his name."""
    other = Blob(SALT, b"a secret")
    trap = Blob(bytes(32), other.reference.encode())
    known = {trap.digest: trap.text, other.digest: other.text}
    assert replaced(f"he said: {trap.reference}", known.__getitem__) == f"he said: {other.reference}"
