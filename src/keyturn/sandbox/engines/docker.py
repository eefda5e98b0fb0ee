"""A docker engine on this machine, asked by docker's own client over its Unix socket.

What was ordered is read back from the engine and compared field by field before the subject begins; under `runsc` the
container's kernel is gVisor, which our init then sees for itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Json
from keyturn.sandbox.attest import SHM_BYTES
from keyturn.sandbox.engines.port import GOVERNOR, RUN, Container, Effective, Look, Order, Stream
from keyturn.sandbox.engines.profile import profile

if TYPE_CHECKING:
    from docker import APIClient

SOCKET = "/var/run/docker.sock"
SECONDS_MAX = 10
NANO_CPUS = 1_000_000_000
STDOUT, STDERR = 1, 2
ENDED, ALIVE = {"exited", "dead", "created"}, {"running", "paused", "restarting", "removing"}


@contextlib.contextmanager
def asked(what: str) -> Iterator[None]:
    """Turn whatever the client raises into `Unavailable`, with what was asked of the engine."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException, OSError, ValueError, LookupError, TypeError) as error:
        why = f"{error!s:.200}" if isinstance(error, OSError) else f"{type(error).__name__}: {error!s:.200}"
        help = "see `docker info`, and `socket` in operation.toml"
        raise Unavailable(f"the docker engine, asked to {what}: {why}", help=help) from error


class Attached:
    """The attach stream of a container: standard output and error come in pieces with a header each."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.settimeout(SECONDS_MAX)
        self._inbox = bytearray()

    def fileno(self) -> int:
        """What to wait on."""
        return self._socket.fileno()

    def pending(self) -> bool:
        """Nothing is kept back here."""
        return False

    def send(self, data: bytes) -> None:
        """Write all of it."""
        self._socket.sendall(data)

    def receive(self) -> tuple[bytes, bytes] | None:
        """What arrived, perhaps no whole piece yet; None at the end."""
        if not select.select([self._socket], [], [], 0)[0]:
            return b"", b""
        data = self._socket.recv(65536)
        if not data:
            return None
        self._inbox += data
        got = {STDOUT: bytearray(), STDERR: bytearray()}
        while len(self._inbox) >= 8:
            kind, length = struct.unpack_from(">BxxxI", self._inbox)
            if len(self._inbox) < 8 + length:
                break
            got[kind] += self._inbox[8 : 8 + length]
            del self._inbox[: 8 + length]
        return bytes(got[STDOUT]), bytes(got[STDERR])

    def cut(self) -> None:
        """End it both ways."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()


