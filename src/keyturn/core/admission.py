"""Whether a program may enter the population of its loop: by rule, without people, and never a word about release.

The rules are asked in order and every finding is kept. What a program says about itself counts for nothing; the scores
are its loop's word, and steer a search, and no gate ever rests on them.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from keyturn.core.errors import MalformedInput
from keyturn.core.finding import Finding
from keyturn.core.policy import Loop
from keyturn.core.terms import Digest, Json

ALIVE = "alive"
"""How a program ends that ran, answered, and was well when it was judged; it is killed at that moment."""

NOT_RUN = "not-run"
"""How a program ends whose text was refused before anything ran."""

_MARK = re.compile(r"[ \t]*#[ \t]*EVOLVE-BLOCK-(START|END)[ \t]*")
_MENTION = re.compile(r"EVOLVE-BLOCK-(?:START|END)")
_UNPLAIN = re.compile(
    "[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f-\\x9f"  # controls, but for tab, line feed, form feed and return
    "\\u2028\\u2029\\ufeff\\ud800-\\udfff"  # other ends of lines, a byte order mark, lone surrogates
    "\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]"  # what lets a text read otherwise than it runs
)
"""What no program needs, and what could hide a line or a mark from whoever reads it."""

_CODING = re.compile(r"(?m)\A(?:[^\r\n]*(?:\r\n|\r|\n))?[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
"""A line that says in which encoding Python is to read a file; it counts in the first two lines."""

_NO_NUMBERS = frozenset({"nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
_SHOWN_MAX = 200

Blocks = tuple[tuple[int, int], ...]
"""The lines of the marks, where each block starts and ends."""

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_CLOSED = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True)
class Program:
    """What was seen of one program: its text's findings, how it ended in its sandbox, and what its evaluation brought.

    `processes` are those besides its own that were there when it was judged; `decoys` those that it touched; `signals`
    what the runner noted, as evidence; `fault` and `reasons` are the evaluation's: why it broke off, and which checks
    refused it.
    """

    digest: Digest
    bytes: int
    text: tuple[Finding, ...] = ()
    ended: str = ALIVE
    processes: int = 0
    decoys: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()
    fault: str = ""
    metrics: Mapping[str, Json] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


def judge(program: Program, loop: Loop, bytes_max: int) -> tuple[Finding, ...]:
    """Every reason why this program is refused; none admits it. A text that was refused was never run, and says so."""
    before = (*_size(program.bytes, bytes_max), *(f for f in program.text if f.rule != "size_must_fit"))
    if before and program.ended == NOT_RUN:
        return before
    return (*before, *(found for rule in _SEEN for found in rule(program)))


def look(data: bytes, parent: str, loop: Loop, bytes_max: int) -> tuple[Finding, ...]:
    """What is wrong with a program's text, before anything runs: its size, its characters, what had to stand."""
    size = tuple(_size(len(data), bytes_max))
    if size:
        return size
    try:
        source = data.decode("utf-8")
    except UnicodeDecodeError as fault:
        return (_unplain(f"byte {fault.start} is no part of UTF-8 text"),)
    odd = _UNPLAIN.search(source)
    if odd:
        return (_unplain(f"it holds U+{ord(odd[0]):04X} at character {odd.start()}"),)
    coding = _CODING.search(source)
    if coding and coding[1].lower().replace("_", "-") not in {"utf-8", "utf8"}:
        return (_unplain(f"read as a file it would be another text, for it says to be `{coding[1][:40]}`"),)
    return protected(source, parent, loop)


def _unplain(what: str) -> Finding:
    return Finding("text_must_be_plain", f"the program is not plain text: {what}", "send what an editor would save")


def _size(size: int, bytes_max: int) -> Iterator[Finding]:
    if not 0 < size <= bytes_max:
        message = f"the program has {size} bytes; 1 to {bytes_max} are expected"
        yield Finding("size_must_fit", message, "the policy's `[[subject.files]]` says how large it may be")


def _ran(program: Program) -> Iterator[Finding]:
    """It ran, and was alive and well when it was judged."""
    rule, help = "program_must_run", "read what it does when it is called; the time limit is `[loop] program_seconds`"
    if program.ended != ALIVE:
        yield Finding(rule, f"the program was not alive when it was judged: {_shown(program.ended)}", help)
    if program.fault:
        yield Finding(rule, f"its evaluation broke off: {_shown(program.fault)}", help)


