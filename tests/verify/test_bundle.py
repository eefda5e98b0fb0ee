"""A bundle is one small file that reads back as it was written, and anything else is refused before it is believed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.flow.permit import pack
from keyturn.verify import bundle as bundles
from keyturn.verify.bundle import Proven
from tests.verify.scene import doubts

TWO_PERSON_BYTES_MAX = 8_000


@pytest.fixture
def data(scene):
    return pack(scene.honest)


def changed(data, **members):
    return json.dumps({**json.loads(data), **members}).encode()


def refused(data):
    with pytest.raises(MalformedInput) as caught:
        bundles.decode(data)
    assert caught.value.help
    return caught.value.message


def test_a_release_by_two_people_fits_into_eight_kilobytes(scene, data):
    assert len(data) <= TWO_PERSON_BYTES_MAX


def test_it_grows_by_its_proofs_only(scene, data):
    """In a log of a million entries each of the four proofs has up to twenty hashes, and a consistency proof forty."""
    long, proof = (bytes(range(32)),) * 40, (bytes(range(32)),) * 20
    leaves = [replace(each, proof=proof, index=10**6) for each in (scene.honest.status, scene.honest.permit)]
    approvals = tuple(replace(each, proof=proof, index=10**6) for each in scene.honest.approvals)
    worst = replace(scene.honest, status=leaves[0], permit=leaves[1], approvals=approvals, consistency=long)
    assert len(pack(worst)) <= 2 * TWO_PERSON_BYTES_MAX


def test_it_reads_back_as_it_was_written(scene, data):
    assert bundles.decode(data) == scene.honest
    assert doubts(bundles.decode(data), scene) == []


def test_a_key_given_twice_is_refused(data):
    assert refused(data.replace(b'{"approvals"', b'{"v":1,"approvals"')) == "found the key `v` twice in one object"
    assert refused(data.replace(b'"index":', b'"index":0,"index":', 1)) == "found the key `index` twice in one object"


def test_a_huge_file_is_refused_unread(data):
    size = bundles.BUNDLE_BYTES_MAX + 1
    assert refused(b"[" * size) == f"a bundle of more than {size - 1} bytes is too large"


@pytest.mark.parametrize("deep", [b"[" * 60_000, b'{"a":' * 10_000, b"[" * 30_000 + b"]" * 30_000])
def test_a_deep_file_is_refused(deep):
    assert refused(deep) == "found JSON nested deeper than 32 levels"


@pytest.mark.parametrize("junk", [b"", b"null", b"[]", b'"x"', b"{}", b"\xff\xfe", b"{", b'{"v":NaN}', b"\x00" * 9])
def test_junk_is_refused(junk):
    assert refused(junk)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"v": 2}, "`2` is no bundle format that is known; 1 is expected"),
        ({"extra": 1}, "`bundle` does not hold exactly"),
        ({"old_size": -1}, "`old_size` is not a whole number"),
        ({"old_size": True}, "`old_size` is not a whole number"),
        ({"old_size": 1.5}, "`old_size` is not a whole number"),
        ({"approvals": {}}, "`approvals` is not a list of at most 64 leaves"),
        ({"approvals": [{}] * 65}, "`approvals` is not a list of at most 64 leaves"),
        ({"policies": [{}] * 513}, "`policies` is not a list of at most 512 leaves"),
        ({"approvals": [{}]}, "`approvals` does not hold exactly index, leaf, proof"),
        ({"permit": None}, "`permit` does not hold exactly index, leaf, proof"),
        ({"permit": {"index": "1", "leaf": "", "proof": []}}, "`permit` is not a whole number"),
        ({"permit": {"index": 1, "leaf": 1, "proof": []}}, "`permit` is not text"),
        ({"permit": {"index": 1, "leaf": "", "proof": ["AA=="]}}, "`permit` holds something that is not 32 bytes"),
        ({"permit": {"index": 1, "leaf": "", "proof": ["A" * 43 + "="] * 65}}, "is not a list of at most 64 hashes"),
        ({"consistency": ["?"]}, "found `?` in `consistency`; base64 is expected"),
        ({"checkpoint": 7}, "`checkpoint` is not text"),
    ],
)
def test_what_does_not_fit_is_named(data, members, message):
    assert message in refused(changed(data, **members))


@pytest.mark.parametrize("index", [2**53 - 1, 10**9])
def test_a_place_beyond_the_log_is_refused_by_the_check(scene, index):
    bundle = replace(scene.honest, permit=Proven(index, scene.honest.permit.leaf, scene.honest.permit.proof))
    assert doubts(bundle, scene) == [(3, f"entry {index} does not stand under the checkpoint")]


def test_no_prefix_and_no_flipped_byte_is_ever_accepted(scene, data):
    for at in range(0, len(data), 97):
        flipped = bytearray(data)
        flipped[at] ^= 1
        for attempt in (data[:at], bytes(flipped)):
            try:
                found = doubts(bundles.decode(attempt), scene)
            except MalformedInput:
                continue
            assert found or bundles.decode(attempt) == scene.honest
