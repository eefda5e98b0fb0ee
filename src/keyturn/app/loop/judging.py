"""What was seen of a program becomes its verdict, its evidence, and the alarms that it raised; the rules are core's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from keyturn.app.loop.books import Verdict
from keyturn.app.loop.seat import NO_REPORT, Seat
from keyturn.core.admission import NOT_RUN, Program, judge
from keyturn.core.finding import Finding
from keyturn.core.policy import Loop
from keyturn.core.terms import Digest, Json
from keyturn.flow.ports import Alarm
from keyturn.wire import canonical
from keyturn.wire.digest import sha256

DIAGNOSTICS_CHARACTERS = 2000
FINDINGS_KEPT_MAX = 400


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, the document that its digest of the evidence names, and what a safeguard saw."""

    verdict: Verdict
    evidence: bytes
    alarms: tuple[Alarm, ...] = ()


@dataclass(frozen=True, slots=True)
class Judging:
    """Judges the programs of one step; each verdict names the document of its evidence, which is still to be kept."""

    loop: Loop
    bytes_max: int
    attempt: int

    def unrun(self, digest: Digest, size: int, found: tuple[Finding, ...]) -> Judgement:
        """A text that is refused before anything runs."""
        refused = judge(Program(digest, size, found, NOT_RUN), self.loop, self.bytes_max)
        body: dict[str, Json] = {"ended": NOT_RUN, "bytes": size}
        return self._judgement(digest, refused, NOT_RUN, body)

    def ended(self, seat: Seat) -> Judgement:
        """A program that ran and of which nothing lives any more."""
        asked, said = seat.submission, seat.report or NO_REPORT
        decoys = tuple(dict.fromkeys(decoy.name for decoy in seat.exit.decoys)) if seat.exit else ()
        program = Program(
            asked.digest,
            len(asked.data),
            seat.findings,
            seat.ended,
            seat.beyond,
            decoys,
            said.signals,
            said.fault,
            said.metrics,
            said.reasons,
        )
        found = judge(program, self.loop, self.bytes_max)
        judgement = self._judgement(asked.digest, found, seat.ended, _seen(seat, decoys))
        return replace(judgement, alarms=_alarms(asked.digest, decoys, seat.beyond))

    def _judgement(self, digest: Digest, found: tuple[Finding, ...], ended: str, body: dict[str, Json]) -> Judgement:
        rows: list[Json] = [dict(finding.to_json()) for finding in found[:FINDINGS_KEPT_MAX]]
        document: dict[str, Json] = {
            **body,
            "schema": "urn:keyturn:program:v1",
            "program": digest,
            "attempt": self.attempt,
            "verdict": "refused" if found else "admitted",
            "findings": rows,
        }
        evidence = canonical.encode(document)
        return Judgement(Verdict(not found, found, sha256(evidence), ended), evidence)


def _seen(seat: Seat, decoys: tuple[str, ...]) -> dict[str, Json]:
    """Everything that was seen of a run; what its evaluator and the program itself say stands apart."""
    said, exit = seat.report or NO_REPORT, seat.exit
    body: dict[str, Json] = {
        "ended": seat.ended,
        "bytes": len(seat.submission.data),
        "seed": seat.seed,
        "seconds_max": seat.seconds,
        "sandbox": {"tier": seat.attested.tier, "attestation": seat.attestation},
        "processes": seat.beyond,
        "decoys": [*decoys],
        "evaluator": {"metrics": dict(said.metrics), "reasons": [*said.reasons], "fault": said.fault},
        "signals": [*said.signals],
    }
    if seat.held_seconds > 0:
        body["held_still_seconds"] = round(seat.held_seconds, 3)
    if exit is not None:
        body["exit"] = {"code": exit.code, "signal": exit.signal}
        body["used"] = {
            "wall_seconds": round(exit.wall_seconds, 4),
            "cpu_seconds": round(exit.cpu_seconds, 4),
            "memory_bytes_peak": exit.memory_bytes_peak,
        }
        body["stderr"] = exit.diagnostics.decode("utf-8", "replace")[-DIAGNOSTICS_CHARACTERS:]
    return body


def _alarms(digest: Digest, decoys: tuple[str, ...], processes: int) -> tuple[Alarm, ...]:
    """What a safeguard saw; that a program overran its time is a loop's ordinary day, and no alarm."""
    found = [Alarm("decoy_opened", f"a program touched the decoy `{name}`", digest) for name in decoys[:1]]
    if processes:
        found.append(Alarm("processes_left", f"a program left {processes} process(es); they are dead", digest))
    return tuple(found)
