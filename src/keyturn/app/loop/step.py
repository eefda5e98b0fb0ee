"""One improve step of a loop that others wrote: its programs run sealed, each alone, are judged, and one may leave.

A single thread does it all, and nothing here waits for anybody; a crash leaves the step open, and the next run of the
loop goes on under the same warrant.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from keyturn.app.loop import words
from keyturn.app.loop.books import Books
from keyturn.app.loop.door import Connection, Door
from keyturn.app.loop.judging import Judging
from keyturn.app.loop.reader import Reader
from keyturn.app.loop.seat import Seat, Submission, frames_in, seed_of
from keyturn.app.loop.warm import Pool, Warm
from keyturn.app.sealed import Sealed
from keyturn.core.admission import ALIVE
from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.core.finding import Finding
from keyturn.core.terms import Digest, Json
from keyturn.flow.ports import Attested, Improved, Interrupted, OnAttested
from keyturn.sandbox.freezing.clock import subject_time
from keyturn.sandbox.proof import PROOF_SECONDS_MAX
from keyturn.wire import canonical
from keyturn.wire.digest import sha256

BEAT_SECONDS = 0.25
"""How often, at the least, everything is looked at; with a short lease three times within it."""

SOON_SECONDS, DYING_SECONDS = 0.0002, 0.005
"""How soon a killed program's sandbox is looked at again, and for how long so often; after that as seldom."""

FILL_SECONDS = 0.03
"""For how long a new sandbox may wait to be made, so that it does not get in the way of a program that is soon over."""

HALTED, GONE, DECOY = "halted", "worker-gone", "decoy"
IMPATIENT = frozenset({HALTED, GONE, DECOY})
"""How a program ends whose evaluator need not be heard."""

UNEXPLAINED = frozenset({"lost", "lease", "halted"})


