"""Who may ask for what at the loop's door while a step is under way, and what they are answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from keyturn.app.loop import words
from keyturn.app.loop.door import Connection, Door
from keyturn.app.loop.inbox import Message
from keyturn.app.loop.seat import Submission
from keyturn.app.loop.step import GONE, Step
from keyturn.core.errors import MalformedInput
from keyturn.core.finding import Finding
from keyturn.core.programs import MISCONDUCT
from keyturn.core.terms import Digest, Json
from keyturn.flow.ports import Improved
from keyturn.sandbox.freezing.clock import subject_time

PROPOSED, ENDED, LEFT = "proposed", "ended", "loop-gone"

ALONE = Finding("loop_must_be_alone", "another loop runs this step already; one is expected", "wait until it has ended")


@dataclass(slots=True, eq=False)
class Desk:
    """The holder of the door during a step."""

    step: Step
    parent: Mapping[str, bytes]
    bytes_max: int
    seconds_max: float
    reading: dict[Connection, Submission] = field(default_factory=dict)

    @property
    def door(self) -> Door:
        """The door that it holds."""
        return self.step.door

    def take(self, connection: Connection, message: Message) -> None:
        """Do what was asked; raises `MalformedInput` for what nobody may ask for here."""
        own = OFFICES.get(message.type) if connection is self.step.run else None
        act = own or COUNTERS.get(message.type)
        if act is None:
            raise MalformedInput(f"`{message.type[:40]}` cannot be asked for here", help="see `keyturn.sdk`")
        act(self, connection, message)

    def gone(self, connection: Connection) -> None:
        """Whoever went away takes their program with them; without the loop itself nothing goes on."""
        step = self.step
        self.reading.pop(connection, None)
        step.answers.pop(connection, None)
        step.waiting = type(step.waiting)(each for each in step.waiting if each[0].connection is not connection)
        if connection is step.run:
            step.stop(LEFT)
        elif connection in step.at:
            step.end(step.at[connection], GONE)

    # --- what anybody may ask for

    def again(self, connection: Connection, message: Message) -> None:
        """A second loop: one is enough."""
        self.door.send(connection, words.no("Conflict", (ALONE,)))
        self.door.finish(connection)

    def program(self, connection: Connection, message: Message) -> None:
        """Hand in a program: looked at as a text first, then run as soon as it may."""
        step = self.step
        if (
            connection in step.at
            or connection in self.reading
            or any(w[0].connection is connection for w in step.waiting)
        ):
            raise MalformedInput(
                "a program of this connection is still at work; one is expected", help="`judge` it first"
            )
        step.answers.pop(connection, None)
        if self._denied(connection, len(step.seats)):
            return
        asked = Submission(
            connection,
            message.digest or words.program_of(message.header, "digest"),
            message.blob,
            words.seconds(message.header, self.seconds_max),
        )
        size = message.blob_bytes or words.whole(message.header, "too_long")
        known = step.books.verdicts.get(asked.digest)
        if known is not None and known.misconduct:
            self._refuse(asked, size, (Finding(MISCONDUCT, "it misbehaved in this step before", "leave it out"),))
        elif size > self.bytes_max:
            self._refuse(asked, size, ())
        else:
            self.reading[connection] = asked
            step.reader.ask(asked.data, lambda found: self._read(asked, found))

    def _denied(self, connection: Connection, at_work: int) -> bool:
        """Whether nothing more may run: whoever asks is stopped, and where bounds are used up the loop is told."""
        step = self.step
        lacking = step.books.lacking(at_work)
        if not lacking and not step.stopped:
            return False
        self.door.send(connection, words.stop(lacking[0].message if lacking else "the loop's step is over"))
        if lacking:
            step.tell_over(lacking)
        return True

    def _read(self, asked: Submission, found: tuple[Finding, ...]) -> None:
        """Its text was looked at: refused before anything runs, or on to a sandbox."""
        if self.reading.pop(asked.connection, None) is not asked:
            return  # who handed it in has gone
        if found and not (self.step.books.shadow and _is_text(asked.data)):
            self._refuse(asked, len(asked.data), found)
        else:
            self.step.waiting.append((asked, found))

    def _refuse(self, asked: Submission, size: int, found: tuple[Finding, ...]) -> None:
        """Refused without having run: it is in the log all the same."""
        step = self.step
        if self._denied(asked.connection, len(step.seats)):
            return  # others used up the bounds meanwhile: not even a refusal is left
        judgement = step.judging.unrun(asked.digest, size, found)
        body = words.findings(judgement.verdict.findings)
        self.door.send(asked.connection, {"type": "refused", "program": asked.digest, "findings": body})
        text = asked.data if len(asked.data) <= self.bytes_max else b""
        step.books.enter(asked.digest, text, judgement.verdict, judgement.evidence)

    def judge(self, connection: Connection, message: Message) -> None:
        """Say what an evaluation brought, and be told the verdict."""
        step = self.step
        if connection in step.answers:
            self.door.send(connection, step.answers.pop(connection))
            return
        seat = step.at.get(connection)
        if seat is None or not seat.handed_over or seat.report is not None:
            raise MalformedInput("no program of this connection waits to be judged", help="hand one in first")
        seat.report = words.report(message.header)
        step.end_well(seat)

    def request(self, connection: Connection, message: Message) -> None:
        """Ask whether the loop may send one more request of its own."""
        if self._denied(connection, 0):
            return
        self.step.books.grant()
        self.door.send(connection, {"type": "granted"})

    def usage(self, connection: Connection, message: Message) -> None:
        """Say what the loop's own requests used."""
        self.step.books.use(words.usage(message.header))
        self.door.send(connection, {"type": "noted"})

    # --- what the loop itself may ask for

    def verdict(self, connection: Connection, message: Message) -> None:
        """Ask what became of a program: whoever was not judged in this step is not admitted."""
        books, program = self.step.books, words.program_of(message.header)
        verdict, known = books.verdicts.get(program), books.knows(program)
        found = verdict.findings if verdict is not None else _unknown(known)
        let_in = books.shadow or books.admitted(program)
        rows = words.findings(found)
        said: dict[str, Json] = {"type": "verdict", "admitted": let_in, "known": known, "findings": rows}
        self.door.send(connection, {**said, "used": books.used().to_json()})

    def propose(self, connection: Connection, message: Message) -> None:
        """Let one admitted program leave the step as the candidate; everything else ends here."""
        step, program = self.step, words.program_of(message.header)
        claimed = json.dumps(words.claim(message.header)).encode()
        books = step.books
        text = books.shelf.get(program) if books.admitted(program) or (books.shadow and books.knows(program)) else None
        if text is None:
            self.door.send(connection, words.no("Improve", (_not_admitted(program),)))
            return
        self._end("produced", "", PROPOSED, files={**self.parent, books.loop.program: text}, claim=claimed)

    def finish(self, connection: Connection, message: Message) -> None:
        """End the step without a candidate."""
        why = words.text_of(message.header, "why") or "no reason given"
        self._end("ended", f"the loop ended without a candidate: {why}", ENDED)

    def _end(
        self, outcome: str, detail: str, word: str, files: Mapping[str, bytes] | None = None, claim: bytes = b""
    ) -> None:
        step = self.step
        if step.stopped:
            return
        took = subject_time() - step.began_at
        step.ending = Improved(outcome, detail, step.cpu_seconds, took, 0, b"", files or {}, claim)
        step.stop(word)


def _is_text(data: bytes) -> bool:
    """Whether it can be handed to a runner at all."""
    try:
        return bool(data.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _unknown(known: bool) -> tuple[Finding, ...]:
    if known:
        return ()
    return (Finding("program_must_run", "it was not judged in this step", "hand it in as a program"),)


def _not_admitted(program: Digest) -> Finding:
    message = f"the program {program[:15]}… was not admitted in this step, so it cannot leave it"
    return Finding("program_must_be_admitted", message, "propose the best of what was admitted, or end the step")


Act = Callable[[Desk, Connection, Message], None]

COUNTERS: dict[str, Act] = {
    "run": Desk.again,
    "program": Desk.program,
    "judge": Desk.judge,
    "request": Desk.request,
    "usage": Desk.usage,
}
"""What every connection may ask for."""

OFFICES: dict[str, Act] = {"verdict": Desk.verdict, "propose": Desk.propose, "end": Desk.finish}
"""What only the loop's own connection may ask for besides."""
