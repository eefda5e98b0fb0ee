"""The last containment check stands only for what it ran on, for as long as the policy says, and if it did not fail."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Digest, Instant, Tier
from keyturn.sandbox.port import Attestation
from keyturn.sandbox.standing import file
from keyturn.sandbox.standing.judging import Kept, Moment, Standing, judge, with_check

BOUND = {
    "boot": "2dd7e605-d17f-4463-9496-2b1ff0930a8b",
    "kernel": "6.18.44 x86_64",
    "user": "0",
    "backend": "bubblewrap 0.8.0",
    "filter": "sha256:" + "f" * 64,
    "profile": "sha256:" + "a" * 64,
    "suite": "sha256:" + "5" * 64,
    "cgroup layout": "v2 and v1 memory pids",
}
WEEK = 7 * 86400
THEN = Moment(Instant(1_796_092_698_201), 13_331_185)
KEPT = Kept(
    tier=Tier.T2,
    suite=Digest(BOUND["suite"]),
    held=27,
    scored=28,
    controlled=20,
    failed=("lock-on-a-shared-file (breach)",),
    residual=("locks on shared read-only files",),
    seconds=6.1,
    when=THEN,
    bound=BOUND,
)


def later(seconds: float, *, boot_seconds: float | None = None) -> Moment:
    """So long after the check, on both clocks or on each its own."""
    boot = seconds if boot_seconds is None else boot_seconds
    return Moment(Instant(THEN.at + int(seconds * 1000)), THEN.since_boot_ms + int(boot * 1000))


def judged(kept: Kept | None = KEPT, *, now: Moment | None = None, most: int = WEEK, **bound: str) -> Standing:
    return judge(kept, "", bound={**BOUND, **bound}, now=now or later(60), seconds_max=most)


def test_a_check_of_this_very_sandbox_stands() -> None:
    seen = judged()
    assert (seen.word, seen.stands, seen.findings, seen.age_ms, seen.due) == ("stands", True, (), 60_000, False)


@pytest.mark.parametrize("name", BOUND)
def test_any_difference_means_that_it_was_never_checked(name: str) -> None:
    seen = judged(**{name: "another"})
    assert seen.word == "never"
    assert len(seen.findings) == 1
    assert seen.findings[0].startswith(f"another {name} was checked")


def test_something_more_or_less_to_be_bound_to_is_a_difference_too() -> None:
    assert judged(engine="new").word == "never"
    assert judged(replace(KEPT, bound={**BOUND, "engine": "old"})).word == "never"


def test_it_is_too_old_by_either_clock() -> None:
    assert judged(now=later(WEEK)).word == "stands"
    assert judged(now=later(WEEK + 1)).word == "old"
    set_back = judged(now=later(60, boot_seconds=WEEK + 1))  # somebody set the clock; the boot clock ran on
    assert (set_back.word, set_back.findings) == (
        "old",
        (f"the last check is {WEEK + 1} seconds old; {WEEK} is the most",),
    )
    assert judged(now=later(WEEK + 1), most=WEEK + 2).word == "stands"


def test_a_moment_that_has_not_come_was_never_seen() -> None:
    assert judged(now=later(-3600)).word == "never"
    assert judged(now=later(60, boot_seconds=-3600)).word == "never"
    assert judged(now=later(-1)).word == "stands"  # two clocks, read one after the other


@pytest.mark.parametrize("kept", [replace(KEPT, tier=Tier.T0, held=3), replace(KEPT, held=0, scored=0)])
def test_a_check_that_earned_nothing_failed(kept: Kept) -> None:
    seen = judged(kept)
    assert seen.word == "failed"
    assert "lock-on-a-shared-file (breach)" in seen.findings[0]


def test_every_finding_is_told_and_the_gravest_gives_the_word() -> None:
    seen = judged(replace(KEPT, tier=Tier.T0), now=later(WEEK + 1), boot="another", kernel="another")
    assert (seen.word, len(seen.findings)) == ("never", 4)
    assert judged(replace(KEPT, tier=Tier.T0), now=later(WEEK + 1)).word == "old"


def test_what_will_not_stand_for_long_is_due() -> None:
    assert not judged(now=later(WEEK * 0.89)).due
    assert judged(now=later(WEEK * 0.91)).due


# What an attestation makes of it

SEEN = Attestation(Tier.T2, {"backend": "bubblewrap 0.8.0"}, (), ())


def test_an_attestation_carries_the_check_and_equal_ones_stay_equal() -> None:
    first, second = with_check(SEEN, judged()), with_check(SEEN, judged(now=later(3600)))
    assert first == second
    assert (first.tier, first.problems) == (Tier.T2, ())
    assert first.facts["check"] == {
        "suite": BOUND["suite"], "held": 27, "scored": 28, "controlled": 20, "tier": "T2", "at": THEN.at,
    }  # fmt: skip  # one row


@pytest.mark.parametrize(
    "seen", [judged(None), judged(boot="another"), judged(now=later(WEEK + 1)), judged(replace(KEPT, tier=Tier.T0))]
)
def test_an_attestation_without_a_standing_check_is_worth_nothing(seen: Standing) -> None:
    made = with_check(SEEN, seen)
    assert made.tier is Tier.T0
    assert made.problems == tuple(f"containment check: {finding}" for finding in seen.findings) != ()


def test_no_attestation_is_better_than_its_check_and_no_check_makes_one_better() -> None:
    lower = with_check(SEEN, judged(replace(KEPT, tier=Tier.T1)))
    assert (lower.tier, lower.problems) == (Tier.T1, ())
    assert lower.weaker == ("check: it earns T1: 27 of 28 probes held; not lock-on-a-shared-file (breach)",)
    assert with_check(replace(SEEN, tier=Tier.T1), judged()).tier is Tier.T1
    assert with_check(replace(SEEN, tier=Tier.T0, problems=("`/` is writable",)), judged()).problems == (
        "`/` is writable",
    )


# The file


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return file.place()


def test_it_is_kept_for_this_user_alone_and_read_as_it_was_written(place: Path) -> None:
    assert file.read(place) == (None, "")
    file.write(place, KEPT)
    assert file.read(place) == (KEPT, "")
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in place.parent.iterdir()] == [place.name]


def test_a_relative_place_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert file.place() == Path.home() / ".local/state/keyturn/sandbox-check.json"


EDITS: dict[str, Callable[[dict[str, object]], object]] = {
    "another tier": lambda body: body.update(tier="T4"),
    "more held": lambda body: body.update(held=28),
    "younger": lambda body: body.update(at=THEN.at + 1000),
    "another machine": lambda body: body.update(bound={**BOUND, "boot": "this one"}),
    "a breach less": lambda body: body.update(failed=[]),
    "a key more": lambda body: body.update(note="trust me"),
    "a key less": lambda body: body.pop("residual"),
    "another form": lambda body: body.update(format=2),
    "a score that is a word": lambda body: body.update(held="all"),
    "no bounds": lambda body: body.update(bound=[]),
    "a time beyond all": lambda body: body.update(seconds=10**400),
    "a tier that there is not": lambda body: body.update(tier="T9"),
}


def test_a_result_that_is_no_json_is_said_to_be_none(place: Path) -> None:
    file.write(place, KEPT)
    place.write_text("x", encoding="utf-8")
    assert file.read(place) == (None, f"its result at `{place}` is not what a check writes: it is no JSON")


@pytest.mark.parametrize("name", EDITS)
def test_a_result_that_was_edited_counts_as_none(place: Path, name: str) -> None:
    file.write(place, KEPT)
    body = json.loads(place.read_bytes())
    EDITS[name](body)
    place.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    kept, why = file.read(place)
    assert kept is None
    assert "is not what a check writes" in why


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff\xfe", b"null", b"9" * 300_000, b"[" * 100_000])
def test_a_result_that_is_none_counts_as_none(place: Path, data: bytes) -> None:
    file.write(place, KEPT)
    place.write_bytes(data)
    assert file.read(place)[0] is None
    assert judge(*file.read(place), bound=BOUND, now=later(60), seconds_max=WEEK).word == "never"


def test_a_result_that_others_could_have_written_counts_as_none(place: Path) -> None:
    file.write(place, KEPT)
    place.chmod(0o620)
    assert "others may write it" in file.read(place)[1]
    place.chmod(0o600)
    place.parent.chmod(0o777)
    assert "others may write its folder" in file.read(place)[1]


def test_a_link_or_a_pipe_in_its_place_is_not_followed(place: Path, tmp_path: Path) -> None:
    file.write(tmp_path / "elsewhere" / "result", KEPT)
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(tmp_path / "elsewhere" / "result")
    assert "cannot be read" in file.read(place)[1]
    place.unlink()
    os.mkfifo(place, 0o600)
    assert "it is of another kind" in file.read(place)[1]


def test_a_folder_that_cannot_be_written_to_says_what_to_do(place: Path, tmp_path: Path) -> None:
    (tmp_path / "keyturn").write_text("no folder", encoding="utf-8")
    with pytest.raises(Unavailable, match="cannot be kept") as raised:
        file.write(place, KEPT)
    assert "XDG_STATE_HOME" in raised.value.help


def test_one_check_at_a_time_and_whoever_waits_can_be_called_away(place: Path) -> None:
    class Called(Exception):
        pass

    def called() -> None:
        raise Called

    with file.one_at_a_time(place, lambda: None), pytest.raises(Called), file.one_at_a_time(place, called):
        pass
    with file.one_at_a_time(place, called):
        pass
