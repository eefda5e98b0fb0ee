"""Read `operation.toml`: where the log and its static files lie. Every mistake is named by its line.

It lies beside the policy and is not part of it: nobody signs for the name of a machine. No password stands in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from keyturn.core.errors import MalformedInput
from keyturn.core.policy_contradictions import Problem

FILE = "operation.toml"
TAKEOVER_SECONDS = 15
TAKEOVER_SECONDS_RANGE = (2, 600)


@dataclass(frozen=True, slots=True)
class Operation:
    """Where things lie: `store` is the address of a database (empty: a file of the project), `tiles` of static files.

    `endpoint` is the address of an S3-compatible store (empty: the one that boto3 is set up for). A governor that says
    nothing for `takeover_seconds` loses its place to a standby.
    """

    store: str = ""
    tiles: str = ""
    endpoint: str = ""
    takeover_seconds: int = TAKEOVER_SECONDS


class OperationProblems(MalformedInput):
    """An `operation.toml` with mistakes; `rows` holds every one with its line."""

    def __init__(self, rows: tuple[tuple[int, Problem], ...]) -> None:
        line, first = rows[0]
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        super().__init__(f"{FILE}:{line}: {first.path}: {first.message}{more}", help=first.help)
        self.rows = rows


def read(root: Path) -> Operation:
    """What the project in `root` says about its operation; without a file, all is as it comes.

    Raises `OperationProblems` naming line and remedy of every mistake, `MalformedInput` for what is no TOML.
    """
    try:
        text = (root / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return Operation()
    except (OSError, UnicodeDecodeError) as fault:
        raise MalformedInput(f"`{root / FILE}` cannot be read: {fault}", help="see who owns it") from fault
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise MalformedInput(f"{FILE}: {str(fault)[:200].lower()}", help="correct the TOML at that line") from fault
    problems = tuple(_problems(document))
    if problems:
        from keyturn.flow.policy import line_of

        raise OperationProblems(tuple((line_of(text, each.path), each) for each in problems))
    return Operation(**document.get("log", {}))


def _problems(document: Mapping[str, object]) -> list[Problem]:
    found = [
        Problem(key, f"`{key}` is not a table of this file", "remove it; the one table is [log]")
        for key in sorted(document)
        if key != "log"
    ]
    log = document.get("log", {})
    if not isinstance(log, dict):
        return [*found, Problem("log", "`log` is no table", "write [log] on a line of its own")]
    for key in sorted(log):
        if key not in _CHECKS:
            help = f"remove it; the keys are: {', '.join(_CHECKS)}"
            found.append(Problem(f"log.{key}", f"`{key}` is not a key of this table", help))
        else:
            found += [Problem(f"log.{key}", *said) for said in _CHECKS[key](log[key])]
    return found


Said = list[tuple[str, str]]
"""Message and remedy of each mistake in a value; nothing means that it will do."""

_STORE = 'write store = "postgresql://user@host/database"; without it the log is a file of the project'


def require_database(address: str) -> None:
    """Raise MalformedInput for an address of a database that would not do in the file either."""
    for message, help in _store(address):
        raise MalformedInput(message, help=help)


def _store(value: object) -> Said:
    parts = _split(value)
    if parts is None or parts.scheme != "postgresql":
        shown = value if parts is None else f"{parts.scheme}:…"
        return [(f"`store` is `{shown!s:.80}`; an address like `postgresql://user@host/database` is expected", _STORE)]
    if parts.password is not None or {"password", "sslpassword"} & set(parse_qs(parts.query)):
        help = "take it out, change it, and let libpq find it: PGPASSWORD, `~/.pgpass` or a service file"
        return [("`store` holds a password; none may stand in this file", help)]
    return [] if parts.path.strip("/") or parts.query else [("`store` names no database", _STORE)]


def _tiles(value: object) -> Said:
    parts = _split(value)
    bucket = parts is not None and parts.scheme == "s3"
    if not isinstance(value, str) or not value or (bucket and not (parts and parts.netloc)):
        help = 'write tiles = "s3://bucket/prefix", or the path of a folder'
        return [(f"`tiles` is `{value!s:.80}`; a bucket or a folder is expected", help)]
    if parts is not None and parts.scheme and not bucket:
        return [(f"`tiles` is of the kind `{parts.scheme}:`; `s3:` or a folder is expected", "use one of these")]
    return []


def _endpoint(value: object) -> Said:
    parts = _split(value)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.netloc or "@" in parts.netloc:
        help = 'write endpoint = "https://host:port"; boto3 finds the credentials by its own ways'
        return [
            (f"`endpoint` is `{parts.scheme if parts else value!s:.80}…`; an address of a server is expected", help)
        ]
    return []


def _takeover(value: object) -> Said:
    low, high = TAKEOVER_SECONDS_RANGE
    if type(value) is int and low <= value <= high:
        return []
    message = f"`takeover_seconds` is `{value!s:.80}`; a whole number from {low} to {high} is expected"
    return [(message, "change it, or leave it out")]


def _split(value: object) -> SplitResult | None:
    """The parts of an address; None for what is none."""
    if not isinstance(value, str) or not value.isprintable():
        return None
    try:
        return urlsplit(value)
    except ValueError:
        return None


_CHECKS: Mapping[str, Callable[[object], Said]] = {
    "store": _store,
    "tiles": _tiles,
    "endpoint": _endpoint,
    "takeover_seconds": _takeover,
}
