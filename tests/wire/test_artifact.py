"""An artifact is its declared files under safe names; one changed byte changes its root."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.errors import MalformedInput, TamperDetected
from keyturn.wire import artifact, dsse, statement

FILES = st.dictionaries(st.sampled_from(["a", "b.npz", "d/e", "weights", "z"]), st.binary(max_size=8), min_size=1)


def bundle(place):
    """The DSSE envelope inside a sigstore bundle; the bundle around it is not ours to read."""
    return dsse.decode(json.dumps(json.loads(place.read_text())["dsseEnvelope"]).encode())


@given(FILES)
def test_the_root_is_the_digest_of_the_digests_in_name_order(files):
    wanted = hashlib.sha256(b"".join(hashlib.sha256(files[name]).digest() for name in sorted(files))).hexdigest()
    assert artifact.root(artifact.manifest(files)) == "sha256:" + wanted
    assert artifact.root(reversed(artifact.manifest(files))) == "sha256:" + wanted


@given(FILES, st.data())
def test_one_changed_byte_changes_the_root(files, data):
    name = data.draw(st.sampled_from(sorted(files)))
    changed = files | {name: files[name] + b"x"}
    assert artifact.root(artifact.manifest(changed)) != artifact.root(artifact.manifest(files))


def test_the_manifest_says_name_digest_and_length():
    (file,) = artifact.manifest({"weights.npz": b"abc"})
    assert (file.name, file.bytes) == ("weights.npz", 3)
    assert file.digest == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "name",
    [
        "", "/etc/passwd", "../up", "a/../b", "./a", "a//b", "a/", "a\\b", "c:x", "a\nb", "a\0", " a", "a ",
        "\u202egnp.a", "x" * 256, "é" * 128, "/".join("a" * 17), "\ud800",
    ],
)  # fmt: skip
def test_a_name_that_could_leave_its_folder_or_mislead_a_reader_is_refused(name):
    with pytest.raises(MalformedInput, match="a safe relative name is expected"):
        artifact.manifest({name: b""})


@pytest.mark.parametrize("names", [("a", "A"), ("a", "a/b"), ("d/e", "d/e/f/g"), ("straße", "STRASSE")])
def test_two_names_that_a_file_system_could_confuse_are_refused(names):
    with pytest.raises(MalformedInput):
        artifact.require_names(names)


def test_an_artifact_has_files():
    with pytest.raises(MalformedInput, match="found an artifact without files"):
        artifact.root(())


@pytest.mark.parametrize("name", ["certificate", "key", "sigstore"])
def test_the_valid_bundles_of_openssf_have_the_root_that_they_sign(shared_vectors, name):
    envelope = bundle(shared_vectors / f"oms/test-vectors/v1.0/valid/{name}.bundle.json")
    assert envelope.payload_type == statement.PAYLOAD_TYPE
    made = statement.decode(envelope.payload)
    assert artifact.root_of(artifact.declared(made)) == made.subjects[0][1]


def test_the_bundle_with_another_predicate_is_refused(shared_vectors):
    envelope = bundle(shared_vectors / "oms/test-vectors/v1.0/invalid-payload/wrong-predicate.bundle.json")
    with pytest.raises(MalformedInput, match=r"found the predicate `https://example.com/wrong-predicate/v1.0`"):
        artifact.declared(statement.decode(envelope.payload))


def test_the_bundles_that_are_invalid_as_envelopes_are_refused(shared_vectors):
    """Of the invalid bundles these two lack an envelope; the others lack what a sigstore verifier would read."""
    for name in ("empty", "missing-envelope"):
        whole = (shared_vectors / f"oms/test-vectors/v1.0/invalid/{name}.bundle.json").read_bytes()
        with pytest.raises(MalformedInput):
            dsse.decode(whole)


def test_resources_that_are_not_what_the_subject_names_are_tampering(shared_vectors):
    envelope = bundle(shared_vectors / "oms/test-vectors/v1.0/valid/key.bundle.json")
    value = json.loads(envelope.payload)
    value["predicate"]["resources"][0]["digest"] = "0" * 64
    with pytest.raises(TamperDetected, match="the subject says"):
        artifact.declared(statement.decode(json.dumps(value).encode()))


@pytest.mark.parametrize(
    "change",
    [
        {"serialization": {"method": "shards", "hash_type": "sha256", "allow_symlinks": False, "shard_size": 9}},
        {"serialization": {"method": "files", "hash_type": "blake3", "allow_symlinks": False}},
        {"serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": True}},
        {"resources": []},
        {"resources": "none"},
        {"resources": [{"name": "a", "digest": "00" * 32, "algorithm": "blake2b"}]},
    ],
)
def test_forms_of_model_signing_that_are_not_read_are_refused(shared_vectors, change):
    envelope = bundle(shared_vectors / "oms/test-vectors/v1.0/valid/key.bundle.json")
    value = json.loads(envelope.payload)
    value["predicate"] |= change
    with pytest.raises(MalformedInput):
        artifact.declared(statement.decode(json.dumps(value).encode()))
