"""A founded project whose candidates a loop makes, a governor that serves it in a thread, and plain clients."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from keyturn import app
from keyturn.app.connect4 import person_text
from keyturn.app.founding import found, new_key
from keyturn.app.loop.serve import Served, serve
from keyturn.core import agenda
from keyturn.core.bounds import Bounds
from keyturn.core.errors import KeyturnError
from keyturn.core.state import State
from keyturn.flow import policy as policies
from keyturn.keys import keyfile
from keyturn.ledger.artifacts import ArtifactStore
from keyturn.wire import artifact, values
from keyturn.wire.frames import encode_frame
from tests.journeys.playing import TIER

PARENT = "# EVOLVE-BLOCK-START\ndef solve(n):\n    return n\n# EVOLVE-BLOCK-END\n\n\ndef limit():\n    return 10\n"

GRADER = str(Path(__file__).with_name("grader.py"))

POLICY = """
schema = 1
[project]
name = "looped"
origin = "looped.example/log"
demo = true
separate_warrant = false
custody_least = "shared-account"
[applicability]
role = "developer"
jurisdictions = ["EU"]
training_flop = 0
revenue_usd = 0
[subject]
answer = ["python", "-I", "/runner/program.py", "/candidate/program.py"]
runtime = "RUNTIME"
founder = "sha256:FOUNDER"
seed = 1
files = [{ name = "program.py", bytes_max = 100_000 }]
[loop]
program = "program.py"
protect = "PROTECT"
batch = BATCH
program_seconds = SECONDS
# PEOPLE
[[charter]]
clause = "count"
text = "Never answers less than it was asked."
bank = "count"
[[suites]]
id = "count"
grader = ["python", "GRADER"]
exam = "count"
metric = "charter.count.broken"
items_max = 40
block = 20
[[thresholds]]
id = "count"
kind = "limit"
suite = "count"
metric = "charter.count.broken"
line = 0.5
margin = 0.1
lifetime_error = 0.2
[[levels]]
id = 0
sandbox = "TIER"
[pace]
unaudited_max = 3
[lease]
seconds = LEASE
[sandbox]
memory_bytes = 268_435_456
processes_max = 32
wall_seconds = 60
[[tripwires]]
when = "decoy_opened"
do = "DECOY"
[freshness]
evidence_seconds = 2_592_000
permit_seconds = 86_400
[witnesses]
required = 0
allow_unwitnessed = true
"""
GATE = """
[[gates]]
action = "{action}"
level = 0
require = [{require}]
quorum = [{{ role = "safety", persons = 1 }}]
expires_after_seconds = 86_400
"""


def text_of(**changes: str) -> str:
    """The policy with these words put in."""
    words = {"RUNTIME": "python", "PROTECT": "evolve-blocks", "BATCH": "50", "SECONDS": "20", "DECOY": "incident"}
    text = POLICY
    for word, said in {**words, "LEASE": "2", "TIER": TIER, "GRADER": GRADER, **changes}.items():
        text = text.replace(word, said)
    for action in ("train", "release", "resume", "amend"):
        require = '"lineage", "evidence", "fresh", "pace", "quorum"' if action == "release" else '"quorum"'
        text += GATE.format(action=action, require=require)
    return text


@dataclass
class Scene:
    """A project, the folder of its people's keys, and what the governor in the thread said and came to."""

    project: app.Project
    keys: Path
    said: list[str] = field(default_factory=list)
    served: Served | None = None
    fault: BaseException | None = None
    thread: threading.Thread | None = None

    def who(self, person: str = "ada") -> app.Signing:
        return app.Signing(person, None, self.keys, None)

    def warrant(self, programs: int = 1000, *, wall_seconds: int = 3600, candidates: int = 1, **more: Any) -> None:
        """Give leave for a loop; the lineage is founded first where it is not."""
        self.found()
        self.project.give_warrant(
            self.who(),
            candidates=candidates,
            level_ceiling=0,
            hours=1,
            loop=Bounds(programs, wall_seconds, **more),
            reason="a test",
        )

    def found(self) -> None:
        """Found the lineage, which ada has to sign for."""
        while self.project.state().lineage is None:
            step = self.project.run()
            if isinstance(step, agenda.Hold):
                self.project.decide(step.dossier.digest, self.who(), decision="approve", reason="a test")

    @contextmanager
    def serving(self, *, shadow: bool = False, warm: int = 2) -> Iterator[Scene]:
        """A governor that serves the loop, in a thread; it has ended when this ends."""

        def work() -> None:
            try:
                self.served = serve(self.project, shadow=shadow, warm=warm, tell=self.said.append)
            except BaseException as fault:
                self.fault = fault
                if not isinstance(fault, KeyturnError):
                    raise

        self.served = self.fault = None
        self.thread = threading.Thread(target=work)
        self.thread.start()
        try:
            yield self
        finally:
            self.join()

    def join(self, seconds: float = 30) -> None:
        if self.thread is not None:
            self.thread.join(seconds)
            assert not self.thread.is_alive(), self.said

    def state(self) -> State:
        return self.project.state()

    def client(self, seconds: float = 20) -> Client:
        """A connection to the door, once it is open."""
        until = time.monotonic() + seconds
        while True:
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                channel.connect(str(self.project.home / "loop.sock"))
            except OSError:
                channel.close()
                assert time.monotonic() < until, (self.fault, self.said)
                assert self.thread is None or self.thread.is_alive(), (self.fault, self.said)
                time.sleep(0.01)
            else:
                channel.settimeout(seconds)
                return Client(channel)

    def loop(self) -> tuple[Client, dict[str, Any]]:
        """A run connection, and the answer to it."""
        run = self.client()
        run.send({"type": "run", "name": "a test"})
        answer = run.answer()
        if answer["type"] == "leave":
            answer["text"] = run.exactly(answer["parent_bytes"]).decode()
        return run, answer


