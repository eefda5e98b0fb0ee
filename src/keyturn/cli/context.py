"""What every command shares: opening the project, naming things by prefix, writing a screen or one JSON object.

Never decides: an error of ours becomes two lines and its exit code; what nobody raised on purpose is not hidden.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from keyturn.cli.screen import WIDTH, Paint, Sheet, safe, wants_colour
from keyturn.core.errors import KeyturnError, MalformedInput, Unavailable
from keyturn.core.terms import Instant, Json

if TYPE_CHECKING:
    from keyturn.app import Project, Signing
    from keyturn.core.state import State

V = TypeVar("V")
WIDE_MAX = 110
NAMED_MAX = 12
PIPED_WIDTH = 240


def perform(args: argparse.Namespace) -> int:
    """Run the command and turn what it raises into lines and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        act: Callable[[argparse.Namespace], int] = getattr(import_module(args.place), args.act)
        return act(args)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - it must outlive this function: the interpreter flushes it at exit
        return 0
    except KeyturnError as fault:
        return report(fault, as_json=args.json)
    except OSError as fault:
        where = f" `{fault.filename}`" if fault.filename else ""
        message = f"a file or folder{where} cannot be used: {(fault.strerror or str(fault)).lower()}"
        return report(Unavailable(message, help="see who owns it and whether the disk is full"), as_json=args.json)


def report(fault: KeyturnError, *, as_json: bool) -> int:
    """Say what was found and what to do, all of it; returns the exit code."""
    rows = reasons(fault)
    for message, help in rows:
        print(f"error: {safe(_without_references(message), 2000)}", file=sys.stderr)
        if help:
            print(f"help: {safe(help, 1000)}", file=sys.stderr)
    if as_json:
        emit({"error": fault.message, "help": fault.help, "exit_code": fault.exit_code, "reasons": rows})
    return fault.exit_code


def _without_references(message: str) -> str:
    """An error speaks to people, and knows no project in which it could look a reference up."""
    from keyturn import app

    return app.shortened(message) if "withheld:" in message else message


def reasons(fault: KeyturnError) -> list[tuple[str, str]]:
    """Every reason that an error holds: each mistake of a policy, each finding of a refusal, or the one."""
    rows = getattr(fault, "rows", None)
    if rows:
        file = fault.message.partition(":")[0]
        return [(f"{file}, line {line}: {problem.path}: {problem.message}", problem.help) for line, problem in rows]
    decision = getattr(fault, "decision", None)
    if decision is not None and decision.findings:
        return [(finding.message, finding.help) for finding in decision.findings]
    return [(fault.message, fault.help)]


def project(args: argparse.Namespace) -> Project:
    """The project that `--project` names, or the nearest one upwards."""
    from keyturn import app

    return app.open_project(Path(args.project) if args.project else None)


def what_is_left(args: argparse.Namespace) -> Project:
    """As `project`, for whoever halts: of a project that lost its log, too."""
    from keyturn import app

    return app.open_project(Path(args.project) if args.project else None, whole=False)


def there(args: argparse.Namespace) -> str:
    """What a command to be copied needs behind it to mean the same project: `--project`, where it was given."""
    return f" --project {safe(shlex.quote(args.project))}" if args.project else ""


