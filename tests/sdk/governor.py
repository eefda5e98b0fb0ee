"""A governor that believes everything: it speaks the door's protocol and runs programs without any sandbox."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyturn.wire.frames import FrameReader, encode_frame
from tests.sdk.piped import lay_out

PARENT = "def solve(n):\n    return n\n"
BOUND = {"rule": "warrant_must_cover", "message": "the programs are used up", "remedy": "ask for more"}


def digest_of(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


@dataclass
class Governor:
    """What it will say, and what it was told."""

    project: Path
    no: dict[str, Any] | None = None
    bytes_max: int = 20_000
    programs_max: int = 1000
    shadow: bool = False
    seconds_max: float = 60.0
    silent: bool = False
    heard: list[dict[str, Any]] = field(default_factory=list)
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    runners: list[subprocess.Popen[bytes]] = field(default_factory=list)
    runs: list[socket.socket] = field(default_factory=list)
    usage: int = 0
    threads: list[threading.Thread] = field(default_factory=list)

    def tell_run(self, frame: dict[str, Any]) -> None:
        """Say something on the run's connection, unasked."""
        self.runs[-1].sendall(encode_frame(frame))

    def serve(self, channel: socket.socket) -> None:
        """One connection, to its end."""
        runner: subprocess.Popen[bytes] | None = None
        with channel, contextlib.suppress(OSError):
            while (frame := read(channel)) is not None:
                self.heard.append(frame)
                kind = frame["type"]
                if kind == "program":
                    runner = self.program(channel, frame)
                elif kind == "judge":
                    self.judge(channel, frame, runner)
                elif kind == "run":
                    self.run(channel)
                else:
                    channel.sendall(encode_frame(self.office(frame)))
        if runner is not None:
            runner.kill()

    def run(self, channel: socket.socket) -> None:
        self.runs.append(channel)
        channel.sendall(encode_frame({"type": "progress", "text": "looking at the log"}))
        if self.no is not None:
            channel.sendall(encode_frame({"type": "no", **self.no}))
            return
        leave = {
            "type": "leave", "attempt": 1, "generation": 0, "seed": 7, "parent": digest_of(PARENT),
            "parent_bytes": len(PARENT), "bytes_max": self.bytes_max, "seconds": self.seconds_max,
            "shadow": self.shadow, "bounds": {"programs_max": self.programs_max}, "used": {"programs": 0},
            "resumed": False,
        }  # fmt: skip  # a frame in few rows
        channel.sendall(encode_frame(leave) + PARENT.encode())

    def program(self, channel: socket.socket, frame: dict[str, Any]) -> subprocess.Popen[bytes] | None:
        text = exactly(channel, frame["bytes"]).decode("utf-8", "surrogatepass")
        digest = frame.get("digest", digest_of(text))
        if len(self.verdicts) >= self.programs_max:
            channel.sendall(encode_frame({"type": "stop", "why": BOUND["message"], "halted": False}))
            return None
        if "too_long" in frame or "forbidden" in text:
            row = {"rule": "text_must_be_plain", "message": "the text is not as it must be", "remedy": "write another"}
            self.verdicts[digest] = {"admitted": False, "findings": [row], "evidence": "", "ended": "not-run"}
            channel.sendall(encode_frame({"type": "refused", "program": digest, "findings": [row]}))
            return None
        runner = subprocess.Popen(
            [sys.executable, "-I", str(lay_out(self.project / "runner"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={}, bufsize=0, cwd=self.project,
        )  # fmt: skip  # streams in one row
        self.runners.append(runner)
        assert runner.stdin is not None
        assert runner.stdout is not None
        with runner.stdin, runner.stdout:
            runner.stdin.write(encode_frame({"type": "seed", "seed": 7}))
            runner.stdin.write(encode_frame({"type": "load", "part": 0, "of": 1, "text": text}))
            os.set_blocking(runner.stdin.fileno(), False)
            os.set_blocking(runner.stdout.fileno(), False)
            fds = [runner.stdout.fileno(), runner.stdin.fileno()]
            socket.send_fds(channel, [encode_frame({"type": "running", "program": digest})], fds)
        self.heard[-1]["program"] = digest
        return runner

    def judge(self, channel: socket.socket, frame: dict[str, Any], runner: subprocess.Popen[bytes] | None) -> None:
        if self.silent:
            return
        ended = "alive"
        if runner is not None:
            ended = "alive" if runner.poll() is None else "ended"
            runner.kill()
            runner.wait()
        digest = next(each["program"] for each in reversed(self.heard) if "program" in each)
        bad = [("checks_must_pass", reason) for reason in frame["reasons"]]
        bad += [("conduct_must_be_clean", word) for word in frame["signals"]]
        bad += [("program_must_run", frame["fault"])] if frame["fault"] else []
        bad += [("program_must_run", ended)] if ended != "alive" else []
        numbers = [value for value in frame["metrics"].values() if type(value) in (int, float)]
        bad += [] if numbers else [("score_must_be_a_number", "no metric is a number")]
        rows = [{"rule": rule, "message": message, "remedy": "see there"} for rule, message in bad]
        verdict = {"admitted": not rows or self.shadow, "findings": rows, "evidence": digest_of("e"), "ended": ended}
        self.verdicts[digest] = verdict
        channel.sendall(encode_frame({"type": "judged", **verdict}))

    def office(self, frame: dict[str, Any]) -> dict[str, Any]:
        """What the run asks for in the end."""
        verdict = self.verdicts.get(frame.get("program", ""), {})
        match frame["type"]:
            case "verdict":
                return {"type": "verdict", "known": bool(verdict), "findings": [], "admitted": False, **verdict}
            case "propose" if not verdict.get("admitted"):
                row = {"rule": "program_must_be_admitted", "message": "it was not admitted", "remedy": "take another"}
                return {"type": "no", "step": "Improve", "why": [row]}
            case "propose" | "end":
                told = {"step": "AwaitPeople", "released": False, "shadow": self.shadow, "findings": []}
                name = "g1-c1" if frame["type"] == "propose" else ""
                return {"type": "outcome", "candidate": name, "dossier": digest_of("d") if name else "", **told}
            case "request":
                self.usage += 1
                return {"type": "granted"} if self.usage <= 2 else {"type": "stop", "why": "used up", "halted": False}
            case "usage":
                return {"type": "noted"}
        raise ValueError(frame)


def exactly(channel: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = channel.recv(length - len(data))
        if not piece:
            raise OSError("cut short")
        data += piece
    return data


def read(channel: socket.socket) -> dict[str, Any] | None:
    head = channel.recv(4)
    if not head:
        return None
    reader = FrameReader(bytes_max_total=1 << 17, frames_max=1)
    (length,) = struct.unpack(">I", head)
    (frame,) = reader.feed(head + exactly(channel, length))
    return frame


@contextmanager
def governing(project: Path, **says: Any) -> Iterator[Governor]:
    """A governor that listens for one project, until the block ends."""
    (project / ".keyturn").mkdir()
    governor = Governor(project, **says)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        folder = os.open(project / ".keyturn", os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/loop.sock")
        os.close(folder)
        listener.listen()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    channel, _ = listener.accept()
                    thread = threading.Thread(target=governor.serve, args=(channel,), daemon=True)
                    governor.threads.append(thread)
                    thread.start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield governor
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(10)
            for thread in governor.threads:
                thread.join(10)
            for runner in governor.runners:
                runner.kill()
                runner.wait()
