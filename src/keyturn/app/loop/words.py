"""What a loop's clients say, read with suspicion, and what they are told, in the words of the door's protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from keyturn.app.loop.books import Verdict
from keyturn.app.loop.seat import Report
from keyturn.core.bounds import NUMBER_MAX, Used
from keyturn.core.errors import MalformedInput
from keyturn.core.finding import Finding
from keyturn.core.terms import Digest, Json
from keyturn.flow.ports import Leave
from keyturn.wire import digest as digests

FINDINGS_MAX = 50
METRICS_MAX = 256
WORDS_MAX = 64
TEXT_CHARACTERS_MAX = 500
FIGURE_MAX = NUMBER_MAX
_HELP = "see how `keyturn.sdk` speaks at this door"


def report(header: Mapping[str, Json]) -> Report:
    """What an evaluator says of a program; raises `MalformedInput` where it is no report."""
    metrics = header.get("metrics", {})
    if not isinstance(metrics, dict) or len(metrics) > METRICS_MAX or not all(map(_is_value, metrics.values())):
        raise MalformedInput(f"`metrics` are at most {METRICS_MAX} numbers, truths or texts by name", help=_HELP)
    said = {name[:TEXT_CHARACTERS_MAX]: _short(value) for name, value in metrics.items()}
    return Report(said, _words(header, "reasons"), _words(header, "signals"), _text(header, "fault"))


def _is_value(value: Json) -> bool:
    return isinstance(value, bool | int | float | str)


def _short(value: Json) -> Json:
    return value[:TEXT_CHARACTERS_MAX] if isinstance(value, str) else value


def _words(header: Mapping[str, Json], name: str) -> tuple[str, ...]:
    words = header.get(name, [])
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise MalformedInput(f"`{name}` is no list of texts", help=_HELP)
    return tuple(str(word)[:TEXT_CHARACTERS_MAX] for word in words[:WORDS_MAX])


def _text(header: Mapping[str, Json], name: str) -> str:
    text = header.get(name, "")
    if not isinstance(text, str):
        raise MalformedInput(f"`{name}` is no text", help=_HELP)
    return text[:TEXT_CHARACTERS_MAX]


def text_of(header: Mapping[str, Json], name: str) -> str:
    """A short text, nothing where none was said; raises `MalformedInput`."""
    return _text(header, name)


def program_of(header: Mapping[str, Json], name: str = "program") -> Digest:
    """The digest of a program; raises `MalformedInput`."""
    return digests.parse(header.get(name))


def seconds(header: Mapping[str, Json], most: float) -> float:
    """For how long an evaluator wants a program, and never longer than the policy lets it have."""
    asked = header.get("seconds")
    if asked is None:
        return most
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not asked > 0:
        raise MalformedInput("`seconds` is no number above 0", help=_HELP)
    return min(float(asked), most)


def whole(header: Mapping[str, Json], name: str) -> int:
    """A whole number from 0 up; raises `MalformedInput`."""
    value = header.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= FIGURE_MAX:
        raise MalformedInput(f"`{name}` is no whole number from 0 up", help=_HELP)
    return value


def usage(header: Mapping[str, Json]) -> Used:
    """What a loop's own requests used; a price that nobody knows is None. Raises `MalformedInput`."""
    usd = header.get("usd")
    if isinstance(usd, bool) or not (usd is None or (isinstance(usd, int | float) and 0 <= usd <= FIGURE_MAX)):
        raise MalformedInput("`usd` is neither a price nor null", help=_HELP)
    return Used(
        requests=whole(header, "requests"), tokens=whole(header, "tokens"), usd=None if usd is None else float(usd)
    )


def claim(header: Mapping[str, Json]) -> dict[str, Json]:
    """The figures that a loop claims for what it proposes; the flow keeps only what is one."""
    said = header.get("claim", {})
    if not isinstance(said, dict):
        raise MalformedInput("`claim` is no object of figures", help=_HELP)
    return said


def findings(found: Iterable[Finding]) -> list[Json]:
    """Findings in the protocol's words, the first of them where there are very many."""
    rows = [*found]
    told: list[Json] = [
        {"rule": f.rule, "message": f.message[:1000], "remedy": f.help[:1000]} for f in rows[:FINDINGS_MAX]
    ]
    return told


def leave(given: Leave, *, parent: Digest, parent_bytes: int, bytes_max: int, seconds_max: int) -> dict[str, Json]:
    """What a loop is told when it may run."""
    return {
        "type": "leave",
        "attempt": given.attempt,
        "generation": given.generation,
        "seed": given.seed,
        "parent": parent,
        "parent_bytes": parent_bytes,
        "bytes_max": bytes_max,
        "seconds": seconds_max,
        "shadow": given.bounds is None,
        "bounds": asdict(given.bounds) if given.bounds is not None else None,
        "used": given.used.to_json(),
        "resumed": given.resumed,
    }


def judged(verdict: Verdict, *, shadow: bool) -> dict[str, Json]:
    """What an evaluator is told: in shadow mode every program is let in, and the findings say what would have been."""
    return {
        "type": "judged",
        "admitted": shadow or verdict.admitted,
        "findings": findings(verdict.findings),
        "evidence": verdict.evidence,
        "ended": verdict.ended,
    }


def stop(why: str, *, halted: bool = False) -> dict[str, Json]:
    """What a loop is told when it must stop."""
    return {"type": "stop", "why": why[:1000], "halted": halted}


def no(step: str, found: Iterable[Finding]) -> dict[str, Json]:
    """What a loop is told when it may not do what it asked for."""
    return {"type": "no", "step": step, "why": findings(found)}