def now() -> Instant:
    """The present moment of this machine's clock."""
    return Instant(time.time_ns() // 1_000_000)


def signing(args: argparse.Namespace) -> Signing:
    """Who acts, in which role, with the keys of which folder."""
    from keyturn import app

    return app.Signing(
        person=args.person,
        role=getattr(args, "role", None),
        keys=keys(args),
        passphrase_file=passphrase_file(args),
        unseen=args.unseen,
    )


def keys(args: argparse.Namespace) -> Path:
    """The folder of people's keys."""
    from keyturn import app

    return Path(args.keys) if args.keys else app.default_keys()


def passphrase_file(args: argparse.Namespace) -> Path | None:
    """The file that holds a passphrase, if one was named; it is read by the signing process only."""
    return Path(args.passphrase_file) if args.passphrase_file else None


def reason(args: argparse.Namespace) -> str:
    """Why somebody decides: given, or asked for on a terminal; without either nothing is signed."""
    if args.reason and args.reason.strip():
        return str(args.reason)
    if sys.stdin.isatty() and not args.json:
        try:
            given = input("reason, for the log: ")
        except EOFError:
            given = ""
        if given.strip():
            return given
    raise MalformedInput("a decision needs a reason; none was given", help="`--reason TEXT`, in a sentence")


def sheet(*, lists: bool = False, to: Any = None) -> Sheet:
    """An empty screen as wide as the terminal; lists that are piped are not cut at its width."""
    stream = to or sys.stdout
    terminal = bool(getattr(stream, "isatty", lambda: False)())
    width = min(max(_columns(stream) if terminal else WIDTH, WIDTH), WIDE_MAX)
    return Sheet(width=PIPED_WIDTH if lists and not terminal else width, paint=Paint(colour=wants_colour(stream)))


def _columns(stream: Any) -> int:
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):
        return WIDTH


def out(screen: Sheet) -> None:
    """Print a screen."""
    sys.stdout.write(screen.text())
    sys.stdout.flush()


def emit(body: object) -> None:
    """Print one JSON object on one line; everything beyond ASCII is written as its number, so it cannot act."""
    sys.stdout.write(json.dumps(plain(body), ensure_ascii=True, sort_keys=True) + "\n")
    sys.stdout.flush()


def emit_read(project: Project, state: State, body: Mapping[str, object]) -> None:
    """Print one JSON object as the log has it, and under `words` what its references stand for: null where withheld."""
    said = plain(body)
    emit({**body, "words": project.reader(state).texts(said)})


def plain(value: object) -> Json:
    """Our values as JSON can carry them; bytes never occur."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        items = sorted(map(str, value)) if isinstance(value, set | frozenset) else value
        return [plain(each) for each in items]
    return str(value)


def teller(args: argparse.Namespace) -> Callable[[str], None]:
    """Where progress goes: to standard output, or beside it where that is kept for JSON."""
    stream = sys.stderr if args.json else sys.stdout
    colours = sheet(to=stream).paint

    def tell(message: str) -> None:
        print(colours(f"· {safe(message, 400)}", "dim"), file=stream, flush=True)

    return tell


def find(kind: str, prefix: str, known: Mapping[str, V], *, where: str) -> V:
    """What `prefix` names: exactly, or as the only one that begins so; an error lists what fits.

    In a name with parts each may be cut short: `c1/cen` is `c1-0741/centre`.
    """
    if prefix in known:
        return known[prefix]
    fitting = [name for name in known if prefix and _begins(name, prefix)]
    if len(fitting) == 1:
        return known[fitting[0]]
    listed = fitting or list(known)
    names = ", ".join(safe(name, 40) for name in listed[-NAMED_MAX:]) or "none yet"
    more = f" and {len(listed) - NAMED_MAX} more" if len(listed) > NAMED_MAX else ""
    if fitting:
        message = f"`{safe(prefix, 80)}` fits {len(fitting)} {kind}s; one is expected"
        raise MalformedInput(message, help=f"write more of it: {names}{more}")
    raise MalformedInput(f"`{safe(prefix, 80)}` is no {kind} of this log", help=f"known: {names}{more} ({where})")


def _begins(name: str, prefix: str) -> bool:
    parts, wanted = name.split("/"), prefix.split("/")
    return len(wanted) <= len(parts) and all(map(str.startswith, parts, wanted))


def page(items: Sequence[tuple[str, V]], *, after: str | None, limit: int) -> tuple[list[V], str | None]:
    """At most `limit` items after the one named `after`, and the name to go on after, if any are left."""
    if limit < 1:
        raise MalformedInput(f"`--limit {limit}` shows nothing; 1 or more is expected", help="`--limit 50`")
    names = [name for name, _ in items]
    start = 0
    if after is not None:
        start = names.index(find("entry", after, {name: name for name in names}, where="without `--after`")) + 1
    shown = items[start : start + limit]
    left = start + limit < len(items)
    return [value for _, value in shown], shown[-1][0] if left and shown else None
