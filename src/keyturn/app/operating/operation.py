"""Read `operation.toml`: where the log and its static files lie, and what keeps the sandboxes.

Every mistake is named by its line. It lies beside the policy and is not part of it: nobody signs for the name of a
machine. No password stands in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from keyturn.core.errors import MalformedInput
from keyturn.core.policy_contradictions import Problem
from keyturn.sandbox.engines.choice import BUBBLEWRAP, KEYS, Choice, require_digest

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
    sandbox: Choice = BUBBLEWRAP


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
    except (ValueError, RecursionError) as fault:  # a number or a nesting without end too
        raise MalformedInput(f"{FILE}: {str(fault)[:200].lower()}", help="correct the TOML at that line") from fault
    problems = tuple(_problems(document))
    if problems:
        from keyturn.flow.policy import line_of

        raise OperationProblems(tuple((line_of(text, each.path), each) for each in problems))
    return Operation(**document.get("log", {}), sandbox=Choice(**document.get("sandbox", {})))


def _problems(document: Mapping[str, object]) -> list[Problem]:
    tables = ", ".join(f"[{name}]" for name in _TABLES)
    found = [
        Problem(key, f"`{key}` is not a table of this file", f"remove it; the tables are {tables}")
        for key in sorted(document)
        if key not in _TABLES
    ]
    for name, checks in _TABLES.items():
        table = document.get(name, {})
        if not isinstance(table, dict):
            found.append(Problem(name, f"`{name}` is no table", f"write [{name}] on a line of its own"))
            continue
        for key in sorted(table):
            if key not in checks:
                help = f"remove it; the keys are: {', '.join(checks)}"
                found.append(Problem(f"{name}.{key}", f"`{key}` is not a key of this table", help))
            else:
                found += [Problem(f"{name}.{key}", *said) for said in checks[key](table[key])]
    sandbox = document.get("sandbox", {})
    return found if found or not isinstance(sandbox, dict) else _sandbox(sandbox)


def _sandbox(table: Mapping[str, object]) -> list[Problem]:
    """What does not go together: every engine needs its image, and no key of another one."""
    engine = str(table.get("engine", "bubblewrap"))
    known = KEYS.get(engine, ())
    help = f"the keys of `{engine}` are: {', '.join(('engine', *known))}"
    found = [Problem(f"sandbox.{key}", f"`{key}` says nothing to the engine `{engine}`", help)
             for key in sorted(table) if key not in {"engine", *known}]  # fmt: skip  # one list
    if known and "image" not in table:
        help = 'write image = "registry/name@sha256:…"; it must hold python3, see docs/engines.md'
        found.append(Problem("sandbox.engine", f"`{engine}` needs an `image`", help))
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


def _engine(value: object) -> Said:
    known = ("bubblewrap", *KEYS)
    if value in known:
        return []
    return [(f"`engine` is `{value!s:.80}`; one of {', '.join(known)} is expected", "name one of them")]


def _image(value: object) -> Said:
    try:
        require_digest(value if isinstance(value, str) and value.isprintable() else repr(value))
    except MalformedInput as fault:
        return [(fault.message, fault.help)]
    return []


def _plain(value: object) -> Said:
    if isinstance(value, str) and value and value.isprintable() and " " not in value:
        return []
    return [(f"`{value!s:.80}` is no name", "write a name without spaces, or leave the line out")]


def _socket(value: object) -> Said:
    if isinstance(value, str) and value.startswith("/") and value.isprintable():
        return []
    help = "write the path of the daemon's Unix socket, or leave it out; a daemon on another machine is not asked"
    return [(f"`socket` is `{value!s:.80}`; an absolute path is expected", help)]


_TABLES: Mapping[str, Mapping[str, Callable[[object], Said]]] = {
    "log": {"store": _store, "tiles": _tiles, "endpoint": _endpoint, "takeover_seconds": _takeover},
    "sandbox": {
        "engine": _engine,
        "image": _image,
        "runtime": _plain,
        "socket": _socket,
        "runtime_class": _plain,
        "namespace": _plain,
        "context": _plain,
    },
}