def _conduct(program: Program) -> Iterator[Finding]:
    """It touched no decoy, left no process, and reached for nothing that a program has no reason to reach for."""
    rule, help = "conduct_must_be_clean", "`keyturn incident list`"
    for decoy in program.decoys:
        yield Finding(rule, f"it touched the decoy `{_shown(decoy)}`", help)
    if program.processes:
        yield Finding(rule, f"{program.processes} process(es) of its own were there when it was judged", help)
    for signal in program.signals:
        yield Finding(rule, f"it reached for `{_shown(signal)}`", "a program has no reason to")


def _score(program: Program) -> Iterator[Finding]:
    """At least one finite number, no number that is none, and no word of an error or of a time that ran out."""
    rule, help = "score_must_be_a_number", "let the evaluator return finite numbers, and no `error` beside them"
    for name, value in program.metrics.items():
        if _no_number(value):
            yield Finding(rule, f"`{_shown(name)}` is `{_shown(str(value))}`; a finite number is expected", help)
    if not any(_finite(value) for value in program.metrics.values()):
        yield Finding(rule, "no metric is a number", help)
    if program.metrics.get("error") is not None:
        yield Finding(rule, f"the evaluator reports an error: {_shown(str(program.metrics['error']))}", help)
    if program.metrics.get("timeout") is True:
        yield Finding(rule, "the evaluator reports that its time ran out", help)


