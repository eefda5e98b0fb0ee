"""The attack: let an SSH signature pass for more than it is. Real `ssh-keygen` where it can make the thing at all."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.approval import quorum, row_of
from keyturn.core.dossier import as_request
from keyturn.core.errors import MalformedInput, TamperDetected, UntrustedInput
from keyturn.core.policy import Key as PolicyKey
from keyturn.core.policy import Policy
from keyturn.core.policy_reading import read_policy
from keyturn.core.terms import Custody
from keyturn.flow import approval as approvals
from keyturn.verify.check import check
from keyturn.wire import approval, base64, leaf, signature
from keyturn.wire.ssh import sshsig
from tests.verify import scene as scenes
from tests.verify.scene import ACTION, KEYS, SCOPE, SERVICE, Key, Scene, document, people
from tests.wire.sshkeys import ED25519, PIN, SK_ED25519, TOUCH, SshKey, message, mpint

M = message()


class Person(Key):
    """A scene's person who signs with an SSH key made by hand, in the namespace of what they sign."""

    def __init__(self, key: SshKey, **parts: Any) -> None:
        self.name, self.key, self.parts, self.public = "ssh", key, parts, key.public

    def sign(self, message: bytes) -> bytes:
        namespace = "keyturn-genesis-v1" if b"urn:keyturn:genesis:v1" in message else "keyturn-approval-v1"
        return self.key.sign(message, **{"namespace": namespace, **self.parts})


def enrolled(public: str, **demands: bool) -> dict[str, Any]:
    return {"kind": "ssh", "public": public, "custody": "separate", **demands}


def with_keys(who: str, *keys: dict[str, Any]) -> dict[str, Any]:
    """The scene's policy with these keys for one person."""
    rows = [{**row, "keys": [*keys]} if row["id"] == who else row for row in people()]
    return document(people=rows)


def ask(path: Path, key: Person, *keys: dict[str, Any]) -> tuple[Scene, Any]:
    """A founded project in which ada holds these keys, and its candidate's dossier."""
    honest = [key, Person(key.key)]
    scene = Scene.begin(path / "log.db", with_keys("ada", *keys), honest)
    before = KEYS["ada"]
    KEYS["ada"] = Person(key.key)
    try:
        scene.found()
    finally:
        KEYS["ada"] = before
    return scene, scene.propose()


def generate(folder: Path, kind: str = "ed25519", name: str = "id") -> str:
    """A key pair by ssh-keygen; its public line."""
    command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(folder / name)]
    subprocess.run(command, check=True, capture_output=True)
    return " ".join((folder / f"{name}.pub").read_text().split()[:2])


def by_ssh_keygen(folder: Path, namespace: str, *options: str, name: str = "id", text: bytes = M) -> str:
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(folder / name), *options]
    return subprocess.run(command, input=text, check=True, capture_output=True).stdout.decode()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
@pytest.mark.parametrize("hash", ["sha256", "sha512"])
def test_what_ssh_keygen_signs_holds_in_its_namespace_only(tmp_path: Path, kind: str, hash: str) -> None:
    public = generate(tmp_path, kind)
    good = by_ssh_keygen(tmp_path, "keyturn-approval-v1", "-O", f"hashalg={hash}")
    assert signature.verify(public, M, sshsig.unarmor(good))
    for namespace in ("keyturn-audit-v1", "git", "file", "keyturn-approval-v2"):
        sig = sshsig.unarmor(by_ssh_keygen(tmp_path, namespace, "-O", f"hashalg={hash}"))
        assert not signature.verify(public, M, sig)


def test_another_key_of_the_same_persons_file_does_not_sign_for_the_enrolled_one(tmp_path: Path) -> None:
    public = generate(tmp_path)
    generate(tmp_path, name="other")
    assert not signature.verify(public, M, sshsig.unarmor(by_ssh_keygen(tmp_path, "keyturn-approval-v1", name="other")))
    key = SshKey()
    assert not signature.verify(key.public, M, SshKey(name="other").sign(M, key=key.blob)), "another key's blob inside"


@pytest.mark.parametrize("kind", ["rsa"])
def test_rsa_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    public = generate(tmp_path, kind)
    found = read_policy(with_keys("ada", enrolled(public)))
    assert isinstance(found, list | tuple)
    assert not isinstance(found, Policy)
    assert any("type `ssh-rsa` may not sign" in each.message for each in found)
    with pytest.raises(MalformedInput, match="may not sign"):
        signature.verify(public, M, sshsig.unarmor(by_ssh_keygen(tmp_path, "keyturn-approval-v1")))


