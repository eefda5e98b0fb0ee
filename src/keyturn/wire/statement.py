"""in-toto statements, version 1: what is said (a predicate) about what (subjects, by digest).

It reads and writes the statement; it never judges whether what is said is true.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Digest, Json
from keyturn.wire import canonical, digest

PAYLOAD_TYPE = "application/vnd.in-toto+json"
"""The media type under which a statement is put into a DSSE envelope."""

TYPE = "https://in-toto.io/Statement/v1"
"""The `_type` of every statement."""

_MEMBERS = {"_type", "predicate", "predicateType", "subject"}
_HELP = "write an in-toto statement v1 whose subjects have a name and a sha256 digest"


@dataclass(frozen=True, slots=True)
class Statement:
    """A predicate about one or more subjects, each a name and a digest; names are distinct."""

    subjects: tuple[tuple[str, Digest], ...]
    predicate_type: str
    predicate: dict[str, Json]


def encode(statement: Statement) -> bytes:
    """Return the statement as canonical JSON; raises MalformedInput for what `decode` would refuse."""
    subjects: list[Json] = [
        {"digest": {"sha256": digest.parse(value)[7:]}, "name": name} for name, value in statement.subjects
    ]
    data = canonical.encode(
        {
            "_type": TYPE,
            "predicate": statement.predicate,
            "predicateType": statement.predicate_type,
            "subject": subjects,
        }
    )
    decode(data)
    return data


def decode(data: bytes) -> Statement:
    """Read a statement strictly: no member unknown or missing, SHA-256 only; raises MalformedInput.

    The bytes need not be canonical: what other tools sign is hashed as it was received.
    """
    value = canonical.decode(data)
    if not isinstance(value, dict) or set(value) != _MEMBERS or value["_type"] != TYPE:
        raise MalformedInput("found no in-toto statement v1", help=_HELP)
    kind, predicate, subjects = value["predicateType"], value["predicate"], value["subject"]
    if not isinstance(kind, str) or not kind:
        raise MalformedInput("found no text in `predicateType`", help=_HELP)
    if not isinstance(predicate, dict):
        raise MalformedInput("found no object in `predicate`", help=_HELP)
    if not isinstance(subjects, list) or not subjects:
        raise MalformedInput("found no `subject`; one at least is expected", help=_HELP)
    named = tuple(_subject(item) for item in subjects)
    if len({name for name, _ in named}) != len(named):
        raise MalformedInput("found two subjects of one name", help=_HELP)
    return Statement(named, kind, predicate)


def decode_canonical(data: bytes) -> Statement:
    """Read a statement whose bytes are already its one canonical form; raises MalformedInput otherwise."""
    canonical.decode_canonical(data)
    return decode(data)


def _subject(item: Json) -> tuple[str, Digest]:
    if not isinstance(item, dict) or set(item) != {"digest", "name"}:
        raise MalformedInput("found a subject without exactly a name and a digest", help=_HELP)
    name, digests = item["name"], item["digest"]
    if not isinstance(name, str) or not isinstance(digests, dict) or set(digests) != {"sha256"}:
        raise MalformedInput("found a subject without a text name and exactly one sha256 digest", help=_HELP)
    return name, digest.parse(f"sha256:{digests['sha256']}")
