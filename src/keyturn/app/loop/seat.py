"""One program in one sandbox, from its text's way in to its end: what it did there is read off once it is dead.

It takes no part in the conversation between the program and whoever evaluates it: the pipes are handed over.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from keyturn.app.loop.door import Connection
from keyturn.core.admission import ALIVE
from keyturn.core.finding import Finding
from keyturn.core.terms import Digest, Json
from keyturn.flow.ports import Attested
from keyturn.sandbox.freezing.clock import CLOCK, subject_time
from keyturn.sandbox.port import Exit, Running
from keyturn.wire import canonical
from keyturn.wire.digest import sha256
from keyturn.wire.frames import encode_frame

PIECE_BYTES = 48_000
"""How much of a text one `load` frame carries, written as JSON."""

REPORT_SECONDS = 10.0
"""How long after a program's end its evaluator may take to say what it saw."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A program that was handed in: its text in UTF-8, and for how long its evaluator wants it."""

    connection: Connection
    digest: Digest
    data: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What the evaluator says of a program; nothing of it is believed beyond what a rule reads."""

    metrics: dict[str, Json]
    reasons: tuple[str, ...]
    signals: tuple[str, ...]
    fault: str


NO_REPORT = Report({}, (), (), "")


@dataclass(slots=True, eq=False)
class Seat:
    """A program at work. `ended` says in one word why it was stopped; `exit` is there once nothing of it lives.

    `findings` are those about its text: only where a step merely watches does a program run in spite of them.
    """

    submission: Submission
    running: Running
    attested: Attested
    attestation: Digest
    seed: int
    seconds: float
    going_in: memoryview
    findings: tuple[Finding, ...] = ()
    began_at: float = field(default_factory=subject_time)
    held_before: float = field(default_factory=CLOCK.lost_seconds)
    ended: str = ""
    ended_at: float = 0.0
    beyond: int = 0
    handed_over: bool = False
    report: Report | None = None
    exit: Exit | None = None

    @property
    def until(self) -> float:
        """When its time is up: first the program's, then that of whoever still has to say what it saw."""
        return self.ended_at + REPORT_SECONDS if self.ended else self.began_at + self.seconds

    @property
    def held_seconds(self) -> float:
        """For how long it was held still in its time, which its evaluator may have counted as its own."""
        return CLOCK.lost_seconds() - self.held_before

    def feed(self) -> bool:
        """Write on what goes in; true once the runner has all of it."""
        try:
            while self.going_in:
                self.going_in = self.going_in[os.write(self.running.stdin_fd, self.going_in) :]
        except BlockingIOError:
            return False
        except OSError:
            self.going_in = memoryview(b"")  # the runner is gone, which `look` will tell
        return True

    def look(self) -> None:
        """Renew its lease and take in what happened; stop it for what it may not do."""
        alive = self.running.tick()
        if self.ended:
            return
        if self.running.decoys():
            self.stop("decoy")
        elif not alive:
            self.stop("ended")
        elif subject_time() >= self.until:
            self.stop("wall")

    def stop(self, why: str) -> None:
        """Count what lives in it and write the kill; what it did is final once it is `gone`."""
        if self.ended:
            return
        self.ended, self.ended_at = why, subject_time()
        self.beyond = self.running.beyond()
        if self.spotless():
            self.running.spare()
        else:
            self.running.kill()

    def spotless(self) -> bool:
        """Whether all that was seen of it is in order, so that its sandbox may serve again."""
        said = self.report or Report({}, (), (), "unheard")
        harmless = not self.beyond and not self.running.decoys() and not said.signals and not said.fault
        return self.ended == ALIVE and harmless

    def gone(self) -> bool:
        """Whether it is over and nothing of it was seen to live any more; takes in how it ended, once."""
        if self.exit is not None:
            return True
        if not self.ended or not self.running.gone():
            return False
        self.exit = self.running.seen()
        self.ended = _word(self.ended, self.exit)
        self.beyond = max(self.beyond, self.exit.left_running)
        return True


def _word(ended: str, exit: Exit) -> str:
    """Why it ended: a decoy outweighs everything, and what ended by itself says how."""
    if exit.decoys:
        return "decoy"
    return exit.reason if ended == "ended" else ended


def seed_of(seed: int, digest: Digest) -> int:
    """The seed of one program's dice: it follows from the step's seed and from the text alone."""
    return int(sha256(f"{seed} {digest}".encode()).removeprefix("sha256:")[:8], 16)


def frames_in(text: str, seed: int) -> bytes:
    """What a warm runner is told: its seed, then the text in pieces."""
    pieces = _cut(text)
    frames: list[dict[str, Json]] = [{"type": "seed", "seed": seed}]
    frames += [{"type": "load", "part": n, "of": len(pieces), "text": piece} for n, piece in enumerate(pieces)]
    return b"".join(map(encode_frame, frames))


def _cut(text: str) -> list[str]:
    """The text in pieces whose JSON fits one frame each."""
    pieces: list[str] = []
    start = 0
    while start < len(text) or not pieces:
        length = PIECE_BYTES
        while len(canonical.encode(text[start : start + length])) > PIECE_BYTES and length > 1:
            length //= 2
        pieces.append(text[start : start + length])
        start += length
    return pieces
