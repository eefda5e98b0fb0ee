"""Somebody changes an export on its way to the auditor: each change is found, and the rest is looked at as well."""

from __future__ import annotations

import gzip
import json

import pytest

from keyturn.app.auditing.replaying import replay_export
from keyturn.ledger import tree
from keyturn.ledger.checkpoint import Checkpoint, sign
from keyturn.ledger.export import archive
from keyturn.verify import trust as trusts
from tests.ledger.exports import RECORDED, TRUST, bundle_of, packed, quiet, unpacked
from tests.ledger.signers import Key

HONEST = RECORDED.read_bytes()
FILES = unpacked(HONEST)
ENTRIES = next(name for name in FILES if name.startswith("tile/entries/"))
HASHES = next(name for name in FILES if name.startswith("tile/0/"))
LEAVES = archive._leaves(ENTRIES, FILES[ENTRIES])


def rules(tmp_path, data, trust=TRUST):
    """Every rule that a file breaks, with the first message of each."""
    (tmp_path / "got.tar").write_bytes(data)
    found = replay_export(tmp_path / "got.tar", trust=trust, tell=quiet)
    return {rule: message for _, rule, message in reversed(found.problems)}


def with_leaves(leaves):
    return packed({**FILES, ENTRIES: bundle_of(leaves)})


def consistent(leaves, notes=()):
    """All that a forger without the log's key can put right: manifest, hashes, names, and checkpoints of others."""
    levels = archive.Levels()
    levels.extend([tree.leaf_hash(each) for each in leaves])
    said = json.loads(FILES["manifest.json"])
    sizes = [size for size in said["checkpoints"] if size < len(leaves)] + [len(leaves)]
    old = [FILES[f"checkpoints/{size}"] for size in sizes[:-1]]
    head = Checkpoint(said["origin"], len(leaves), levels.root())
    forged = sign(head, Key(said["origin"], "mallory"))
    manifest = archive._encode(
        archive.Manifest(
            said["origin"], said["genesis"], said["log_key"], len(leaves), levels.root().hex(), tuple(sizes)
        )
    )
    names = {f"checkpoints/{size}": data for size, data in zip(sizes, [*old, forged], strict=True)}
    return packed(
        {
            "manifest.json": manifest,
            "checkpoint": forged,
            **names,
            archive._name("entries", 0, len(leaves)): bundle_of(leaves),
            archive._name("0", 0, len(leaves)): b"".join(levels.hashes[0]),
        }
    )


def test_the_untouched_file_is_sound(tmp_path):
    assert packed(FILES) == HONEST
    assert rules(tmp_path, HONEST) == {}


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        (LEAVES[:50] + LEAVES[51:], {"log_must_be_whole", "entries_must_keep_their_order"}),
        ((*LEAVES[:50], LEAVES[49], *LEAVES[51:]), {"entries_must_keep_their_order"}),
        ((*LEAVES[:50], LEAVES[51], LEAVES[50], *LEAVES[52:]), {"entries_must_keep_their_order"}),
        ((*LEAVES[:50], LEAVES[50][:-1] + b" ", *LEAVES[51:]), {"entries_must_stay_as_appended"}),
        (LEAVES[:100], {"log_must_be_whole", "log_must_not_lose_entries"}),
    ],
    ids=["dropped", "duplicated", "reordered", "edited", "truncated"],
)
def test_a_touched_entry_is_named_and_the_signed_root_still_speaks(tmp_path, leaves, expected):
    found = rules(tmp_path, with_leaves(leaves))
    assert expected | {"root_must_follow_from_entries"} <= set(found), found
    assert {"log_must_be_what_was_signed", "log_must_not_lose_entries"} & set(found)


def test_everything_wrong_is_said_at_once(tmp_path):
    leaves = (*LEAVES[:10], LEAVES[11], LEAVES[10], *LEAVES[12:60], LEAVES[60][:-1] + b" ", *LEAVES[61:])
    forged = FILES["checkpoint"].replace(b"\n128\n", b"\n127\n")
    found = rules(tmp_path, packed({**FILES, ENTRIES: bundle_of(leaves), "checkpoint": forged}))
    assert set(found) >= {
        "entries_must_keep_their_order",
        "entries_must_stay_as_appended",
        "leaf_must_be_signed_and_lawful",
        "every_entry_must_be_decided",
        "log_must_be_what_was_signed",
        "checkpoints_must_be_signed",
        "manifest_must_name_the_newest_checkpoint",
    }


@pytest.mark.parametrize("trust", [None, TRUST], ids=["unpinned", "pinned"])
@pytest.mark.parametrize("leaves", [LEAVES[:-1], LEAVES[:50] + LEAVES[51:], LEAVES + LEAVES[-1:]])
def test_who_puts_everything_right_but_the_signature_fails_at_the_signature(tmp_path, leaves, trust):
    assert "checkpoints_must_be_signed" in rules(tmp_path, consistent(leaves), trust)


