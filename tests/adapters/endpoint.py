"""An OpenAI-compatible endpoint on the loopback address that answers by the number of the request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = str | Callable[["Request"], object]
"""A program to be answered with, or what is to be done with a request instead."""


@dataclass
class Answers:
    """What is answered, in order; the last one again and again. `count` is how many requests came."""

    of: Sequence[Answer]
    cost: float | None = 0.01
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def next(self) -> Answer:
        with self.lock:
            self.count += 1
            return self.of[min(self.count, len(self.of)) - 1]


class Request(BaseHTTPRequestHandler):
    """One request."""

    answers: Answers
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.answers.next()
        if isinstance(answer, str):
            self.say(answer)
        else:
            answer(self)

    def say(self, program: str, **more: Any) -> None:
        """A completion whose text is a program in a fence."""
        message = {"role": "assistant", "content": f"```python\n{program}\n```"}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        if self.answers.cost is not None:
            usage["cost"] = self.answers.cost  # type: ignore[assignment]  # a price is no whole number
        body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "usage": usage}
        self.send(200, {**body, "choices": [{"index": 0, "finish_reason": "stop", "message": message}], **more})

    def send(self, status: int, body: object) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def slow(seconds: float) -> Callable[[Request], None]:
    """Answer nothing for so long."""

    def act(request: Request) -> None:
        time.sleep(seconds)
        request.close_connection = True

    return act


def raw(data: bytes, status: int = 200) -> Callable[[Request], None]:
    """Answer these bytes."""
    return lambda request: request.send(status, data)


@contextmanager
def answering(*of: Answer, cost: float | None = 0.01) -> Iterator[Answers]:
    """The endpoint, while this lasts."""
    answers = Answers(of, cost)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Request,), {"answers": answers}))
    server.daemon_threads = True
    answers.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield answers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
