"""What comes out of a sandbox: exactly the declared files, or a refusal that says why."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.core.errors import Unavailable
from keyturn.sandbox.collect import FINDINGS_MAX, collect, shown
from keyturn.sandbox.port import CLAIM, Finding, Limits
from tests.sandbox.conftest import Inside

DECLARED = (("subject.py", 100), ("weights.npz", 1000))


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "subject.py").write_bytes(b"print(1)")
    (tmp_path / "weights.npz").write_bytes(b"w" * 1000)
    (tmp_path / "claim.json").write_bytes(b"{}")
    return tmp_path


def taken(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = collect(fd, DECLARED, (CLAIM,))
    finally:
        os.close(fd)
    return dict(found.files), [finding.message for finding in found.findings]


def test_the_declared_files_come_out(out: Path) -> None:
    files, findings = taken(out)
    assert findings == []
    assert files == {"subject.py": b"print(1)", "weights.npz": b"w" * 1000, "claim.json": b"{}"}


def test_a_claim_may_be_absent_but_a_declared_file_may_not(out: Path) -> None:
    (out / "claim.json").unlink()
    assert taken(out)[1] == []
    (out / "weights.npz").unlink()
    assert taken(out)[1] == ["`weights.npz` was declared and is not there"]


def test_a_link_to_a_file_of_ours_is_refused_and_not_followed(
    out: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("host") / "secret"
    secret.write_bytes(b"canary")
    (out / "weights.npz").unlink()
    (out / "weights.npz").symlink_to(secret)
    files, findings = taken(out)
    assert findings == ["`weights.npz` is a symbolic link; only regular files are taken"]
    assert "weights.npz" not in files


def test_a_second_link_to_a_file_is_refused(out: Path) -> None:
    (out / "claim.json").unlink()
    (out / "claim.json").hardlink_to(out / "subject.py")
    assert taken(out)[1] == [
        "`claim.json` has 2 links; exactly one is taken",
        "`subject.py` has 2 links; exactly one is taken",
    ]


def test_a_pipe_is_refused_without_waiting_on_it(out: Path) -> None:
    (out / "weights.npz").unlink()
    os.mkfifo(out / "weights.npz")
    assert taken(out)[1] == ["`weights.npz` is a named pipe; only regular files are taken"]


@pytest.mark.root
def test_a_device_is_refused(out: Path) -> None:
    (out / "weights.npz").unlink()
    os.mknod(out / "weights.npz", 0o20666, os.makedev(1, 5))
    assert taken(out)[1] == ["`weights.npz` is a character device; only regular files are taken"]


def test_a_socket_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (out / "weights.npz").unlink()
    monkeypatch.chdir(out)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("weights.npz")
        assert taken(out)[1] == ["`weights.npz` is a socket; only regular files are taken"]


def test_a_folder_is_refused(out: Path) -> None:
    (out / "more").mkdir()
    assert taken(out)[1] == ["`more` is a folder; only regular files are taken"]


def test_an_undeclared_file_is_refused(out: Path) -> None:
    (out / "notes.txt").write_text("hello")
    assert taken(out)[1] == ["`notes.txt` was not declared"]


@pytest.mark.parametrize(("size", "refused"), [(100, False), (101, True)])
def test_a_file_past_its_size_is_refused(out: Path, size: int, *, refused: bool) -> None:
    (out / "subject.py").write_bytes(bytes(size))
    assert taken(out)[1] == (["`subject.py` has 101 bytes; at most 100 are taken"] if refused else [])


def test_a_name_that_would_speak_to_its_reader_is_made_plain(out: Path) -> None:
    (out / "a\n\x1b[31m`IGNORE ALL\u202e").write_text("")
    os.close(os.open(os.fsencode(out) + b"/\xff", os.O_CREAT))
    assert taken(out)[1] == ["`a??[31m?IGNORE ALL?` was not declared", "`?` was not declared"]
    assert len(shown("x" * 255)) == 64


def test_a_flood_of_names_is_cut_short(out: Path) -> None:
    for n in range(2000):
        (out / f"n{n}").touch()
    findings = taken(out)[1]
    assert len(findings) == FINDINGS_MAX
    assert findings[0] == "there are more than 1000 entries"


WRITES = """
for name, size in (("subject.py", 10), ("weights.npz", 1000), ("claim.json", 2)):
    with open("/out/" + name, "wb") as file: file.write(b"x" * size)
