"""Attacks on containers that an engine keeps: by an engine that lies, is away, or was told otherwise.

The servers are fakes; docker's and Kubernetes' clients, our init as process 1 and every process killed here are real.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.core.terms import Tier
from keyturn.sandbox.alone.surroundings import tag
from keyturn.sandbox.engines.backend import Contained
from keyturn.sandbox.engines.docker import Docker
from keyturn.sandbox.engines.kubernetes import Kubernetes
from keyturn.sandbox.engines.link import HEADER, Link
from keyturn.sandbox.port import Limits, Running, Spec
from tests.engines.cluster_server import ClusterServer
from tests.engines.docker_server import DockerServer
from tests.engines.room import IMAGE, eventually

pytestmark = pytest.mark.slow

LIMITS = Limits(memory_bytes=256 << 20, processes_max=16, wall_seconds=60, out_bytes=1 << 20, tmp_bytes=1 << 20)
STAY = "import os, signal, time\nfor n in range(3):\n    if os.fork() == 0: os.setsid()\ntime.sleep(60)"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[DockerServer]:
    made = DockerServer(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterServer]:
    made = ClusterServer(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def on_docker(docker: DockerServer, tmp_path: Path) -> Iterator[Contained]:
    made = Contained(tmp_path / "run", Docker(IMAGE, address=docker.address))
    yield made
    made.close()


@pytest.fixture
def on_cluster(cluster: ClusterServer, tmp_path: Path) -> Iterator[Contained]:
    engine = Kubernetes(IMAGE, kubeconfig=str(cluster.config))
    engine.proof_seconds = 2.0
    made = Contained(tmp_path / "run", engine)
    yield made
    made.close()


def spec(backend: Contained, code: str = STAY, **changes: Any) -> Spec:
    return Spec("improve", ("python", "-I", "-S", "-c", code), backend.runtime("python"), limits=LIMITS, **changes)


def started(backend: Contained, code: str = STAY, **changes: Any) -> Running:
    return backend.prepare(spec(backend, code, **changes)).go()


def pid_of(server: DockerServer | ClusterServer) -> int:
    return next(iter(server.rooms.values())).pid


def lives(pid: int) -> bool:
    """Whether it runs; one that ends between the open and the read (`ESRCH`) has ended."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- an engine that does not say the truth, or nothing at all