@pytest.mark.parametrize(
    "parts",
    [
        {"tail": b"\0"},
        {"magic": b"SSHSIH"},
        {"version": 2},
        {"version": 0},
        {"hash": "sha1", "digest": "sha1"},
        {"hash": "md5", "digest": "md5"},
        {"hash": "sha384", "digest": "sha384"},
        {"reserved": b"x"},
        {"namespace": ""},
        {"namespace": "keyturn-approval-v1\0"},
        {"algorithm": "ssh-rsa"},
        {"algorithm": SK_ED25519},
        {"shown": b"\5\0\0\0\7"},
        {"sig": b""},
        {"sig": bytes(65)},
    ],
    ids=str,
)
def test_an_sshsig_that_is_not_exactly_one_does_not_hold(parts: dict[str, Any]) -> None:
    key = SshKey()
    assert signature.verify(key.public, M, key.sign(M))
    assert not signature.verify(key.public, M, key.sign(M, **parts))


def test_a_number_of_ecdsa_has_one_spelling() -> None:
    key = SshKey("ecdsa-sha2-nistp256")
    parsed = sshsig.parse(key.sign(M))
    size = int.from_bytes(parsed.sig[:4], "big")
    r, rest = parsed.sig[4 : 4 + size], parsed.sig[4 + size :]
    longer = (size + 1).to_bytes(4, "big") + b"\0" + r + rest
    for sig in (longer, parsed.sig + b"\0", mpint(0) + rest, mpint(1) + mpint(1 << 256)):
        assert not signature.verify(key.public, M, key.sign(M, sig=sig))


def test_flags_that_the_device_did_not_sign_do_not_count() -> None:
    key = SshKey(SK_ED25519)
    untouched = key.sign(M, flags=0, shown=bytes([TOUCH | PIN]) + (7).to_bytes(4, "big"))
    assert not signature.verify(key.public, M, untouched)


def test_a_device_key_for_another_application_signs_nothing_here() -> None:
    key, other = SshKey(SK_ED25519), SshKey(SK_ED25519, application="ssh:elsewhere")
    assert not signature.verify(key.public, M, other.sign(M, key=key.blob))


def test_a_raw_signature_is_no_ssh_signature_and_the_reverse() -> None:
    key = SshKey()
    raw = base64.encode(key.ed25519.public_key().public_bytes_raw())
    assert signature.verify(raw, M, key.ed25519.sign(M))
    assert not signature.verify(key.public, M, key.ed25519.sign(M))
    assert not signature.verify(raw, M, key.sign(M))
    assert not signature.verify(raw, M, sshsig.parse(key.sign(M)).sig)
    assert not signature.verify(key.public, M, key.sign(M, sig=key.ed25519.sign(M))), "M itself under the SSH frame"


def test_what_the_governor_states_is_never_signed_by_an_ssh_key() -> None:
    key = SshKey()
    for text in (b"", b"checkpoint", message("urn:keyturn:permit:v1"), message("urn:keyturn:evidence:v1"), b"{" + M):
        assert not signature.verify(key.public, text, key.sign(text))


@pytest.mark.parametrize(
    ("flags", "demands"),
    [(PIN, {"touch": True}), (TOUCH, {"pin": True}), (TOUCH, {"touch": True, "pin": True}), (0, {"touch": True})],
)
def test_a_signature_without_the_touch_or_pin_demanded_never_counts(
    tmp_path: Path, flags: int, demands: dict[str, bool]
) -> None:
    lazy = Person(SshKey(SK_ED25519), flags=flags)
    scene, digest = ask(tmp_path, lazy, enrolled(lazy.public, **demands))
    terms = scene.terms(digest, "ada", "safety")
    with pytest.raises(UntrustedInput, match="without the touch or the PIN"):
        approvals.give(scene.log, terms, public=lazy.public, sign=lazy.sign)
    assert not scene.dossier(digest).approvals
    scene.log.store.close()


def test_a_founding_without_the_touch_demanded_is_no_founding(tmp_path: Path) -> None:
    lazy = Person(SshKey(SK_ED25519), flags=0)
    with pytest.raises(TamperDetected, match="a founding that `ada` did not sign"):
        Scene.begin(tmp_path / "log.db", with_keys("ada", enrolled(lazy.public, touch=True)), [lazy])