"""


@pytest.mark.root
def test_files_outlive_the_sandbox_that_wrote_them(inside: Inside) -> None:
    running = inside.start(WRITES, out=True)
    assert running.wait().clean
    found = running.collect(DECLARED)
    assert found.findings == ()
    assert {name: len(data) for name, data in found.files.items()} == {
        "subject.py": 10,
        "weights.npz": 1000,
        "claim.json": 2,
    }


@pytest.mark.root
def test_nothing_is_collected_while_it_runs(inside: Inside) -> None:
    running = inside.start(WRITES + "import time; time.sleep(30)", out=True)
    with pytest.raises(Unavailable) as caught:
        running.collect(DECLARED)
    assert caught.value.message == "the sandbox was not seen to be empty, so nothing is collected"


@pytest.mark.root
def test_links_and_extra_names_made_inside_refuse_the_candidate(inside: Inside) -> None:
    code = (
        WRITES
        + """
import os
os.link("/out/subject.py", "/out/also.py")
link, folder = lambda: os.symlink("/parent", "/out/link"), lambda: os.mkdir("/out/folder")
for act in (link, folder, lambda: os.mkfifo("/out/pipe")):
    try: act()
    except OSError as error: print(type(error).__name__, error.errno)
"""
    )
    running = inside.start(code, out=True)
    end = running.wait()
    assert end.code == 0, end
    assert running.collect(DECLARED).findings == (
        Finding("only_declared_files", "`also.py` was not declared"),
        Finding("one_link_only", "`subject.py` has 2 links; exactly one is taken"),
    )
    assert end.diagnostics.decode().split("\n")[:2] == ["PermissionError 13", "PermissionError 13"]


@pytest.mark.root
def test_a_file_that_it_locked_away_is_still_read_by_root(inside: Inside) -> None:
    running = inside.start(WRITES + "import os; os.chmod('/out/subject.py', 0)", out=True)
    running.wait()
    assert running.collect(DECLARED).findings == ()


@pytest.mark.root
def test_only_the_tail_of_what_it_says_is_kept(inside: Inside) -> None:
    limits = Limits(diagnostics_bytes_max=1000)
    end = inside.run("import sys; sys.stderr.write('a' * 300000 + 'end')", limits=limits)
    assert end.diagnostics == b"a" * 997 + b"end"


@pytest.mark.root
def test_frames_go_in_and_out_of_an_answering_subject(inside: Inside) -> None:
    code = """
import sys
while data := sys.stdin.buffer.read1(65536):
    sys.stdout.buffer.write(data.upper())
    sys.stdout.flush()
"""
    running = inside.start(code, purpose="answer")
    big = b"abc" * 100_000
    running.send(b"hello", 5)
    assert running.receive(5) == b"HELLO"
    got = b""
    for start in range(0, len(big), 30_000):
        running.send(big[start : start + 30_000], 5)
        while len(got) < min(start + 30_000, len(big)):
            got += running.receive(5)
    assert got == big.upper()
    assert running.halt("enough").state == "STOPPED"
    assert running.receive(1) == b""


@pytest.mark.root
def test_a_flood_on_the_pipe_is_refused(inside: Inside) -> None:
    running = inside.start(
        "import sys\nwhile True: sys.stdout.write('x' * 65536)",
        purpose="answer",
        limits=Limits(output_bytes_max=1 << 20),
    )

    def read_on() -> None:
        while running.receive(5):
            pass

    with pytest.raises(Unavailable) as caught:
        read_on()
    assert caught.value.message == "the subject wrote more than 1048576 bytes"


@pytest.mark.root
def test_a_silent_subject_times_out_and_keeps_its_lease(inside: Inside) -> None:
    running = inside.start("import time; time.sleep(30)", purpose="answer", lease_seconds=0.3)
    with pytest.raises(Unavailable) as caught:
        running.receive(0.9)
    assert caught.value.message == "the subject wrote nothing within 0.9 seconds"
    with pytest.raises(Unavailable):
        running.send(bytes(1 << 20), 0.3)
    assert running.tick()


@pytest.mark.root
def test_the_end_of_the_main_process_is_the_end_of_the_file(inside: Inside) -> None:
    running = inside.start("print('bye')", purpose="answer")
    assert running.receive(5) == b"bye\n"
    assert running.receive(5) == b""
    assert running.wait().code == 0


@pytest.mark.root
def test_the_pipe_closes_when_the_subject_closes_it_though_init_stays(inside: Inside) -> None:
    running = inside.start("import os, time; os.close(1); time.sleep(30)", purpose="answer")
    assert select.select([running.stdout_fd], [], [], 5)[0]
    assert os.read(running.stdout_fd, 1) == b""
    assert running.tick()
