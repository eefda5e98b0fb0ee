"""What a loop has used, what became of each of its programs, and the batches in which both reach the log.

At no moment are more programs unlogged, at work ones included, than the policy's batch: a crash can lose no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from keyturn.core import bounds as limits
from keyturn.core.bounds import Bounds, Used
from keyturn.core.finding import Finding
from keyturn.core.policy import Loop
from keyturn.core.programs import ADMITTED, MISCONDUCT, REFUSED
from keyturn.core.terms import Digest
from keyturn.flow.ports import Alarm, Batch, Judged, Leave
from keyturn.ledger.shelf import Shelf
from keyturn.sandbox.freezing.clock import subject_time

FLUSH_SECONDS = 5.0
"""How long a judged program may wait for its batch."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a program: admitted, or refused by `findings`; `evidence` is the document that says so."""

    admitted: bool
    findings: tuple[Finding, ...]
    evidence: Digest
    ended: str

    @property
    def misconduct(self) -> bool:
        """Whether it is refused for what it did, which no later verdict takes back."""
        return any(finding.rule == MISCONDUCT for finding in self.findings)


@dataclass(slots=True)
class Books:
    """The books of one step. `shadow` means that nothing is bounded and every program is let in."""

    loop: Loop
    leave: Leave
    shelf: Shelf
    on_programs: Callable[[Batch], None]
    tell: Tell
    now: Callable[[], int]
    verdicts: dict[Digest, Verdict] = field(default_factory=dict)
    rows: list[Judged] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    usage: Used = field(default_factory=Used)
    logged: Used = field(default_factory=Used)
    granted: int = 0
    batches: int = 0
    counted_from: float = field(default_factory=subject_time)
    first_at: float = 0.0

    @property
    def shadow(self) -> bool:
        """Whether this step only watches."""
        return self.leave.bounds is None

    def open(self) -> None:
        """Charge what a crash may have kept from the log; then say, where it is not plain, that programs run again."""
        self.counted_from = subject_time()
        if not self.leave.resumed:
            return
        lost = self.loop.batch if self.leave.open_batch else 0
        if lost and self.leave.bounds is not None:  # no more can have run: the bound held before the crash too
            lost = max(0, min(lost, self.leave.bounds.programs_max - self.leave.used.programs))
        if lost:
            self.tell(f"an earlier run broke off: {lost} programs that may have run unlogged are charged")
        self._log(Batch((), Used(programs=lost), lost, closing=False, alarms=()))

    def used(self, at_work: int = 0) -> Used:
        """Everything used so far under the warrant, with so many programs at work."""
        return self.leave.used + self.logged + self._unlogged() + Used(programs=at_work)

    def lacking(self, at_work: int = 0) -> tuple[Finding, ...]:
        """Why nothing more may run; nothing while the bounds leave room."""
        if self.leave.bounds is None:
            return ()
        return self.late() or limits.findings(self.leave.bounds, self.used(at_work))

    def late(self) -> tuple[Finding, ...]:
        """Why the loop must end even if it asks for nothing: its time or the warrant's window is over."""
        leave = self.leave
        if leave.bounds is None:
            return ()
        if self.now() >= leave.expires_at:
            return (Finding(limits.RULE, "the warrant's window has ended", "`keyturn warrant give`"),)
        timed = Bounds(leave.bounds.programs_max, leave.bounds.wall_seconds_max)
        return limits.findings(timed, Used(wall_seconds=self.used().wall_seconds))

    def room(self, at_work: int) -> bool:
        """Whether one more program may be unlogged."""
        return len(self.rows) + at_work < self.loop.batch

    def grant(self) -> None:
        """Charge a request of the loop's own that was asked for; when it is reported it is not charged again."""
        self.granted += 1
        self._charge(Used(requests=1))

    def use(self, more: Used) -> None:
        """Charge what the loop's own requests used."""
        asked_for = min(more.requests, self.granted)
        self.granted -= asked_for
        self._charge(replace(more, requests=more.requests - asked_for))

    def _charge(self, more: Used) -> None:
        self.usage += more
        self.first_at = self.first_at or subject_time()

    def knows(self, program: Digest) -> bool:
        """Whether this program was judged in this step, so far as it is known here."""
        return program in self.verdicts or program in self.leave.admitted

    def enter(
        self, program: Digest, text: bytes, verdict: Verdict, evidence: bytes, alarms: tuple[Alarm, ...] = ()
    ) -> None:
        """Enter what became of a program, and keep what shows it.

        Of two verdicts the later counts, but misconduct is never forgotten. Both reach the log, whatever people make
        of it that the same text was tried until it passed: so they never share a batch.
        """
        if any(row.program == program for row in self.rows):
            self.flush()
        if text:
            self.shelf.put(text)
        self.shelf.put(evidence)
        rules = tuple(dict.fromkeys(finding.rule for finding in verdict.findings))
        word = ADMITTED if verdict.admitted else REFUSED
        self.rows.append(Judged(program, word, rules, verdict.evidence))
        before = self.verdicts.get(program)
        if before is None or not before.misconduct:
            self.verdicts[program] = verdict
        self.alarms += alarms
        self.first_at = self.first_at or subject_time()
        if len(self.rows) >= self.loop.batch:
            self.flush()

    def admitted(self, program: Digest) -> bool:
        """Whether this program may leave the step; what an earlier run of the step admitted counts too."""
        known = self.verdicts.get(program)
        return known.admitted if known is not None else program in self.leave.admitted

    def due_at(self) -> float | None:
        """When the batch must be logged; None while there is nothing to log."""
        if self.alarms:
            return 0.0
        return self.first_at + FLUSH_SECONDS if self.first_at else None

    def flush(self, *, closing: bool = False) -> None:
        """Make durable what the batch names, then have it logged; raises what `on_programs` raises."""
        if not closing and not self.rows and not self.alarms and self.usage == Used():
            return
        self.shelf.sync()
        batch = Batch(tuple(self.rows), self._unlogged(), 0, closing=closing, alarms=tuple(self.alarms))
        self.rows, self.alarms, self.usage, self.first_at = [], [], Used(), 0.0
        self._log(batch)
        self._report(batch)

    def _unlogged(self) -> Used:
        """What was used since the last batch."""
        return self.usage + Used(programs=len(self.rows), wall_seconds=subject_time() - self.counted_from)

    def _log(self, batch: Batch) -> None:
        self.counted_from = subject_time()
        self.logged += batch.used
        self.on_programs(batch)

    def _report(self, batch: Batch) -> None:
        """One line for whoever watches."""
        if not batch.programs:
            return
        self.batches += 1
        refused = Counter(row.rules[0] for row in batch.programs if row.rules)
        let_in = sum(row.verdict == ADMITTED for row in batch.programs)
        said = "".join(f", {count} refused by {rule}" for rule, count in refused.most_common())
        bounds, used = self.leave.bounds, self.used()
        spent = f"{used.programs} programs" if bounds is None else f"{used.programs} of {bounds.programs_max} programs"
        self.tell(f"batch {self.batches}: {len(batch.programs)} programs, {let_in} admitted{said}; {spent} so far")