def test_a_release_signed_with_a_device_loads_offline_and_one_without_its_touch_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Person(SshKey(SK_ED25519))
    monkeypatch.setitem(KEYS, "ada", device)
    made = scenes.released(tmp_path / "log.db", with_keys("ada", enrolled(device.public, touch=True, pin=True)))
    asked: dict[str, Any] = {"trust": made.trust, "action": ACTION, "scope": SCOPE, "now": made.now}
    assert not check(made.honest, **asked).doubts
    hand = scenes.Hand.of(made)
    place = hand.add(scenes.signed(made.terms["ada"], Person(device.key, flags=TOUCH)))
    permit = hand.permit()
    hand.status()
    found = check(hand.show(permit, (made.approval_indexes[1], place)), **asked).doubts
    assert found
    assert "without the touch or the PIN" in found[0].message


def test_one_person_with_an_ssh_and_an_ed25519_key_counts_once(tmp_path: Path) -> None:
    ssh, plain = Person(SshKey()), KEYS["ada"]
    both = [enrolled(ssh.public), {"kind": "ed25519", "public": plain.public, "custody": "separate"}]
    scene, digest = ask(tmp_path, ssh, *both)
    for key in (ssh, plain):
        terms = replace(scene.terms(digest, "ada", "safety"), nonce=f"by {key.name}")
        approvals.give(scene.log, terms, public=key.public, sign=key.sign)
    dossier = scene.dossier(digest)
    row = row_of(scene.log.state, as_request(dossier))
    assert row is not None
    assert len(dossier.approvals) == 2
    counted = quorum(scene.log.state, dossier, row, scene.log.now())
    assert counted.counted == (("ada", "safety"),)
    assert counted.missing
    assert any("counted already" in why for _, why in counted.discounted)
    scene.log.store.close()


def test_one_secret_cannot_be_two_people() -> None:
    key = SshKey()
    raw = base64.encode(key.ed25519.public_key().public_bytes_raw())
    rows = people()
    rows[0]["keys"], rows[1]["keys"] = [enrolled(key.public)], [{"kind": "ed25519", "public": raw}]
    found = read_policy(document(people=rows))
    assert not isinstance(found, Policy)
    assert any("more than once" in each.message for each in found)


def test_the_governors_own_key_does_not_count_as_an_ssh_key_either(tmp_path: Path) -> None:
    key = SshKey(ED25519, "governor")
    key.ed25519 = SERVICE._private
    blob = key.blob[:-32] + base64.decode(SERVICE.public, what="public")
    key.blob, key.public = blob, f"{ED25519} {base64.encode(blob)}"
    disguised = Person(key)
    with pytest.raises(TamperDetected, match="the governor's own key"):
        Scene.begin(tmp_path / "log.db", with_keys("ada", enrolled(disguised.public)), [disguised])


@pytest.mark.parametrize("demand", ["touch", "pin"])
def test_touch_and_pin_cannot_be_demanded_of_a_key_that_is_no_device(demand: str) -> None:
    for row in (
        enrolled(SshKey().public, **{demand: True}),
        {"kind": "ed25519", "public": KEYS["ada"].public, demand: True},
    ):
        found = read_policy(with_keys("ada", row))
        assert not isinstance(found, Policy)
        assert [each.path for each in found if "could never sign" in each.message] == [f"people[0].keys[0].{demand}"]


def test_a_device_is_recorded_as_hardware_and_other_ssh_keys_are_not() -> None:
    found = [
        read_policy({**with_keys("ada", {"kind": "ssh", "public": SshKey(kind).public}), "project": project})
        for kind in (SK_ED25519, ED25519)
        for project in [{**document()["project"], "custody_least": "shared-account"}]
    ]
    assert [each.people[0].keys[0].custody for each in found if isinstance(each, Policy)] == [
        Custody.HARDWARE,
        Custody.SHARED_ACCOUNT,
    ]


def test_a_leaf_names_the_key_that_signed(tmp_path: Path) -> None:
    ssh = Person(SshKey())
    scene, digest = ask(tmp_path, ssh, enrolled(ssh.public))
    terms = scene.terms(digest, "ada", "safety")
    data = leaf.encode_approval(terms, public=ssh.public, sign=ssh.sign)
    ring = leaf.Keyring(SERVICE.public, {"ada": (PolicyKey("ssh", ssh.public, Custody.SEPARATE),)})
    event = leaf.decode(data, ring)
    assert getattr(event, "key", "") == ssh.public
    assert approval.message(terms).startswith(b"DSSEv1 ")
    scene.log.store.close()