def test_an_older_export_is_sound_until_somebody_remembers_a_newer_one(tmp_path):
    said = json.loads(FILES["manifest.json"])
    size = said["checkpoints"][-2]
    note = FILES[f"checkpoints/{size}"]
    levels = archive.Levels()
    levels.extend([tree.leaf_hash(each) for each in LEAVES[:size]])
    sizes = tuple(said["checkpoints"][:-1])
    manifest = archive.Manifest(said["origin"], said["genesis"], said["log_key"], size, levels.root().hex(), sizes)
    with (tmp_path / "older.tar").open("wb") as file:
        archive.write(file, manifest, [*(FILES[f"checkpoints/{each}"] for each in sizes[:-1]), note], LEAVES[:size])
    older = (tmp_path / "older.tar").read_bytes()
    assert rules(tmp_path, older) == {}
    own = trusts.read(TRUST)
    seen = trusts.Seen(size=len(LEAVES), root=said["root"])
    trusts.write(trusts.Trust(own.genesis, own.founded, own.policy, seen), tmp_path / "seen.json")
    assert set(rules(tmp_path, older, tmp_path / "seen.json")) == {"log_must_not_shrink"}
    assert rules(tmp_path, HONEST, tmp_path / "seen.json") == {}
    other = trusts.Seen(size=100, root="0" * 64)
    trusts.write(trusts.Trust(own.genesis, own.founded, own.policy, other), tmp_path / "seen.json")
    assert set(rules(tmp_path, HONEST, tmp_path / "seen.json")) == {"log_must_not_be_rewritten"}


def test_a_log_that_rests_on_another_founding_is_not_the_pinned_one(tmp_path):
    from tests.verify.scene import Scene

    scene = Scene.begin(tmp_path / "log.db")
    scene.log.store.close()
    trusts.write(scene.trust, tmp_path / "other.json")
    found = rules(tmp_path, HONEST, tmp_path / "other.json")
    assert {"genesis_must_be_the_pinned_one", "checkpoints_must_be_signed"} <= set(found)


@pytest.mark.parametrize("cut", [0, 100, 511, 512, 5000, len(HONEST) - 1025, len(HONEST) - 1024, len(HONEST) - 1])
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path, cut):
    assert "file_must_be_an_export" in rules(tmp_path, HONEST[:cut])


def test_nothing_is_read_that_a_header_only_declares(tmp_path):
    bomb = archive._header("manifest.json", 1 << 30)
    assert "declares 1073741824 bytes" in rules(tmp_path, bomb)["file_must_be_an_export"]
    many = archive._encode(archive.Manifest("o", "g", "k", 2**53 - 1, "0" * 64, (2**53 - 1,)))
    assert "file_must_be_an_export" in rules(tmp_path, packed({"manifest.json": many, "checkpoint": b"x"}))


def test_a_compressed_file_is_none(tmp_path):
    assert "file_must_be_an_export" in rules(tmp_path, gzip.compress(bytes(50_000_000)))


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "checkpoint/../evil", "tile/entries/000", "x" * 99])
def test_no_name_is_read_but_the_expected_one(tmp_path, name):
    replaced = {(name if each == "checkpoint" else each): data for each, data in FILES.items()}
    assert "where `checkpoint` is expected" in rules(tmp_path, packed(replaced))["file_must_be_an_export"]
    added = packed({**FILES, name: b"more"})
    assert "file_must_be_an_export" in rules(tmp_path, added)
    assert list(tmp_path.iterdir()) == [tmp_path / "got.tar"]


@pytest.mark.parametrize("kind", [b"1", b"2", b"5", b"x", b"g", b"L", b"S", b"\0"])
def test_only_a_regular_file_in_the_one_spelling_is_read(tmp_path, kind):
    data = bytearray(HONEST)
    data[156:157] = kind
    data[148:156] = b"        "
    data[148:156] = b"%06o\0 " % sum(data[:512])
    assert "file_must_be_an_export" in rules(tmp_path, bytes(data))


def test_nothing_hides_behind_a_file_or_after_the_last_one(tmp_path):
    data = bytearray(HONEST)
    data[1023] = 1
    assert "hidden behind it" in rules(tmp_path, bytes(data))["file_must_be_an_export"]
    assert "after the last file" in rules(tmp_path, HONEST + bytes(512))["file_must_be_an_export"]
    assert "file_must_be_an_export" in rules(tmp_path, HONEST[:-1024] + HONEST)


def test_every_flipped_byte_is_found(tmp_path):
    for at in range(0, len(HONEST), 49_999):
        data = bytearray(HONEST)
        data[at] ^= 1
        assert rules(tmp_path, bytes(data)), at