class Docker:
    """A docker engine. See `port.Engine`."""

    proof_seconds = 5.0
    bounds = frozenset({"nosuid", "nodev", "noexec"})
    lacks: tuple[str, ...] = ()

    def __init__(self, image: str, *, runtime: str = "", address: str = "") -> None:
        try:
            import docker
        except ImportError as fault:
            help = "pip install 'keyturn[docker]'"
            raise Unavailable("the library `docker` is not installed", help=help) from fault
        self.image, self.runtime = image, runtime
        self.gvisor = runtime.startswith("runsc")
        self._address = address = address or SOCKET
        self.scope = f"the docker engine at {address}"
        self._connect: Callable[[], APIClient] = lambda: docker.APIClient(
            base_url=f"unix://{address}", version="auto", timeout=SECONDS_MAX
        )
        self._api: APIClient | None = None

    def api(self) -> APIClient:
        """The client, connected when first needed."""
        if self._api is None:
            with asked("answer"):
                if not Path(self._address).is_socket():
                    raise FileNotFoundError(f"there is no socket at {self._address}")
                self._api = self._connect()
        return self._api

    def ready(self) -> Mapping[str, Json]:
        """The engine's version, the runtimes that it has and whether the image is there."""
        api = self.api()
        with asked("say what it has"):
            told = api.info()
            runtimes: list[Json] = [*sorted(told.get("Runtimes") or {})]
            version = str(api.version().get("Version", ""))
        if self.runtime and self.runtime not in runtimes:
            help = "install gVisor and name it among the daemon's runtimes, see docs/engines.md"
            raise Unavailable(f"the docker engine has no runtime `{self.runtime}`; it has {runtimes}", help=help)
        with asked(f"show the image {self.image}"):
            api.inspect_image(self.image)
        return {"docker": version, "runtimes": runtimes, "runtime": self.runtime or str(told.get("DefaultRuntime", ""))}

    def _host_config(self, order: Order) -> dict[str, Any]:
        limits = order.spec.limits
        config: dict[str, Any] = self.api().create_host_config(
            network_mode="none", read_only=True, cap_drop=["ALL"], ipc_mode="private", privileged=False,
            security_opt=["no-new-privileges:true", f"seccomp={profile(platform.machine())}"],
            pids_limit=order.processes_max, mem_limit=limits.memory_bytes, memswap_limit=limits.memory_bytes,
            nano_cpus=NANO_CPUS, shm_size=SHM_BYTES, tmpfs=tmpfs(order), runtime=self.runtime or None,
            restart_policy={"Name": "no"}, auto_remove=False, log_config={"type": "none", "config": {}},
            ulimits=[{"Name": "core", "Soft": 0, "Hard": 0}],
        )  # fmt: skip  # one container
        config["CgroupnsMode"] = "private"
        return config

    def make(self, order: Order) -> tuple[Container, Stream]:
        """Create the container, attach while it cannot have said anything yet, and start it."""
        api = self.api()
        with asked("make a container"):
            number = api.create_container(
                order.image, entrypoint=[*order.command], command=[], user=f"{order.user}:{order.user}",
                host_config=self._host_config(order), stdin_open=True, tty=False, network_disabled=True,
                labels={GOVERNOR: order.tag, RUN: order.name}, name=f"keyturn-{order.name}", working_dir="/",
                hostname="keyturn", healthcheck={"Test": ["NONE"]},
            )["Id"]  # fmt: skip  # one container
        made = DockerContainer(self, number, order.name)
        stream: Attached | None = None
        try:
            with asked("start a container"):
                raw = api.attach_socket(number, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
                stream = Attached(os.dup(raw.fileno()))
                raw._response.close()  # noqa: SLF001 - the client keeps it there, and nobody else closes it
                api.start(number)
        except BaseException:
            if stream is not None:
                stream.close()
            with contextlib.suppress(Unavailable), asked("remove a container"):
                api.remove_container(number, force=True, v=True)  # it has not begun; what stays is swept
            raise
        return made, stream

    def left(self, tag: str) -> list[Container]:
        """Every container with our label."""
        with asked("list our containers"):
            rows = self.api().containers(all=True, filters={"label": [f"{GOVERNOR}={tag}"]})
            return [DockerContainer(self, row["Id"], row["Labels"].get(RUN, row["Id"][:12])) for row in rows]

    def close(self) -> None:
        """Let go of the engine."""
        if self._api is not None:
            self._api.close()


def tmpfs(order: Order) -> dict[str, str]:
    """The folders of the container's own, as docker is told of them; `/dev/shm` has an option of its own."""
    owner = f"uid={order.user},gid={order.user},mode=0700"
    return {
        place.target: f"rw,nosuid,nodev,noexec,size={place.bytes_max},{owner}"
        for place in order.places
        if place.target != "/dev/shm"  # noqa: S108 - the container's own
    }


class DockerContainer:
    """One container of a docker engine. See `port.Container`."""

    def __init__(self, engine: Docker, number: str, name: str) -> None:
        self._engine, self.number, self.name = engine, number, name

    def _inspect(self) -> dict[str, Any]:
        with asked("inspect a container"):
            told: dict[str, Any] = self._engine.api().inspect_container(self.number)
        return told

    def effective(self, order: Order) -> Effective:
        """Everything that the engine says it applied, against what was ordered."""
        told = self._inspect()
        digest = order.image.partition("@")[2]
        with asked("show the image of a container"):
            names = self._engine.api().inspect_image(told["Image"]).get("RepoDigests") or []
        problems = [
            f"`{field}` is {_shown(is_now)}, ordered was {_shown(wanted)}"
            for field, wanted, is_now in rows(order, told, self._engine.runtime)
            if is_now != wanted
        ]
        if not any(name.endswith("@" + digest) for name in names):
            problems.append(f"the container's image is none of the digest that was named, but {_shown(names)}")
        host = told["HostConfig"]
        facts: dict[str, Json] = {
            "name": "docker",
            "runtime": str(host.get("Runtime", "")),
            "image": digest,
            "apparmor": str(told.get("AppArmorProfile", "")),
            "memory_bytes": int(host.get("Memory") or 0),
            "processes_max": int(host.get("PidsLimit") or 0),
            "nano_cpus": int(host.get("NanoCpus") or 0),
        }
        return Effective(facts, tuple(problems))

    def look(self) -> Look:
        """What the engine says of its state."""
        told = self._inspect()
        with asked("say the state of a container"):
            state, restarts = told["State"], int(told.get("RestartCount") or 0)
            word, pid = str(state["Status"]), int(state.get("Pid") or 0)
            oom = bool(state.get("OOMKilled"))
        if word in ENDED and not state.get("Running") and not pid and not restarts:
            return Look("ended", word, oom, restarts)
        return Look("running" if word in ALIVE else "unknown", word, oom, restarts, pid)

    def confirm(self) -> str:
        """The list of all containers, and the list of its processes, which there must not be."""
        from docker.errors import APIError

        with asked("list a container"):
            rows = self._engine.api().containers(all=True, filters={"id": self.number})
        states = [str(row.get("State")) for row in rows]
        if len(states) != 1 or states[0] not in ENDED:
            return f"it is listed as {states}"
        try:
            with asked("list the processes of a container"):
                processes = self._engine.api().top(self.number).get("Processes") or []
        except Unavailable as error:
            cause = error.__cause__
            if isinstance(cause, APIError) and cause.status_code in {409, 500} and "not running" in str(cause):
                return ""
            raise
        return f"{len(processes)} processes are listed" if processes else ""

    def kill(self) -> None:
        """Kill it; one that has ended already is no fault."""
        from docker.errors import APIError

        try:
            with asked("kill a container"):
                self._engine.api().kill(self.number, signal="KILL")
        except Unavailable as error:
            if not (isinstance(error.__cause__, APIError) and error.__cause__.status_code == 409):
                raise

    def remove(self) -> None:
        """Have the engine forget it."""
        with asked("remove a container"):
            self._engine.api().remove_container(self.number, v=True)


def rows(order: Order, told: Mapping[str, Any], runtime: str) -> list[tuple[str, object, object]]:
    """Field by field: its name, what was ordered, and what the engine says; one that is empty counts as absent."""
    host, config, limits = told["HostConfig"], told["Config"], order.spec.limits
    wanted: dict[str, object] = {
        "Privileged": False, "ReadonlyRootfs": True, "NetworkMode": "none", "IpcMode": "private", "PidMode": None,
        "UTSMode": None, "UsernsMode": None, "CgroupnsMode": "private", "CapAdd": None, "CapDrop": ["ALL"],
        "Binds": None, "Mounts": None, "VolumesFrom": None, "Devices": None, "DeviceRequests": None,
        "DeviceCgroupRules": None, "Links": None, "ExtraHosts": None, "GroupAdd": None, "PortBindings": None,
        "PublishAllPorts": False, "Sysctls": None, "Init": False, "OomKillDisable": False, "CgroupParent": None,
        "AutoRemove": False, "Memory": limits.memory_bytes, "MemorySwap": limits.memory_bytes,
        "PidsLimit": order.processes_max, "NanoCpus": NANO_CPUS, "ShmSize": SHM_BYTES, "Tmpfs": tmpfs(order),
    }  # fmt: skip  # the order in a block
    found = [(f"HostConfig.{name}", value, _plain(host.get(name), value)) for name, value in wanted.items()]
    found += [
        ("HostConfig.Runtime", runtime or host.get("Runtime"), host.get("Runtime")),
        ("HostConfig.RestartPolicy", "no", (host.get("RestartPolicy") or {}).get("Name") or "no"),
        ("HostConfig.LogConfig", "none", (host.get("LogConfig") or {}).get("Type")),
        ("HostConfig.SecurityOpt", _security([f"seccomp={profile(platform.machine())}", "no-new-privileges:true"]),
         _security(host.get("SecurityOpt") or [])),
        ("HostConfig.MaskedPaths", True, bool(host.get("MaskedPaths"))),
        ("HostConfig.ReadonlyPaths", True, bool(host.get("ReadonlyPaths"))),
        ("Mounts", [], [mount for mount in told.get("Mounts") or [] if mount.get("Type") != "tmpfs"]),
        ("Config.Image", order.image, config.get("Image")),
        ("Config.Entrypoint", [*order.command], config.get("Entrypoint")),
        ("Config.Cmd", None, _plain(config.get("Cmd"), None)),
        ("Config.User", f"{order.user}:{order.user}", config.get("User")),
        ("Config.OpenStdin", True, config.get("OpenStdin")),
        ("Config.StdinOnce", True, config.get("StdinOnce")),
        ("Config.Tty", False, config.get("Tty")),
        ("Config.Volumes", None, _plain(config.get("Volumes"), None)),
        ("Config.Labels", order.tag, (config.get("Labels") or {}).get(GOVERNOR)),
    ]  # fmt: skip  # the order in a block
    return found


def _plain(value: object, wanted: object) -> object:
    """What is empty as what was ordered where that is nothing or no; anything else as it is."""
    return wanted if not value and not wanted else value


def _security(options: list[str]) -> list[object]:
    """Security options, with profiles read, so that the engine may write them as it likes."""
    found: list[object] = []
    for option in sorted(set(options)):
        name, _, value = option.replace("no-new-privileges=", "no-new-privileges:").partition("=")
        if name == "seccomp":
            with contextlib.suppress(ValueError):
                found.append([name, json.dumps(json.loads(value), sort_keys=True)])
                continue
        found.append("no-new-privileges:true" if option == "no-new-privileges" else option)
    return sorted(found, key=str)


def _shown(value: object) -> str:
    """A value for people; a command or profile in full would hide the rest."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 120 else text[:117] + "..."
