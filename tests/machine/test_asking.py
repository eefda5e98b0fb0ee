"""Daemons are asked, guests are run: what lies there is no evidence, and no answer is an answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keyturn.app.machine import asking, facts
from keyturn.core.terms import Tier
from keyturn.sandbox.port import Capabilities
from tests.machine import systems


@contextmanager
def daemon(place: Path, answer: bytes) -> Iterator[list[bytes]]:
    """Something that answers one question at this socket."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(str(place))
        door.listen(1)
        door.settimeout(10)

        def serve() -> None:
            line, _ = door.accept()
            with line:
                heard.append(line.recv(4096))
                line.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield heard
        finally:
            thread.join(10)


def answered(body: object, status: str = "200 OK") -> bytes:
    return f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n{json.dumps(body)}".encode()


Told = Callable[[Path], None]


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Names the socket at which the daemon is asked."""
    return lambda place: monkeypatch.setenv("DOCKER_HOST", f"unix://{place}")


def test_a_daemon_that_can_run_gvisor_says_so(tmp_path: Path, named: Told) -> None:
    place = tmp_path / "docker.sock"
    named(place)
    with daemon(place, answered({"ServerVersion": "27.1", "Runtimes": {"runsc": {}, "runc": {}}})) as heard:
        assert asking.docker() == ("docker 27.1: runtimes runc, runsc", True)
    assert heard[0].startswith(b"GET /info ")


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (answered({"message": "no"}, "403 Forbidden"), "403 Forbidden"),
        (answered([]), "no object"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0"),
        (b"", "it answers ``"),
    ],
)
def test_what_answers_otherwise_is_no_daemon(tmp_path: Path, named: Told, answer: bytes, word: str) -> None:
    place = tmp_path / "docker.sock"
    named(place)
    with daemon(place, answer):
        said, gvisor = asking.docker()
    assert (gvisor, word in said) == (False, True), said


def test_a_socket_behind_which_nobody_is_is_no_daemon(tmp_path: Path, named: Told) -> None:
    named(tmp_path / "docker.sock")
    assert "no such file" in asking.docker()[0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(str(tmp_path / "docker.sock"))
    assert "refused" in asking.docker()[0]


def test_a_daemon_on_the_network_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    assert asking.docker() == ("docker: `tcp://192.0.2.1:2375` is on the network and was not asked", False)


def test_a_daemon_that_is_silent_is_not_waited_for(
    tmp_path: Path, named: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.1)
    named(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(str(tmp_path / "docker.sock"))
        door.listen(1)
        assert "timed out" in asking.docker()[0]


def test_a_guest_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "guest.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(asking, "ALONE", tmp_path)
    monkeypatch.setattr(asking, "KVM", device)
    monkeypatch.setattr(asking, "GUEST_SECONDS", 0.2)
    assert "did not come to its end" in asking.guest()


def test_a_device_alone_is_no_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "kvm"
    monkeypatch.setattr(asking, "KVM", device)
    assert "there is no" in asking.guest()
    (tmp_path / "guest.py").write_text("import sys; print('it left for the reason 17'); sys.exit(1)", encoding="utf-8")
    device.touch()
    monkeypatch.setattr(asking, "ALONE", tmp_path)
    assert asking.guest() == "it left for the reason 17"


def test_this_machine_can_be_looked_at_by_whoever_runs_this() -> None:
    found = facts.gather(Capabilities(Tier.T0, {}))
    assert found.system.kernel == "Linux"
    assert found.kernel >= (3, 0)
    assert found.version or not found.bubblewrap


def test_an_os_release_is_read_with_its_quotes() -> None:
    said = facts.os_release("# a comment\nID=\"rocky\"\nID_LIKE='rhel fedora'\nnonsense\n\n" + systems.ARCH)
    assert (said["ID"], said["ID_LIKE"], said["NAME"]) == ("arch", "rhel fedora", "Arch Linux")
