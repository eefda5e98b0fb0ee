"""One sandbox in which commands run: the thread that keeps its lease, and the talk with the agent inside.

What the agent says is untrusted: a frame that is not what was asked for, an end, or silence means that the sandbox is
lost, and it is stopped. Nothing that comes from a lost sandbox is ever handed on.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.sandbox.port import Receipt, Running

HEAD = struct.Struct(">II")
HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 1 << 20
READ_BYTES = 1 << 20
ENDS = {"memory": "out of memory", "wall": "its time is up", "lease": "the lease was not renewed"}
SILENT_SECONDS_MAX = 30.0
"""How long an agent may say nothing, not even that it is there, before the sandbox is lost."""

OVERDUE_SECONDS_MAX = 30.0
"""How much later than its time-out the end of a command may be told, on a machine that may be busy."""


@dataclass(slots=True)
class Call:
    """One thing asked of the agent. `answer` is its last frame; the streams hold what came before it.

    One that has no answer `until` then has escaped its time-out: commands bear the agent's user, and may hold it still.
    """

    number: int
    bytes_max: int
    until: float | None = None
    answer: dict[str, object] | None = None
    streams: dict[int, bytearray] = field(default_factory=lambda: {1: bytearray(), 2: bytearray()})
    done: threading.Event = field(default_factory=threading.Event)


def frame(head: dict[str, object], body: bytes = b"") -> bytes:
    """One frame as it is sent."""
    text = json.dumps(head).encode()
    return HEAD.pack(len(text), len(body)) + text + body


def frames(order: dict[str, object], body: bytes | None) -> Iterator[bytes]:
    """An order, and its body in pieces."""
    yield frame(order)
    if body is not None:
        for start in range(0, len(body), BODY_BYTES_MAX):
            yield frame({"do": "data", "id": order["id"]}, body[start : start + BODY_BYTES_MAX])
        yield frame({"do": "end", "id": order["id"]})


class Broken(Exception):
    """The agent said something that it never says."""


class Living:
    """A sandbox whose agent runs, from *go* to its receipt. Calls may come from any thread."""

    def __init__(self, running: Running, lease_seconds: float) -> None:
        self.id = running.id
        self.lost = ""
        self.receipt: Receipt | None = None
        self._running, self._pause = running, lease_seconds / 3
        self._lock, self._stopping = threading.Lock(), threading.Lock()
        self._calls: dict[int, Call] = {}
        self._number = 0
        self._outgoing: deque[memoryview] = deque()
        self._received = bytearray()
        self._heard = self._pinged = time.monotonic()
        self._ready = threading.Event()
        self._stops = threading.Event()
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        self._thread = threading.Thread(target=self._govern, name=f"keyturn {running.id}", daemon=True)
        self._thread.start()

    # -- what is asked

    def wait_ready(self) -> None:
        """Wait for the agent's first word; raises `Unavailable` where none comes."""
        self._ready.wait(SILENT_SECONDS_MAX)
        if self.lost or not self._ready.is_set():
            raise self._unavailable()

    def start(self, order: dict[str, object], body: bytes | None, bytes_max: int) -> Call:
        """Ask for something; raises `Unavailable` once the sandbox is lost."""
        with self._lock:
            if self.lost:
                raise self._unavailable()
            self._number += 1
            seconds = float(str(order.get("seconds") or 0))
            until = time.monotonic() + seconds + OVERDUE_SECONDS_MAX if seconds else None
            call = self._calls[self._number] = Call(self._number, bytes_max, until)
            self._outgoing += map(memoryview, frames({**order, "id": call.number}, body))
        self._stir()
        return call

    def answer(self, call: Call) -> dict[str, object]:
        """Wait for the answer; raises `Unavailable` where the sandbox is lost before it is whole."""
        call.done.wait()
        if call.answer is None:
            raise self._unavailable()
        return call.answer

    def abandon(self, call: Call) -> None:
        """End something that nobody waits for any more."""
        with self._lock:
            if not self.lost:
                self._outgoing.append(memoryview(frame({"do": "abandon", "id": call.number})))
        self._stir()

    def close(self, why: str) -> Receipt:
        """Stop it and prove it; idempotent, from any thread."""
        self._stops.set()
        receipt = self._stop(why)
        self._stir()
        self._thread.join()
        return receipt

    def _stop(self, why: str) -> Receipt:
        """Stop it once; whoever comes second waits for the proof that the first one gets."""
        with self._stopping:
            if self.receipt is None:
                self.receipt = self._running.halt(why)
            return self.receipt

    def _unavailable(self) -> Unavailable:
        why = self.lost or "its agent does not answer"
        return Unavailable(f"the sandbox {self.id} is lost: {why}", help="the sample must begin again in a new one")

    def _stir(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # it is full, or the thread has ended
            os.write(self._waker, b"x")

    # -- the thread

    def _govern(self) -> None:
        """Keep the lease, carry frames, and stop the sandbox when either ends."""
        why = "its thread broke"  # whatever comes up, the calls that wait must hear of it
        try:
            why = self._carry()
        except (Broken, ValueError, LookupError, TypeError, RecursionError) as error:
            why = f"its agent spoke out of turn ({error})"
        except (OSError, KeyturnError) as error:
            why = f"it cannot be reached ({error})"
        finally:
            self._end(why)

    def _end(self, why: str) -> None:
        """Stop it with proof first, then let those who wait know."""
        reason = self._running.seen().reason
        self._stop(why)
        with self._lock:
            self.lost = why if reason in {"lost", "halted"} else f"{why} ({ENDS.get(reason, reason)})"
            calls, self._calls = self._calls, {}
        self._running.close()
        self._ready.set()
        for call in calls.values():
            call.done.set()
        with self._lock:
            os.close(self._wake)
            waker, self._waker = self._waker, -1
            os.close(waker)

    def _carry(self) -> str:
        """Carry frames until the end; why it ended."""
        running = self._running
        poll = select.poll()
        poll.register(running.stdout_fd, select.POLLIN)
        poll.register(running.wake_fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._stops.is_set():
            if not running.tick():
                return "it was stopped" if self._stops.is_set() else "it has ended"
            self._ask_whether_it_is_there()
            if self._outgoing:
                poll.register(running.stdin_fd, select.POLLOUT)
            ready = dict(poll.poll(self._pause * 1000))
            if self._wake in ready:
                os.read(self._wake, 4096)
            if running.stdin_fd in ready and not self._send():
                poll.unregister(running.stdin_fd)
            if running.stdout_fd in ready and not self._receive():
                return "it was stopped" if self._stops.is_set() else "its agent has ended"
        return "it was stopped"

    def _ask_whether_it_is_there(self) -> None:
        now = time.monotonic()
        if now - self._heard > SILENT_SECONDS_MAX:
            raise Broken(f"silent for {SILENT_SECONDS_MAX:.0f} seconds")
        with self._lock:
            overdue = any(call.until is not None and now > call.until for call in self._calls.values())
        if overdue:
            raise Broken("a command outlived its time-out")
        if now - self._pinged >= self._pause:
            self._pinged = now
            with self._lock:
                self._outgoing.append(memoryview(frame({"do": "ping"})))

    def _send(self) -> bool:
        """Write what the pipe takes; whether there is more."""
        while True:
            with self._lock:
                if not self._outgoing:
                    return False
                first = self._outgoing[0]
            try:
                sent = os.write(self._running.stdin_fd, first)
            except BlockingIOError:
                return True
            except BrokenPipeError as error:
                raise Broken("it has closed its input") from error
            with self._lock:
                if sent == len(first):
                    self._outgoing.popleft()
                else:
                    self._outgoing[0] = first[sent:]

    def _receive(self) -> bool:
        """Read what came; false at the end."""
        data = os.read(self._running.stdout_fd, READ_BYTES)
        self._heard = time.monotonic()
        self._received += data
        start = 0
        while len(self._received) - start >= HEAD.size:
            head, body = HEAD.unpack_from(self._received, start)
            if head > HEAD_BYTES_MAX or body > BODY_BYTES_MAX:
                raise Broken("a frame without bounds")
            end = start + HEAD.size + head + body
            if len(self._received) < end:
                break
            middle = start + HEAD.size + head
            self._take(json.loads(self._received[start + HEAD.size : middle]), self._received[middle:end])
            start = end
        del self._received[:start]
        return bool(data)

    def _take(self, head: dict[str, object], body: bytearray) -> None:
        """Take in one frame."""
        if head == {"pong": True} and not body:
            self._ready.set()
            return
        number, stream = head["id"], head.get("stream")
        with self._lock:
            call = self._calls.get(number) if isinstance(number, int) else None
        if call is None:
            raise Broken("an answer that nobody asked for")
        if stream is not None:
            into = call.streams[stream] if isinstance(stream, int) else None
            if into is None or len(into) + len(body) > call.bytes_max:
                raise Broken("more than was asked for")
            into += body
            return
        with self._lock:
            del self._calls[call.number]
        call.answer = head
        call.done.set()
