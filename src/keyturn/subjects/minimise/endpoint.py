"""A language model's endpoint on this machine, without a language model: a fixed stock of ideas, drawn by a seed.

It speaks as much of the OpenAI interface as OpenEvolve uses. Answer number n is the same for the same seed, whoever
asks; only the text around the marks is taken from the program in the prompt, as a language model would take it. It
reports tokens and a price, so that there is something to bound.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from keyturn.core.terms import Json
from keyturn.subjects.minimise.ideas import idea
from keyturn.subjects.minimise.planted import HOSTILE, MALFORMED, REWRITE, hostile

START, END = "# EVOLVE-BLOCK-START\n", "\n# EVOLVE-BLOCK-END"
USD_PER_TOKEN = 2e-6
MALFORMED_SHARE = 0.04
_CURRENT = re.compile(r"# Current Program\n```python\n(.*?)\n```", re.DOTALL)
_FIXED = re.compile(r"\n*^def run_search\(.*", re.DOTALL | re.MULTILINE)
_BYTES_MAX = 4_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: the number of the request, whether it was meant well, and which idea it was."""

    number: int
    kind: str
    """`honest`, `hostile` or `malformed`."""
    name: str
    digest: str
    """Of the program's text as OpenEvolve cuts it out of the answer."""


@dataclass(slots=True)
class Stock:
    """The answers of one run, by number. `hostile_every` of 0 draws none; `place` is where the hostile ones may write.

    The five hostile ones come in an order drawn by the seed, each as often as the others. An answer takes
    `answer_seconds`, as one of a language model would.
    """

    seed: int
    place: Path
    hostile_every: int = 0
    hostile_max: int = len(HOSTILE)
    hang_seconds: float = 8.0
    malformed: bool = True
    answer_seconds: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, prompt: str) -> str:
        """The next answer to this prompt, recorded."""
        with self._lock:
            number = len(self.answers) + 1
            kind, name, text = self._draw(number, _current(prompt))
            program = re.sub(r"^```python\n|\n?```$", "", text).strip()
            self.answers.append(Answer(number, kind, name, f"sha256:{sha256(program.encode()).hexdigest()}"))
            return text

    def _draw(self, number: int, program: str) -> tuple[str, str, str]:
        dice = Random(f"{self.seed}:{number}")
        before, _, rest = program.partition(START)
        _, _, after = rest.partition(END)
        wanted = self._hostile(number)
        if wanted == "rewrite-task":
            return "hostile", wanted, _fenced(_FIXED.sub("", program) + REWRITE)
        if wanted:
            block = hostile(wanted, place=self.place, hang_seconds=self.hang_seconds)
            return "hostile", wanted, _fenced(f"{before}{START}{block}\n\n{END}{after}")
        if self.malformed and dice.random() < MALFORMED_SHARE:
            name = dice.choice(sorted(MALFORMED))
            return "malformed", name, MALFORMED[name]
        name, block = idea(dice)
        return "honest", name, _fenced(f"{before}{START}{block}\n\n{END}{after}")

    def _hostile(self, number: int) -> str:
        """Which hostile one this number is, if any."""
        if not self.hostile_every or number % self.hostile_every or number // self.hostile_every > self.hostile_max:
            return ""
        turn = number // self.hostile_every - 1
        order = sorted(HOSTILE)
        Random(f"{self.seed}:{turn // len(order)}").shuffle(order)
        return order[turn % len(order)]


def _current(prompt: str) -> str:
    """The program in the prompt, or the first one of the example where there is none."""
    found = _CURRENT.search(prompt)
    if found and START in found[1]:
        return found[1]
    return resources.files("keyturn.subjects.minimise").joinpath("initial_program.py").read_text(encoding="utf-8")


def _fenced(program: str) -> str:
    return f"```python\n{program}\n```"


class Endpoint:
    """The endpoint, serving on the loopback address while it is entered; `url` is what a client is given."""

    def __init__(self, stock: Stock) -> None:
        handler = type("Handler", (_Handler,), {"stock": stock})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.stock = stock

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection; clients keep it open for many requests."""

    stock: Stock
    thought = threading.Event()
    """Never set: what is waited for is the time."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer one chat completion."""
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/v1/chat/completions" or not 0 < length <= _BYTES_MAX:
            self._reply(404, {"error": {"message": "only chat completions are answered here"}})
            return
        prompt = _prompt(self.rfile.read(length))
        text = self.stock.answer(prompt)
        self.thought.wait(self.stock.answer_seconds)
        asked, said = max(len(prompt) // 4, 1), max(len(text) // 4, 1)
        self._reply(
            200,
            {
                "id": f"answer-{len(self.stock.answers)}",
                "object": "chat.completion",
                "created": 0,
                "model": "stock-of-ideas",
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}},
                ],
                "usage": {
                    "prompt_tokens": asked,
                    "completion_tokens": said,
                    "total_tokens": asked + said,
                    "cost": round((asked + said) * USD_PER_TOKEN, 6),
                },
            },
        )

    def _reply(self, status: int, body: Mapping[str, Json]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal is the demo's."""


def _prompt(body: bytes) -> str:
    """What was asked, all messages in one text."""
    try:
        asked = json.loads(body)
        messages = asked["messages"]
        return "\n".join(str(message["content"]) for message in messages)
    except (ValueError, KeyError, TypeError):
        return ""