def test_an_engine_that_says_ended_while_its_process_lives_here_is_not_believed(
    docker: DockerServer, on_docker: Contained, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_docker.engine.proof_seconds = 0.5
    running = started(on_docker, lease_seconds=60)
    held = running._held
    monkeypatch.setattr(type(held), "cut", lambda _: None)  # or it would die of the end of its stream
    docker.says_gone = True
    pid = pid_of(docker)
    receipt = running.halt("a test")
    assert lives(pid)
    assert (receipt.state, receipt.survivors) == ("UNPROVEN", 1)
    assert "although the engine says that it has ended" in receipt.unknown[0]
    assert str(docker.address) in receipt.scope
    docker.says_gone = False
    monkeypatch.undo()
    assert running.halt("again").state == "STOPPED"


def test_an_engine_that_hangs_keeps_nobody_else_from_being_struck(
    docker: DockerServer, on_docker: Contained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question to it may take a whole time-out; copies, and the streams of which inits die, do not wait for it."""
    running = started(on_docker, lease_seconds=60)
    pid, order = pid_of(docker), list[str]()

    def hang(*_: object) -> Any:
        order.append("asked")
        assert eventually(lambda: not lives(pid))
        raise Unavailable("it does not answer")

    monkeypatch.setattr(type(running._held.container), "kill", hang)
    on_docker.halt_all("all", lambda: order.append("struck"))
    assert order == ["struck", "asked"]
    running.close()
    monkeypatch.setattr(Docker, "left", hang)
    assert on_docker.sweep(lambda: order.append("struck")).state == "UNPROVEN"
    assert order[2:] == ["asked", "struck", "asked"]


def test_an_engine_that_dies_leaves_the_halt_unproven_and_the_subject_dead(
    docker: DockerServer, on_docker: Contained
) -> None:
    on_docker.engine.proof_seconds = 0.5
    running = started(on_docker, lease_seconds=60)
    pid = pid_of(docker)
    docker.refuse = re.compile(".")
    receipt = running.halt("a test")
    assert receipt.state == "UNPROVEN"
    assert any("the docker engine, asked to" in each for each in receipt.unknown)
    assert eventually(lambda: not lives(pid)), "it dies of the end of its stream, whoever can prove that"
    assert on_docker.halt_all("all").state == "UNPROVEN"
    docker.refuse = re.compile("$^")
    assert on_docker.halt_all("all").state == "STOPPED"


def test_a_sweep_that_cannot_ask_is_unproven(docker: DockerServer, on_docker: Contained) -> None:
    docker.refuse = re.compile("/containers/json")
    receipt = on_docker.sweep()
    assert (receipt.state, receipt.processes_before) == ("UNPROVEN", 0)


def test_a_pod_that_vanishes_before_its_end_was_seen_proves_nothing(
    cluster: ClusterServer, on_cluster: Contained
) -> None:
    running = started(on_cluster)
    cluster.vanishes = True
    receipt = running.halt("a test")
    assert receipt.state == "UNPROVEN"
    assert any("404" in each for each in receipt.unknown)


def test_the_word_of_a_node_that_is_not_ready_proves_nothing(cluster: ClusterServer, on_cluster: Contained) -> None:
    running = started(on_cluster)
    cluster.node_ready = "Unknown"
    receipt = running.halt("a test")
    assert receipt.state == "UNPROVEN"
    assert any("the node node-1 is not ready (Unknown)" in each for each in receipt.unknown)


# --- the end of the stream, of the governor, of the lease


def test_a_stream_that_closes_ends_everything_in_the_container(docker: DockerServer, on_docker: Contained) -> None:
    running = started(on_docker, lease_seconds=60)
    pid = pid_of(docker)
    running._link.cut()
    assert eventually(lambda: not lives(pid))
    end = running.wait()
    assert (end.reason, end.clean) == ("lost", False)


def test_a_governor_that_hangs_lets_the_lease_run_out(docker: DockerServer, on_docker: Contained) -> None:
    running = started(on_docker, lease_seconds=0.5)
    pid = pid_of(docker)
    assert eventually(lambda: not lives(pid))
    assert running.wait().reason == "lease"


GOVERNOR = """
import sys, time
from pathlib import Path
from keyturn.sandbox.engines.backend import Contained
from keyturn.sandbox.engines.docker import Docker
from keyturn.sandbox.port import Spec
backend = Contained(Path(sys.argv[1]), Docker(sys.argv[2], address=sys.argv[3]))
spec = Spec("improve", ("python", "-I", "-S", "-c", sys.argv[4]), backend.runtime("python"), lease_seconds=60)
running = backend.prepare(spec).go()
print("up", flush=True)
time.sleep(60)
"""


def test_a_governor_that_is_killed_takes_its_containers_with_it(docker: DockerServer, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", GOVERNOR, str(tmp_path), IMAGE, docker.address, STAY]
    governor = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert governor.stdout is not None
    assert governor.stdout.readline() == b"up\n"
    pid = pid_of(docker)
    assert lives(pid)
    governor.kill()
    governor.wait()
    governor.stdout.close()
    assert eventually(lambda: not lives(pid)), "long before its lease"


def test_a_container_that_nobody_speaks_to_ends_by_itself(
    docker: DockerServer, on_docker: Contained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyturn.sandbox.engines.backend.ALONE", _impatient(docker, monkeypatch))
    monkeypatch.setattr("keyturn.sandbox.engines.link.Link.say", lambda *_: True)
    monkeypatch.setattr("keyturn.sandbox.engines.backend.PARK_SECONDS_MAX", 5)
    with pytest.raises(Unavailable):
        on_docker.prepare(spec(on_docker))
    assert docker.asked.count("POST /containers/create") == 1


def _impatient(docker: DockerServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same init, but for how long it waits for its first word."""
    from keyturn.sandbox.command import ALONE

    place = Path(docker.address).parent / "alone"
    place.mkdir()
    for name in ("init", "surroundings", "contained"):
        text = (ALONE / f"{name}.py").read_text()
        (place / f"{name}.py").write_text(text.replace("UNHEARD_MS = 30_000", "UNHEARD_MS = 300"))
    return place


def test_what_an_earlier_governor_left_is_found_by_its_label_and_killed(
    docker: DockerServer, on_docker: Contained, tmp_path: Path
) -> None:
    running = started(on_docker, lease_seconds=60)
    pid = pid_of(docker)
    stranger = Contained(tmp_path / "other", Docker(IMAGE, address=docker.address))
    later = Contained(tmp_path / "run", Docker(IMAGE, address=docker.address))
    assert stranger.sweep().processes_before == 0
    assert lives(pid), "another project's is left alone"
    receipt = later.sweep()
    assert (receipt.state, receipt.processes_before, receipt.survivors) == ("STOPPED", 1, 0)
    assert not lives(pid)
    assert docker.rooms == {}
    assert running.wait().reason == "lost"
    for one in (stranger, later):
        one.close()


# --- an order that was changed on the way


def set_host(name: str, value: object) -> Change:
    return lambda told: told["HostConfig"].update({name: value})


DOCKER_CHANGES: dict[str, tuple[Change, str]] = {
    "privileged": (set_host("Privileged", True), "HostConfig.Privileged"),
    "capability": (set_host("CapAdd", ["SYS_ADMIN"]), "HostConfig.CapAdd"),
    "capabilities kept": (set_host("CapDrop", None), "HostConfig.CapDrop"),
    "a folder of the host": (set_host("Binds", ["/:/host"]), "HostConfig.Binds"),
    "a volume": (lambda told: told["Mounts"].append({"Type": "volume", "Destination": "/x"}), "Mounts"),
    "a device": (set_host("Devices", [{"PathOnHost": "/dev/kvm"}]), "HostConfig.Devices"),
    "the host's network": (set_host("NetworkMode", "host"), "HostConfig.NetworkMode"),
    "the host's processes": (set_host("PidMode", "host"), "HostConfig.PidMode"),
    "a writable root": (set_host("ReadonlyRootfs", False), "HostConfig.ReadonlyRootfs"),
    "no filter": (set_host("SecurityOpt", ["no-new-privileges:true", "seccomp=unconfined"]), "HostConfig.SecurityOpt"),
    "new privileges": (lambda told: told["HostConfig"]["SecurityOpt"].remove("no-new-privileges:true"), "SecurityOpt"),
    "more memory": (set_host("Memory", 0), "HostConfig.Memory"),
    "swap": (set_host("MemorySwap", -1), "HostConfig.MemorySwap"),
    "more processes": (set_host("PidsLimit", 0), "HostConfig.PidsLimit"),
    "more folders": (lambda told: told["HostConfig"]["Tmpfs"].update({"/x": "rw"}), "HostConfig.Tmpfs"),
    "a restart": (set_host("RestartPolicy", {"Name": "always"}), "HostConfig.RestartPolicy"),
    "a log of what is said": (set_host("LogConfig", {"Type": "json-file"}), "HostConfig.LogConfig"),
    "an open /proc": (set_host("MaskedPaths", []), "HostConfig.MaskedPaths"),
    "root": (lambda told: told["Config"].update(User=""), "Config.User"),
    "another init": (lambda told: told["Config"]["Entrypoint"].pop(), "Config.Entrypoint"),
    "an input that stays open": (lambda told: told["Config"].update(StdinOnce=False), "Config.StdinOnce"),
    "another image": (lambda told: told["Config"].update(Image="python:3"), "Config.Image"),
    "another label": (lambda told: told["Config"].update(Labels={}), "Config.Labels"),
    "a restart behind our back": (lambda told: told.update(RestartCount=1), "restarted 1 times"),
}


@pytest.mark.parametrize("name", DOCKER_CHANGES)
def test_what_docker_applied_otherwise_is_attested_as_a_problem(
    docker: DockerServer, on_docker: Contained, name: str
) -> None:
    parked = on_docker.prepare(spec(on_docker))
    assert parked.attest().problems == ()
    docker.change, expected = DOCKER_CHANGES[name][0], DOCKER_CHANGES[name][1]
    problems = parked.attest().problems
    docker.change = lambda told: None
    assert any(expected in each for each in problems), problems
    parked.close()


def test_an_image_of_another_digest_is_a_problem(docker: DockerServer, on_docker: Contained) -> None:
    docker.names = ["images.example/python@sha256:" + "00" * 32]
    parked = on_docker.prepare(spec(on_docker))
    assert any("none of the digest that was named" in each for each in parked.attest().problems)
    parked.close()


@pytest.mark.parametrize("image", ["python", "python:3.12", "python@sha256:abc", "python@md5:" + "a" * 64])
def test_an_image_that_is_named_by_a_tag_is_refused(docker: DockerServer, tmp_path: Path, image: str) -> None:
    with pytest.raises(MalformedInput) as caught:
        Contained(tmp_path, Docker(image, address=docker.address))
    assert "not named by its digest" in caught.value.message


def subject(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["containers"][0]
    return found


POD_CHANGES: dict[str, tuple[Change, str]] = {
    "privileged": (lambda pod: subject(pod)["securityContext"].update(privileged=True), "privileged"),
    "a capability": (lambda pod: subject(pod)["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]), "add"),
    "escalation": (lambda pod: subject(pod)["securityContext"].update(allowPrivilegeEscalation=True), "allowPriv"),
    "a side-car": (lambda pod: pod["spec"]["containers"].append({"name": "mesh", "image": "x"}), "spec.containers"),
    "an init container": (lambda pod: pod["spec"].update(initContainers=[{"name": "x", "image": "x"}]), "initCont"),
    "a folder of the host": (
        lambda pod: pod["spec"]["volumes"].append({"name": "h", "hostPath": {"path": "/"}}), "spec.volumes",
    ),
    "a token": (lambda pod: pod["spec"].update(automountServiceAccountToken=True), "automountServiceAccountToken"),
    "the host's network": (lambda pod: pod["spec"].update(hostNetwork=True), "hostNetwork"),
    "the host's processes": (lambda pod: pod["spec"].update(hostPID=True), "hostPID"),
    "shared processes": (lambda pod: pod["spec"].update(shareProcessNamespace=True), "shareProcessNamespace"),
    "a restart": (lambda pod: pod["spec"].update(restartPolicy="Always"), "restartPolicy"),
    "more memory": (lambda pod: subject(pod)["resources"]["limits"].update(memory="64Gi"), "memory"),
    "an environment": (lambda pod: subject(pod).update(env=[{"name": "A", "value": "b"}]), "env"),
    "a hook": (lambda pod: subject(pod).update(lifecycle={"postStart": {"exec": {"command": ["x"]}}}), "lifecycle"),
    "a tag": (lambda pod: subject(pod).update(image="python:3"), "image"),
    "another runtime class": (lambda pod: pod["spec"].update(runtimeClassName="runc"), "runtimeClassName"),
}  # fmt: skip  # a table reads best as a block


@pytest.mark.parametrize("name", POD_CHANGES)
def test_what_a_hook_changed_on_the_way_in_is_attested_as_a_problem(
    cluster: ClusterServer, on_cluster: Contained, name: str
) -> None:
    cluster.admit, expected = POD_CHANGES[name][0], POD_CHANGES[name][1]
    parked = on_cluster.prepare(spec(on_cluster))
    problems = parked.attest().problems
    assert any(expected in each for each in problems), problems
    parked.close()


def restart(pod: dict[str, Any]) -> None:
    pod["status"]["containerStatuses"][0]["restartCount"] = 1


def test_a_container_that_was_started_again_behind_our_back_is_neither_sound_nor_proven(
    cluster: ClusterServer, on_cluster: Contained
) -> None:
    parked = on_cluster.prepare(spec(on_cluster))
    cluster.tell = restart
    assert any("restarted 1 times" in each for each in parked.attest().problems)
    assert parked.halt("a test").state == "UNPROVEN"
    cluster.tell = lambda pod: None
    assert parked.halt("again").state == "STOPPED"


# --- weaker than it says


def test_a_runtime_that_is_not_gvisor_is_not_taken_for_it(docker: DockerServer, tmp_path: Path) -> None:
    docker.runtimes = ["runc", "runsc"]
    backend = Contained(tmp_path / "run", Docker(IMAGE, runtime="runsc", address=docker.address))
    parked = backend.prepare(spec(backend))
    seen = parked.attest()
    parked.close()
    assert any(each.startswith("this is not gVisor: its kernel calls itself `Linux version") for each in seen.problems)
    found = backend.capabilities()
    assert (found.tier, bool(found.missing)) == (Tier.T0, True)
    backend.close()


def test_a_runtime_that_the_engine_has_not_is_named(docker: DockerServer, tmp_path: Path) -> None:
    backend = Contained(tmp_path / "run", Docker(IMAGE, runtime="runsc", address=docker.address))
    found = backend.capabilities()
    assert (found.tier, found.missing[0].why) == (
        Tier.T0, "the docker engine has no runtime `runsc`; it has ['runc']",
    )  # fmt: skip  # one pair
    backend.close()


def test_a_plain_container_is_tier_1_and_says_why(on_docker: Contained) -> None:
    found = on_docker.capabilities()
    assert (found.tier, found.missing) == (Tier.T1, ())
    assert any(each.startswith("kernel: the container shares the kernel") for each in found.weaker)


# --- by the subject


INSIDE = """
import os, signal, socket, sys
def tried(act):
    try:
        act()
    except OSError:
        return
    print('BREACH', act.__name__, file=sys.stderr)
def network(): socket.socket(socket.AF_INET, socket.SOCK_STREAM)
def memory_of_init(): open('/proc/1/mem', 'rb').close()
def stream_of_init(): os.open('/proc/1/fd/1', os.O_WRONLY)
def root(): open('/breach', 'w').close()
def signal_to_init(): os.kill(1, signal.SIGKILL)
for act in (network, memory_of_init, stream_of_init, root, signal_to_init): tried(act)
print('done', os.listdir('/proc/self/fd'), file=sys.stderr)
"""


def test_a_subject_reaches_neither_init_nor_its_stream(on_docker: Contained) -> None:
    running = started(on_docker, INSIDE)
    end = running.wait()
    running.close()
    text = end.diagnostics.decode()
    assert end.clean, (end, text)
    assert "BREACH" not in text
    assert "done ['0', '1', '2', '3']" in text, "its own three and the one that lists them"


def test_a_forged_renewal_ends_the_container_instead(docker: DockerServer, on_docker: Contained) -> None:
    running = started(on_docker, lease_seconds=60)
    pid = pid_of(docker)
    os.write(next(iter(docker.rooms.values())).stdin, HEADER.pack(0, ord("R")) + bytes(16))
    assert eventually(lambda: not lives(pid))
    assert running.wait().reason == "lost"


class Line:
    """An attach stream in a subject's hands."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()

    def fileno(self) -> int:
        return self.ours.fileno()

    def pending(self) -> bool:
        return False

    def send(self, data: bytes) -> None:
        self.ours.sendall(data)

    def receive(self) -> tuple[bytes, bytes] | None:
        data = self.ours.recv(65536)
        return (data, b"") if data else None

    def cut(self) -> None:
        self.ours.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.ours.close()


def framed(key: bytes, number: int, kind: bytes, data: bytes) -> bytes:
    frame = HEADER.pack(len(data), kind[0]) + data
    return frame + tag(key, b"i", number, frame)


@pytest.mark.parametrize("attack", ["forged", "replayed", "turned round", "too long"])
def test_only_init_can_say_how_it_ended_though_a_subject_may_hold_its_stream(attack: str) -> None:
    line, key, word = Line(), b"k" * 32, b'{"code": 0, "cpu": 0.0, "left": 0}'
    link = Link(line, key=key, joined=False, diagnostics_max=100, hands_out_max=100)
    line.theirs.sendall(framed(key, 0, b"S", b"hello"))
    assert link.wait_for(lambda: link.diagnostics, 5)
    link.say(b"R")
    turned = line.theirs.recv(100)
    forged = {
        "forged": framed(b"x" * 32, 1, b"E", word),
        "replayed": framed(key, 0, b"S", b"hello"),
        "turned round": turned,
        "too long": HEADER.pack(1 << 30, ord("S")),
    }[attack]
    line.theirs.sendall(forged + framed(key, 1, b"E", word))
    assert eventually(lambda: link.silent)
    assert (link.ended, link.diagnostics) == (None, b"hello")
    link.close()
    link.release()
    line.theirs.close()


def test_frames_that_a_subject_writes_are_its_own_words_and_no_more(on_docker: Contained) -> None:
    code = "import os, struct; os.write(2, struct.pack('>IB', 2, ord('E')) + b'{}' + struct.pack('>IB', 0, ord('D')))"
    running = started(on_docker, code, out=True)
    end = running.wait()
    assert (end.code, len(end.diagnostics)) == (0, 12)
    assert running.collect(()).findings == ()
    running.close()


OUT = """
import os
open('/out/a', 'wb').write(b'aa')
open('/out/\\x1b[2J', 'w').close()
with open('/out/sparse', 'wb') as file: file.truncate(1 << 24)
os.chmod('/out/a', 0)
"""


def test_only_plain_declared_files_come_out_of_a_dead_container(on_docker: Contained) -> None:
    running = started(on_docker, OUT, out=True)
    assert running.wait().clean
    found = running.collect((("a", 10), ("sparse", 1 << 30)))
    running.close()
    assert found.files == {}
    assert sorted(each.rule for each in found.findings) == ["only_declared_files", "readable", "readable"]
    assert all("\x1b" not in each.message for each in found.findings)


def test_a_name_or_kind_of_the_subjects_choosing_is_judged_as_everywhere(on_docker: Contained) -> None:
    running = started(on_docker, "pass", out=True)
    assert running.wait().clean
    rows = [
        ("link", (0o120777, 1, 2)),
        ("twice", (0o100644, 2, 2)),
        ("pipe", (0o010644, 1, 0)),
        ("ok", (0o100644, 1, 2)),
    ]
    running._link.entries += [(name, status, b"aa") for name, status in rows]
    found = running.collect(tuple((name, 9) for name, _ in rows))
    running.close()
    assert dict(found.files) == {"ok": b"aa"}
    assert [each.rule for each in found.findings] == ["only_regular_files", "one_link_only", "only_regular_files"]


def test_who_stays_behind_is_dead_before_anything_is_handed_out(docker: DockerServer, on_docker: Contained) -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    while True: open('/out/a', 'wb').write(os.urandom(8))
time.sleep(0.2)
"""
    running = started(on_docker, code, out=True)
    end = running.wait()
    assert (end.left_running, end.clean) == (1, False)
    first = running.collect((("a", 8),))
    time.sleep(0.05)
    assert running.collect((("a", 8),)) == first
    running.close()
    assert not docker.rooms
    assert os.getpid() > 1
