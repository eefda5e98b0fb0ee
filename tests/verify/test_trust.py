"""The trust file is the root of everything: one that contradicts itself is no root."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from keyturn.core import events as ev
from keyturn.core.errors import MalformedInput, UntrustedInput
from keyturn.verify import trust as trusts
from keyturn.wire.leaf import genesis_digest
from tests.verify.scene import Key, document, doubts, seen_of

ROOT = "ab" * 32


@pytest.fixture
def data(scene):
    return trusts.encode(replace(scene.trust, seen=seen_of(scene)))


def changed(data, **members):
    return json.dumps({**json.loads(data), **members}).encode()


def test_it_reads_back_as_it_was_written(scene, data):
    assert trusts.decode(data) == replace(scene.trust, seen=seen_of(scene))
    assert doubts(scene.honest, scene, trust=trusts.decode(data)) == []


def test_revocations_are_remembered_by_the_file(scene, data):
    seen = replace(seen_of(scene), revoked=("p-1", "p-2"))
    assert trusts.decode(trusts.encode(replace(scene.trust, seen=seen))).seen == seen


@pytest.mark.parametrize("name", ["service_key", "log_key", "name", "origin", "demo"])
def test_another_founding_beside_the_same_genesis_is_refused(data, name):
    body = json.loads(data)
    wanted = {"demo": True, "service_key": Key("mallory").public}.get(name, "other.example/log")
    founded = {**body["founded"], name: wanted}
    with pytest.raises(
        UntrustedInput, match="the trust file's genesis is not the digest of the policy and keys beside"
    ):
        trusts.decode(changed(data, founded=founded))


def test_another_policy_beside_the_same_genesis_is_refused(data):
    with pytest.raises(UntrustedInput):
        trusts.decode(changed(data, policy=document(pace={"unaudited_max": 1})))


def test_another_genesis_is_refused(data):
    other = "sha256:" + "1" * 64
    body = json.loads(data)
    with pytest.raises(UntrustedInput):
        trusts.decode(changed(data, genesis=other))
    with pytest.raises(UntrustedInput):
        trusts.decode(changed(data, genesis=other, founded={**body["founded"], "genesis": other}))


@pytest.mark.parametrize("change", [{"name": "other"}, {"origin": "other.example/log"}, {"demo": True}])
def test_a_founding_that_names_another_project_than_its_policy_is_refused(scene, data, change):
    """The digest is right; what it is a digest of contradicts itself. `demo` would let simulated keys count."""
    founded = replace(scene.trust.founded, **change)
    genesis = genesis_digest(founded, scene.trust.policy.document)
    made = {**ev.to_json(founded), "genesis": genesis}
    with pytest.raises(UntrustedInput, match="the trust file's founding and policy name different projects"):
        trusts.decode(changed(data, genesis=genesis, founded=made))


@pytest.mark.parametrize(
    "seen",
    [
        {"size": -1},
        {"size": True},
        {"size": 1.5},
        {"size": "7"},
        {"root": ""},
        {"root": "nonsense"},
        {"root": ROOT.upper()},
        {"root": None},
        {"size": 0},
        {"revoked": "p-1"},
        {"revoked": [1]},
        {"counter": None},
        {"extra": 1},
    ],
)
def test_a_memory_that_no_node_can_have_is_refused(data, seen):
    body = json.loads(data)
    with pytest.raises(MalformedInput) as caught:
        trusts.decode(changed(data, seen={**body["seen"], **seen}))
    assert "compare its genesis by voice" in caught.value.help


@pytest.mark.parametrize("junk", [b"", b"[]", b"{}", b"\xff", b'{"v":1,"v":1}'])
def test_junk_is_refused(junk):
    with pytest.raises(MalformedInput):
        trusts.decode(junk)


def test_a_founding_that_is_another_event_is_refused(scene, data):
    with pytest.raises(MalformedInput, match="does not hold a founding and a policy"):
        trusts.decode(changed(data, founded=ev.to_json(scene.status)))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        MalformedInput, match=r"the trust file `.*trust.json` cannot be read: No such file or directory"
    ):
        trusts.read(tmp_path / "trust.json")