def _finite(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _no_number(value: Json) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _NO_NUMBERS
    return isinstance(value, float) and not math.isfinite(value)


def _checks(program: Program) -> Iterator[Finding]:
    """It passed whatever checks the operator added."""
    for reason in program.reasons:
        yield Finding(
            "checks_must_pass", f"a check refused it: {_shown(reason)}", "the check is yours: see where it fails"
        )


_SEEN: tuple[Callable[[Program], Iterator[Finding]], ...] = (_ran, _conduct, _score, _checks)


def _shown(text: str) -> str:
    """What a program or its evaluator said, short enough to be shown."""
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


# What lies outside the marks


def outside(source: str) -> tuple[str, ...]:
    """What lies outside the evolve blocks, one piece before each block and one after the last, marks included.

    Raises `MalformedInput` where the marks do not stand alone on their lines, one start before each end.
    """
    pieces: list[list[str]] = [[]]
    within = False
    for number, line in enumerate(_lines(source), start=1):
        mark = _MARK.fullmatch(line)
        if mark is None and _MENTION.search(line):
            raise MalformedInput(f"line {number} names a mark but is none", help="a mark stands alone on its line")
        if mark is not None and (mark[1] == "END") is not within:
            what = "ends a block that was not begun" if mark[1] == "END" else "begins a block within a block"
            raise MalformedInput(f"line {number} {what}", help="one start, one end, and no block in a block")
        if mark is not None:
            within = mark[1] == "START"
            if not within:
                pieces.append([])
        if mark is not None or not within:
            pieces[-1].append(line)
    if within:
        raise MalformedInput("the last block is never ended", help="one start, one end, and no block in a block")
    return tuple("\n".join(piece).rstrip("\n") if last else "\n".join(piece) for piece, last in _marked(pieces))


def _marked(pieces: list[list[str]]) -> Iterator[tuple[list[str], bool]]:
    yield from ((piece, number == len(pieces) - 1) for number, piece in enumerate(pieces))


def _lines(source: str) -> list[str]:
    """The lines as Python counts them; blanks at their ends say nothing."""
    return [line.rstrip(" \t\f") for line in source.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def protected(source: str, parent: str, loop: Loop) -> tuple[Finding, ...]:
    """What was changed that had to stand: the text outside the marks, and what it means where it stands.

    A block can reach outside without touching the text there: by an open string or bracket, by a decorator or a class
    left for what follows. So the statements outside must also be the same once both programs are read as Python.
    """
    if loop.protect == "nothing":
        return ()
    try:
        stands, now = outside(parent), outside(source)
    except MalformedInput as fault:
        return (_touched(f"the marks are out of order: {fault.message}"),)
    if len(stands) == 1:
        return (_touched("the parent has no evolve block, so nothing in it may be changed"),)
    if len(stands) != len(now):
        return (_touched(f"it has {len(now) - 1} evolve blocks; the parent has {len(stands) - 1}"),)
    for number, (was, is_) in enumerate(zip(stands, now, strict=True)):
        if was != is_:
            return (
                _touched(
                    f"what lies {'before block' if number < len(stands) - 1 else 'after block'} "
                    f"{min(number + 1, len(stands) - 1)} differs from the parent"
                ),
            )
    return _meaning(source, parent)


def _touched(what: str) -> Finding:
    return Finding("protected_text_must_stand", what, "change only what stands between the marks")


def _meaning(source: str, parent: str) -> tuple[Finding, ...]:
    try:
        (now, taken), (was, known) = _frame(source), _frame(parent)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as fault:
        return (_touched(f"it cannot be read as Python: {type(fault).__name__}"),)
    if now != was:
        return (_touched("a block reaches out of its marks and changes what stands outside"),)
    names = ", ".join(f"`{name[:40]}`" for name in sorted(taken - known)[:5])
    return (_touched(f"a block binds {names} anew, which stands outside"),) if names else ()


@lru_cache(maxsize=4)  # the parent is the same for every program of a step
def _frame(source: str) -> tuple[str, frozenset[str]]:
    """The program as read, without the statements that lie whole within a block; and what blocks bind anew."""
    tree = ast.parse("\n".join(_lines(source)))
    blocks = _blocks(source)
    nodes = tuple(ast.walk(tree))
    taken = rebound(nodes, blocks)
    for node in nodes:
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                kept = [each for each in value if not _within(each, blocks)]
                began = name in {"orelse", "finalbody"} and value  # `else` and `finally` belong to what stands before
                setattr(node, name, [*kept, ast.Pass()] if began else kept)
    return ast.dump(tree), taken


def _blocks(source: str) -> Blocks:
    marks = [number for number, line in enumerate(_lines(source), start=1) if _MARK.fullmatch(line)]
    return tuple(zip(marks[::2], marks[1::2], strict=True))


def _within(node: object, blocks: tuple[tuple[int, int], ...]) -> bool:
    if not isinstance(node, ast.stmt) or (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
        return False  # an import from the future changes how all of the text is read
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(each.lineno for each in decorators)])
    last = node.end_lineno or node.lineno
    return any(start < first and last < end for start, end in blocks)


# Fixed names that a block binds anew: text outside can stand, and still never be what is called


def rebound(nodes: Sequence[ast.AST], blocks: Blocks) -> frozenset[str]:
    """Names of functions, classes, imports and CONSTANTS outside the blocks that a block binds after them."""
    found: set[str] = set()
    for scope in nodes:
        if isinstance(scope, ast.Module | ast.ClassDef) and not _in(getattr(scope, "lineno", 0), blocks):
            found |= _rebound(scope, nodes, blocks)
    return frozenset(found)


def _rebound(scope: ast.Module | ast.ClassDef, nodes: Sequence[ast.AST], blocks: Blocks) -> set[str]:
    fixed: dict[str, str] = {}
    found: set[str] = set()
    for statement in scope.body:
        inside = _in(statement.lineno, blocks)
        for name, what in _bound(statement):
            if not inside and (what or name.isupper()):
                fixed[name] = what
            elif inside and name in fixed and not (what.startswith("import ") and what == fixed[name]):
                found.add(name)
    if isinstance(scope, ast.Module):
        found |= {name for name in _claimed(nodes, blocks) if name in fixed}
    return found


def _claimed(nodes: Sequence[ast.AST], blocks: Blocks) -> Iterator[str]:
    """Names that functions within blocks declare to be the module's, to bind them later."""
    for node in nodes:
        if isinstance(node, ast.Global) and _in(node.lineno, blocks):
            yield from node.names


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Each name that this binds in its own scope, and what it is if it is no mere variable."""
    if isinstance(node, _SCOPES):
        yield node.name, "definition"
        return
    if isinstance(node, _CLOSED):
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        origin = f"{'.' * node.level}{node.module}" if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            yield alias.asname or alias.name.split(".")[0], f"import {origin} {alias.name} {alias.asname}"
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id, ""
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name, ""
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)


def _in(line: int, blocks: Blocks) -> bool:
    return any(start < line < end for start, end in blocks)
