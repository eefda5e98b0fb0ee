"""By hand, as root: our init as process 1 under a real `runc` or `runsc`, without an engine.

`python -m tests.engines.by_hand runsc`. No suite runs this: neither program is installed where the suites run.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from keyturn.sandbox.engines.backend import Contained
from keyturn.sandbox.engines.port import Effective, Look, Order
from keyturn.sandbox.engines.profile import profile
from keyturn.sandbox.port import Decoy, Limits, Mount, Spec
from tests.engines.room import FOLDERS, IMAGE, image, python

LIMITS = Limits(memory_bytes=256 << 20, processes_max=32, wall_seconds=30, out_bytes=1 << 20, tmp_bytes=1 << 20)
INSIDE = """
import os, signal, socket, sys
size = len(open('/parent/weights', 'rb').read())
open('/out/a', 'wb').write(b'a' * size)
def tried(act):
    try: act()
    except OSError: return
    print('BREACH', act.__name__, file=sys.stderr)
def network(): socket.socket(socket.AF_INET, socket.SOCK_STREAM)
def memory_of_init(): open('/proc/1/mem', 'rb').close()
def stream_of_init(): os.close(os.open('/proc/1/fd/1', os.O_WRONLY))
def root(): open('/breach', 'w').close()
def own_copy_of_the_parent(): os.chmod('/parent', 0o700); open('/parent/new', 'w').close()
def signal_to_init(): os.kill(1, signal.SIGKILL)
for act in (network, memory_of_init, stream_of_init, root, own_copy_of_the_parent, signal_to_init): tried(act)
"""


class Pipes:
    """The standard streams of the runtime as an attach stream."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout

    def fileno(self) -> int:
        return self._out.fileno()

    def pending(self) -> bool:
        return False

    def send(self, data: bytes) -> None:
        self._in.write(data)
        self._in.flush()

    def receive(self) -> tuple[bytes, bytes] | None:
        data = os.read(self._out.fileno(), 65536)
        return (data, b"") if data else None

    def cut(self) -> None:
        self._in.close()

    def close(self) -> None:
        self._out.close()


class Bundle:
    """One container, as the runtime's own command knows it."""

    def __init__(self, runtime: list[str], order: Order) -> None:
        self.name = self.number = order.name
        self._runtime = runtime
        folder = Path(tempfile.mkdtemp(prefix="keyturn-bundle-"))
        (folder / "config.json").write_text(json.dumps(bundle(order)))
        self.process = subprocess.Popen(
            [*runtime, "run", "--bundle", str(folder), self.number], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def effective(self, order: Order) -> Effective:
        return Effective({"name": self._runtime[0]}, ())

    def look(self) -> Look:
        code = self.process.poll()
        return Look("running", "running") if code is None else Look("ended", f"ended with {code}")

    def confirm(self) -> str:
        return ""

    def kill(self) -> None:
        subprocess.run([*self._runtime, "kill", self.number, "KILL"], capture_output=True, check=False)

    def remove(self) -> None:
        subprocess.run([*self._runtime, "delete", "-force", self.number], capture_output=True, check=False)


class Runtime:
    """A runtime's own command in an engine's place."""

    proof_seconds, lacks, image = 5.0, (), IMAGE
    bounds = frozenset({"nosuid", "nodev", "noexec"})

    def __init__(self, name: str) -> None:
        self.scope, self.gvisor = name, name == "runsc"
        options = ["--platform=ptrace", "--network=none"] if self.gvisor else []
        self._command = [name, *options, f"--root={tempfile.mkdtemp(prefix='keyturn-runtime-')}"]

    def ready(self) -> dict[str, Any]:
        return {}

    def make(self, order: Order) -> tuple[Bundle, Pipes]:
        made = Bundle(self._command, order)
        return made, Pipes(made.process)

    def left(self, tag: str) -> list[Any]:
        return []

    def close(self) -> None:
        """Nothing is kept."""


def bundle(order: Order) -> dict[str, Any]:
    """The runtime's configuration: what an engine would make of an order."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["runc", "spec"], cwd=folder, check=True)
        made: dict[str, Any] = json.loads((Path(folder) / "config.json").read_text())
    folders = ",".join(FOLDERS)
    made["process"] |= {
        "terminal": False, "args": [*order.command], "user": {"uid": order.user, "gid": order.user}, "cwd": "/",
        "env": [f"PATH={Path(python().python).parent}", f"KNOWN={folders}"], "noNewPrivileges": True,
        "capabilities": {name: [] for name in made["process"]["capabilities"]},
    }  # fmt: skip  # one process
    made["root"] = {"path": str(image()), "readonly": True}
    own = [mount for mount in made["mounts"] if mount["destination"] not in {"/dev/shm", "/sys/fs/cgroup"}]
    owner = [f"uid={order.user}", f"gid={order.user}", "mode=0700", "nosuid", "nodev", "noexec"]
    made["mounts"] = own + [
        {
            "destination": place.target,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": [f"size={place.bytes_max}", *owner],
        }
        for place in order.places
    ]
    made["linux"]["seccomp"] = json.loads(profile(platform.machine()))
    made["linux"].pop("resources", None)
    return made


def tell(*words: object) -> None:
    """Say it to whoever runs this."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def main(name: str) -> None:
    """Run, attest, attack, collect; let a lease run out; halt."""
    place = Path(tempfile.mkdtemp(prefix="keyturn-parent-"))
    (place / "weights").write_bytes(b"w" * 200_000)
    (image() / "sys").mkdir(exist_ok=True)
    image().chmod(0o755)
    backend = Contained(place, Runtime(name))
    runtime = backend.runtime("python")

    def subject(code: str, **changes: Any) -> Any:
        start = time.monotonic()
        parked = backend.prepare(Spec("improve", ("python", "-I", "-S", "-c", code), runtime, limits=LIMITS, **changes))
        tell("parked after", round(time.monotonic() - start, 3), "seconds")
        return parked

    parked = subject(INSIDE, mounts=(Mount(place, "/parent"),), decoys=(Decoy("vault", "/vault/w"),), out=True)
    seen = parked.attest()
    tell(seen.tier, json.dumps(seen.facts["inside"], indent=1), seen.problems, seen.weaker)
    running = parked.go()
    tell(running.wait(), {name: len(data) for name, data in running.collect((("a", 200_000),)).files.items()})
    running.close()
    running = subject("import time; open('/vault/w'); time.sleep(60)", lease_seconds=1.0,
                      decoys=(Decoy("vault", "/vault/w"),)).go()  # fmt: skip  # one subject
    start = time.monotonic()
    while running._held.container.look().state == "running":
        time.sleep(0.01)
    tell(
        "lease of 1 second ended it after", round(time.monotonic() - start, 3), running.wait().reason, running.decoys()
    )
    running.close()
    running = subject("import os, time\nfor n in range(20): os.fork() or time.sleep(60)\ntime.sleep(60)").go()
    time.sleep(0.5)
    tell(running.halt("by hand"))
    running.close()
    backend.close()


if __name__ == "__main__":
    main(sys.argv[1])
