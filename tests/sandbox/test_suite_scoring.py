"""What the rows of a check amount to, what doubt is worth, and that the documents say what the suite says."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Digest, Tier
from keyturn.sandbox.port import Limits
from keyturn.sandbox.suite import Row, places, run
from keyturn.sandbox.suite import canaries as canary
from keyturn.sandbox.suite.canaries import Canaries
from keyturn.sandbox.suite.probes.attempt import MARK, Attempts, ProbeFault
from keyturn.sandbox.suite.run import grouped, residual, tried
from keyturn.sandbox.suite.score import FLOORS, Checked, Inside, Kind, checked
from keyturn.sandbox.suite.table import ALWAYS, PROBES
from tests.sandbox.fake import FakeBackend, Room

REPO = Path(__file__).resolve().parents[2]
ESCAPE = PROBES[0]


def row(kind: Kind = "escape", inside: Inside = "held", **changes: object) -> Row:
    made = Row(1, "read-host-secret", "read", kind, inside, "EACCES", "succeeds", "read", FLOORS[kind])
    return replace(made, **changes)


def amounts(*rows: Row, attested: Tier = Tier.T2) -> Checked:
    return checked(rows, attested=attested, weaker=(), residual=(), suite=Digest("x"), seconds=1.0)


def test_all_held_earns_what_was_attested_and_no_more() -> None:
    assert amounts(row(), row("channel")).tier is Tier.T2
    assert amounts(row(), attested=Tier.T1).tier is Tier.T1
    assert amounts(row(), attested=Tier.T0).tier is Tier.T0


@pytest.mark.parametrize("inside", ["breach", "unsure"])
@pytest.mark.parametrize(
    ("kind", "tier"),
    [("escape", Tier.T0), ("resource", Tier.T1), ("channel", Tier.T1), ("information", Tier.T2)],
)
def test_a_breach_or_doubt_lowers_the_tier_to_the_floor_of_its_kind(kind: Kind, tier: Tier, inside: Inside) -> None:
    assert amounts(row(), row(kind, inside)).tier is tier


def test_a_breach_never_raises_a_tier() -> None:
    assert amounts(row("channel", "breach"), attested=Tier.T0).tier is Tier.T0


def test_a_control_that_fails_is_counted_and_lowers_nothing() -> None:
    found = amounts(row(), row(control="fails", control_detail="EPERM"))
    assert (found.tier, found.held, found.scored, found.controlled) == (Tier.T2, 2, 2, 1)


def test_what_only_informs_is_not_scored() -> None:
    found = amounts(row(), row("information", "breach"))
    assert (found.tier, found.held, found.scored, found.controlled) == (Tier.T2, 1, 1, 1)


def test_no_row_at_all_earns_nothing() -> None:
    assert amounts().tier is Tier.T0
    assert amounts(row("information")).tier is Tier.T0


def test_a_residual_channel_is_told_unless_it_was_shown_to_be_closed() -> None:
    probe = next(probe for probe in PROBES if probe.residual)
    for inside, told in {"held": False, "breach": True, "unsure": True}.items():
        rows = (row("information", inside, probe=probe.id),)  # type: ignore[arg-type]  # the three words
        assert (probe.residual in residual(rows)) is told
    assert set(ALWAYS) <= set(residual(()))


def test_the_table_numbers_every_probe_once() -> None:
    assert [probe.number for probe in PROBES] == list(range(1, len(PROBES) + 1))
    assert len({probe.id for probe in PROBES}) == len(PROBES)
    assert [probe.id for probe in PROBES if (probe.kind == "information") != bool(probe.residual)] == []
    assert sum(probe.kind != "information" for probe in PROBES) == 32


# -- doubt


@pytest.fixture
def canaries(tmp_path: Path) -> Iterator[Canaries]:
    with Canaries(tmp_path / "canaries") as made:
        yield made


def sealed(canaries: Canaries, subject: Callable[[Room], int]) -> places.Sealed:
    return places.Sealed(FakeBackend({"-I": subject}), canaries)


def says(text: str, code: int = 0) -> Callable[[Room], int]:
    def subject(room: Room) -> int:
        room.diagnostics = text.encode()
        return code

    return subject


def report(probe: str = ESCAPE.id, **met: str) -> str:
    return f"\n{MARK}{json.dumps({'probe': probe, 'met': met})}\n"


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        (says(""), "it left no report"),
        (says(MARK + "{"), "it left no report"),
        (says(MARK + '{"probe": "read-host-secret"}'), "it left no report"),
        (says(report("another", path="EACCES")), "another probe answered: another"),
        (says(report(path="EACCES"), code=1), "it ended badly: exited, code 1, signal None"),
        (says(report()), "it tried nothing"),
    ],
)
def test_a_probe_that_did_not_end_well_is_unsure(canaries: Canaries, subject: Callable[[Room], int], why: str) -> None:
    assert tried(ESCAPE, sealed(canaries, subject)) == ("unsure", why)


def test_a_probe_that_hangs_is_unsure(canaries: Canaries, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(room: Room) -> int:
        room.stopped.wait(20)
        return 0

    monkeypatch.setattr(places.How, "__init__", _short(places.How.__init__))
    assert tried(ESCAPE, sealed(canaries, hang)) == ("unsure", "it ended badly: wall, code None, signal None")


def _short(make: Callable[..., None]) -> Callable[..., None]:
    def made(self: object, **words: object) -> None:
        make(self, **{**words, "wall_seconds": 0.2})

    return made


def test_a_probe_that_met_errors_only_is_held_and_one_success_is_a_breach(canaries: Canaries) -> None:
    held = says(report(one="EACCES", two="ENOENT", three="EACCES"))
    assert tried(ESCAPE, sealed(canaries, held)) == ("held", "EACCES (one, three); ENOENT (two)")
    through = says(report(one="EACCES", two=""))
    assert tried(ESCAPE, sealed(canaries, through)) == ("breach", "got through: two; else EACCES: one")


def test_what_is_seen_from_outside_counts_whatever_the_probe_says(canaries: Canaries) -> None:
    def lie(room: Room) -> int:
        (canaries.folder / "secret").read_bytes()
        (canaries.folder / "mark").touch()
        return says(report(path="EACCES"))(room)

    assert tried(ESCAPE, sealed(canaries, lie)) == (
        "breach",
        "got through: the host's folder, the host's secret; else EACCES: path",
    )


def test_a_long_answer_names_a_few_and_counts_the_rest() -> None:
    assert grouped({"only": "ENOSYS"}) == "ENOSYS: only"
    assert grouped({str(n): "ENOSYS" for n in range(8)}) == "ENOSYS (0, 1, 2, 3, 4, 5 and 2 more)"


# -- the digest


def test_a_changed_probe_is_a_changed_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(run.__file__).parent
    copy = tmp_path / "suite"
    shutil.copytree(here, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(run, "__file__", str(copy / "run.py"))
    again = run.digest.__wrapped__
    assert again() == run.digest()
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "x.pyc").touch()
    assert again() == run.digest()
    for name in ("probes/files.py", "table.py"):
        kept = (copy / name).read_bytes()
        (copy / name).write_bytes(kept + b"#")
        assert again() != run.digest()
        (copy / name).write_bytes(kept)
    assert again() == run.digest()
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", run.digest())


# -- what is asked for is small, and the documents


def test_more_is_asked_for_than_a_sandbox_gives(canaries: Canaries) -> None:
    limits: Limits = places.LIMITS
    facts = sealed(canaries, says("")).facts()
    assert limits.processes_max < int(str(facts["processes"])) < 64
    assert limits.memory_bytes < int(str(facts["memory"])) <= 128 << 20
    assert limits.output_bytes_max < int(str(facts["flood"])) <= 8 << 20


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_every_residual_channel_stands_in_the_limitations() -> None:
    text = (REPO / "LIMITATIONS.md").read_text(encoding="utf-8")
    section = plain(text.split("\n## Sandbox\n", 1)[1].split("\n## ", 1)[0])
    told = [*ALWAYS, *(probe.residual for probe in PROBES if probe.residual)]
    assert [words for words in told if words not in section] == []


def test_the_page_on_the_sandbox_shows_the_table_as_it_is() -> None:
    text = (REPO / "docs" / "sandbox.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `([a-z-]+)` \| ([^|]+) \|", text, re.MULTILINE)
    assert [(int(number), name, what.strip()) for number, name, what in rows] == [
        (probe.number, probe.id, probe.what) for probe in PROBES
    ]
    assert [words for words in (*ALWAYS, *(p.residual for p in PROBES)) if words not in plain(text)] == []


# -- the attempts themselves


def answer(act: Callable[[], object]) -> str:
    attempts = Attempts("x", {})
    attempts.tries("it", act)
    return attempts.met["it"]


def raising(error: BaseException) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


def test_only_an_error_of_the_system_means_that_an_attempt_was_refused() -> None:
    assert answer(raising(OSError(errno.EACCES, "no"))) == "EACCES"
    assert answer(raising(OSError("nothing was seen"))) == "nothing was seen"
    assert answer(raising(OSError(errno.ETXTBSY, "in use"))) == answer(raising(OSError(errno.EFAULT, "address"))) == ""
    assert answer(lambda: "a text") == answer(lambda: None) == answer(lambda: 0) == ""
    with pytest.raises(KeyError):
        answer(raising(KeyError("a fact that nobody told")))


def apart(act: Callable[[], object]) -> str:
    attempts = Attempts("x", {})
    attempts.tries_apart("it", act)
    return attempts.met["it"]


def test_an_attempt_in_a_child_is_judged_by_its_end() -> None:
    assert apart(lambda: None) == ""
    assert apart(raising(OSError(errno.EPERM, "no"))) == "EPERM"
    assert apart(lambda: os.kill(os.getpid(), signal.SIGSYS)) == "SIGSYS"


@pytest.mark.parametrize(
    "act",
    [raising(KeyError("a fact")), lambda: os.kill(os.getpid(), signal.SIGTERM), lambda: time.sleep(60)],
    ids=["fault", "signal", "hang"],
)
def test_a_child_that_ends_otherwise_shows_nothing(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyturn.sandbox.suite.probes.attempt.CHILD_SECONDS_MAX", 0.3)
    with pytest.raises(ProbeFault):
        apart(act)


# -- the canaries


def test_a_folder_that_is_taken_breaks_nothing_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "theirs").write_text("kept")
    with pytest.raises(Unavailable) as caught, Canaries(tmp_path / "taken"):
        pass
    assert caught.value.message.startswith("the canaries of the containment suite cannot be put out: ")
    assert (tmp_path / "taken" / "theirs").read_text() == "kept"


def test_a_machine_without_a_loopback_has_one_canary_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = canary.listening

    def none(family: int, address: object) -> socket.socket:
        if family == socket.AF_INET:
            raise OSError(errno.EADDRNOTAVAIL, "no loopback")
        return real(family, address)

    monkeypatch.setattr(canary, "listening", none)
    with Canaries(tmp_path / "canaries") as made:
        assert made.facts()["port"] == 9
        assert made.touched() == ()


def test_canaries_leave_nothing(tmp_path: Path) -> None:
    with Canaries(tmp_path / "canaries") as made:
        pid = int(str(made.facts()["process"]))
        (Path("/dev/shm") / f"keyturn-{made.nonce}-mark").touch()
    assert list(tmp_path.iterdir()) == []
    assert not Path(f"/proc/{pid}").exists()
    assert not (Path("/dev/shm") / f"keyturn-{made.nonce}-mark").exists()
    assert made.nonce not in os.environ.values()