@dataclass(slots=True, eq=False)
class Step:
    """The sandboxes of the step under way: who waits for one, who sits in one, and who is dying.

    `stopped` says in one word why no program may begin any more, nothing while some may.
    """

    sealed: Sealed
    door: Door
    run: Connection
    books: Books
    judging: Judging
    pool: Pool
    reader: Reader
    on_attested: OnAttested
    beat_seconds: float
    waiting: deque[tuple[Submission, tuple[Finding, ...]]] = field(default_factory=deque)
    seats: list[Seat] = field(default_factory=list)
    at: dict[Connection, Seat] = field(default_factory=dict)
    answers: dict[Connection, dict[str, Json]] = field(default_factory=dict)
    attestations: list[tuple[Attested, Digest]] = field(default_factory=list)
    stopped: str = ""
    ending: Improved | None = None
    told: bool = False
    cpu_seconds: float = 0.0
    began_at: float = field(default_factory=subject_time)
    beat_at: float = 0.0
    fill_at: float = 0.0

    # --- the course of it

    def go(self, give_leave: Callable[[], None]) -> Improved:
        """Give leave once a sandbox is known to hold, serve until the loop proposes or ends, and log all of it.

        Raises `Unavailable` where no sandbox can be had or the loop went away, `Interrupted` on a halt.
        """
        try:
            self._serve(give_leave)
        except (Interrupted, KeyboardInterrupt):
            self._wind_up()
            raise
        if self.ending is None:
            raise Unavailable("the loop went away before it proposed or ended", help="start it again: the step goes on")
        return self.ending

    def _serve(self, give_leave: Callable[[], None]) -> None:
        self.pool.fill()
        self.door.watch(self.pool.bell, self.pool.gather)
        while not self.pool.ready and not self.stopped:
            self._turn()
        if not self.stopped:
            self._attest(self.pool.ready[0].attested)
            self.books.open()
            give_leave()
        while not self.stopped or self.seats:
            self._turn()
        self.books.flush(closing=True)

    def stop(self, word: str) -> None:
        """Let no program begin any more, and kill those at work."""
        self.stopped = self.stopped or word
        for asked, _ in self.waiting:
            self.door.send(asked.connection, words.stop("the loop's step is over"))
        self.waiting.clear()
        for seat in self.seats:
            self._stop(seat, word)

    def close(self) -> None:
        """Let nothing run on, whatever happened."""
        for seat in self.seats:
            self._let_go(seat)
        self.seats = []
        self.door.unwatch(self.pool.bell)
        self.reader.close()
        self.pool.close()

    def _turn(self) -> None:
        self.door.turn(self._patience())
        self.sealed.check_halted()
        now = subject_time()
        if now >= self.beat_at:
            self.beat_at = now + self.beat_seconds
            self._beat()
        self.reader.tick()
        for seat in list(self.seats):
            self._mind(seat, now)
        self._admit_waiting()
        due = self.books.due_at()
        if due is not None and now >= due:
            self.books.flush()

    def _patience(self) -> float:
        """For how long nothing need be done, as far as is known."""
        now = subject_time()
        moments = [self.beat_at, *(seat.until for seat in self.seats)]
        moments += [moment for moment in (self.books.due_at(), self.reader.tick()) if moment is not None]
        dying = [now - seat.ended_at for seat in self.seats if seat.ended and seat.exit is None]
        moments += [now + (SOON_SECONDS if since < DYING_SECONDS else DYING_SECONDS) for since in dying]
        if self.fill_at:
            moments.append(self.fill_at)
        return min(moments) - now

    def _beat(self) -> None:
        """Renew every lease, and see whether there still is time."""
        self.pool.tick()
        self.sealed.parking.tick()
        for seat in self.seats:
            self.look(seat)
        late = self.books.late()
        if late:
            self.tell_over(late)

    def tell_over(self, found: tuple[Finding, ...]) -> None:
        """Tell the loop, once, that it must stop, and why."""
        if not self.told:
            self.told = True
            self.door.send(self.run, words.stop(found[0].message))

    def _wind_up(self) -> None:
        """Something stops everything: kill who is at work, and write down what ran, as far as that can be done."""
        self.stop(HALTED)
        try:
            while self.seats:
                for seat in list(self.seats):
                    self._mind(seat, subject_time())
                time.sleep(DYING_SECONDS)
            self.books.flush(closing=True)
        except (KeyturnError, Interrupted):
            pass  # what is not logged now is charged when the step goes on

    # --- seats

    def _admit_waiting(self) -> None:
        """Seat who waits, first come first served; who may not begin any more is told."""
        while self.waiting and not self.stopped:
            lacking = self.books.lacking(len(self.seats))
            if lacking:
                self._turn_away(lacking)
                return
            if not self.books.room(len(self.seats)):
                self.books.flush()
                if not self.books.room(len(self.seats)):
                    return
            warm = self.pool.take()
            if warm is None:
                break
            asked, found = self.waiting.popleft()
            if not self._seat(asked, found, warm):
                self.waiting.appendleft((asked, found))
        self._fill()

    def _fill(self) -> None:
        """Make up for the sandboxes that were taken, at once where somebody waits."""
        now, wanted = subject_time(), min(len(self.waiting), self.books.loop.batch)
        coming_back = sum(not seat.ended or seat.spotless() for seat in self.seats)
        if self.stopped or not self.pool.lacks(wanted, coming_back):
            self.fill_at = 0.0
            return
        self.fill_at = self.fill_at or now + FILL_SECONDS
        if self.waiting or not self.seats or now >= self.fill_at:
            self.pool.fill(wanted, coming_back)

    def _turn_away(self, lacking: tuple[Finding, ...]) -> None:
        """The bounds are used up: whoever waits is stopped, and the loop with them."""
        for asked, _ in self.waiting:
            self.door.send(asked.connection, words.stop(lacking[0].message))
        self.waiting.clear()
        self.tell_over(lacking)

    def _seat(self, asked: Submission, found: tuple[Finding, ...], warm: Warm) -> bool:
        """Begin a program in a warm sandbox; false where that one is gone or never was let go."""
        attestation, running = self._attest(warm.attested), warm.running
        if running is None:
            return False
        seed = seed_of(self.books.leave.seed, asked.digest)
        try:
            with self.sealed.guard():
                running.begin(asked.seconds)
        except Unavailable:
            self.pool.clear(running)
            return False
        going_in = memoryview(frames_in(asked.data.decode("utf-8"), seed))
        seat = Seat(asked, running, warm.attested, attestation, seed, asked.seconds, going_in, found)
        self.seats.append(seat)
        self.at[asked.connection] = seat
        self.door.watch(running.wake_fd, lambda: self.look(seat))
        if seat.feed():
            self._hand_over(seat)
        else:
            self.door.watch(running.stdin_fd, lambda: self._feed(seat), writable=True)
        return True

    def _attest(self, attested: Attested) -> Digest:
        """Have it recorded what the kernel enforces, before the first program runs under it; may raise."""
        for known, digest in self.attestations:
            if known == attested:
                return digest
        digest = sha256(canonical.encode({"tier": attested.tier, "facts": attested.facts}))
        self.on_attested(attested)
        self.attestations.append((attested, digest))
        return digest

    def _feed(self, seat: Seat) -> None:
        if seat.feed():
            self.door.unwatch(seat.running.stdin_fd)
            self._hand_over(seat)

    def _hand_over(self, seat: Seat) -> None:
        """From here on its evaluator speaks with the program, and nobody else does."""
        seat.handed_over = True
        said: dict[str, Json] = {"type": "running", "program": seat.submission.digest}
        pipes = (seat.running.stdout_fd, seat.running.stdin_fd)
        self.door.send(seat.submission.connection, said, fds=pipes)

    def look(self, seat: Seat) -> None:
        """Take in what happened in a sandbox."""
        was = seat.ended
        seat.look()
        if seat.ended and not was:
            self._unwatch(seat)

    def _stop(self, seat: Seat, word: str) -> None:
        if not seat.ended:
            seat.stop(word)
            self._unwatch(seat)

    def end(self, seat: Seat, word: str) -> None:
        """Kill a program; what it did until now is looked at first."""
        self.look(seat)
        self._stop(seat, word)

    def end_well(self, seat: Seat) -> None:
        """Kill a program that was asked all that it shall be; one that is dead already is left to say how it died."""
        self.look(seat)
        if not seat.ended and seat.running.alive():
            self._stop(seat, ALIVE)

    def _mind(self, seat: Seat, now: float) -> None:
        """Judge of whom nothing lives and whose evaluator has been heard, or need not be heard any more."""
        if not seat.ended and now >= seat.until:
            self.look(seat)
        if not seat.ended:
            return
        if not seat.gone():
            if now > seat.ended_at + PROOF_SECONDS_MAX:
                raise Unavailable(
                    f"a killed program was not seen to be gone within {PROOF_SECONDS_MAX:.0f} seconds",
                    help="see `keyturn doctor`; the step goes on when the loop is served again",
                )
            return
        heard = seat.report is not None or self.stopped or seat.ended in IMPATIENT
        if heard or now >= seat.until:
            self._judge(seat)

    def _judge(self, seat: Seat) -> None:
        """The verdict on a program that is gone: told at once, entered for the log, and its sandbox given back."""
        self.cpu_seconds += seat.exit.cpu_seconds if seat.exit else 0.0
        if seat.ended in UNEXPLAINED and not self.stopped:
            with self.sealed.guard():  # whoever halted by their own hand has latched: then this is no verdict
                pass
        judgement, asked = self.judging.ended(seat), seat.submission
        answer = words.judged(judgement.verdict, shadow=self.books.shadow)
        if self.at.pop(asked.connection, None) is not None:
            if seat.report is not None:
                self.door.send(asked.connection, answer)
            elif asked.connection.open:
                self.answers[asked.connection] = answer
        self.seats.remove(seat)
        if seat.spotless() and not self.stopped:
            self._unwatch(seat)
            self.pool.again(seat.running, seat.attested)
        else:
            self._let_go(seat)
        self.books.enter(asked.digest, asked.data, judgement.verdict, judgement.evidence, judgement.alarms)

    def _unwatch(self, seat: Seat) -> None:
        self.door.unwatch(seat.running.wake_fd)
        self.door.unwatch(seat.running.stdin_fd)

    def _let_go(self, seat: Seat) -> None:
        """Kill what may be left, and give everything back behind everybody's back."""
        self._unwatch(seat)
        self.pool.clear(seat.running)