@dataclass
class Client:
    """A client that speaks the door's protocol and checks nothing."""

    channel: socket.socket
    fds: list[int] = field(default_factory=list)

    def send(self, frame: dict[str, Any], blob: bytes = b"") -> None:
        self.channel.sendall(encode_frame(frame) + blob)

    def exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece, fds, _, _ = socket.recv_fds(self.channel, length - len(data), 4)
            self.fds += fds
            if not piece:
                raise EOFError
            data += piece
        return data

    def frame(self) -> dict[str, Any]:
        (length,) = struct.unpack(">I", self.exactly(4))
        found = json.loads(self.exactly(length))
        assert isinstance(found, dict)
        return found

    def answer(self) -> dict[str, Any]:
        """The next frame that is no word of progress."""
        while (frame := self.frame())["type"] == "progress":
            pass
        return frame

    def ask(self, frame: dict[str, Any], blob: bytes = b"") -> dict[str, Any]:
        self.send(frame, blob)
        return self.answer()

    def program(self, text: str | bytes, seconds: float = 20) -> dict[str, Any]:
        data = text.encode() if isinstance(text, str) else text
        return self.ask({"type": "program", "bytes": len(data), "seconds": seconds}, data)

    def calls(self) -> Calls:
        """The program's pipes, which came with the last answer."""
        read, write = self.fds[-2:]
        self.fds = self.fds[:-2]
        for fd in (read, write):
            os.set_blocking(fd, True)
        return Calls(read, write)

    def judge(self, score: Any = 1.0, **more: Any) -> dict[str, Any]:
        said = {"metrics": {"score": score}, "reasons": [], "signals": [], "fault": "", **more}
        return self.ask({"type": "judge", **said})

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Calls:
    """The pipes of a program; closed when it is over."""

    read_fd: int
    write_fd: int

    def ask(self, *items: dict[str, Any], block: int = 1) -> list[dict[str, Any]]:
        os.write(self.write_fd, encode_frame({"type": "ask", "block": block, "items": [*items]}))
        body = self.read()
        assert body is not None, "the program has ended"
        return list(body["outputs"])

    def call(self, name: str, *args: Any) -> Any:
        """What a function of the program returns."""
        (output,) = self.ask({"call": name, "args": values.encode([list(args), {}])})
        return json.loads(output["value"]) if "value" in output else output

    def read(self) -> dict[str, Any] | None:
        head = os.read(self.read_fd, 4)
        if not head:
            return None
        (length,) = struct.unpack(">I", head)
        body = b""
        while len(body) < length:
            body += os.read(self.read_fd, length - len(body))
        return dict(json.loads(body))

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)


def digest_of(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def evolved(body: str) -> str:
    """The parent with this between its marks."""
    return PARENT.replace("def solve(n):\n    return n\n", body)


def make(root: Path, **changes: str) -> Scene:
    """Found a project with ada for safety; simulated, so that nobody waits for a passphrase."""
    keys = root / "keys"
    new_key("ada", kind="simulated", keys=keys, passphrase_file=None)
    files = {"program.py": PARENT.encode()}
    public = keyfile.read_public(keyfile.path_of(keys, "ada"))
    text = text_of(**changes).replace("sha256:FOUNDER", artifact.root(artifact.manifest(files)))
    place = root / "project"
    place.mkdir(parents=True)
    (place / "keyturn.toml").write_text(text.replace("# PEOPLE", person_text("ada", ("safety",), public)))
    policy = policies.read_file(place / "keyturn.toml")
    project = found(place, policy, keys={"ada": keys}, passphrases={}, bank_key=b"a test's banks" * 3)
    ArtifactStore(project.home / "artifacts").put(policy.subject.founder, files)
    return Scene(project, keys)


def eventually(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True
