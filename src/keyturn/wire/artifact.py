"""An artifact: named files under one root digest, as OpenSSF model signing v1.0 computes it.

The root alone does not bind the names of the files, only their order: compare the whole manifest, never the root
only. This module hashes what it is handed and never opens a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput, TamperDetected
from keyturn.core.terms import Digest, Json
from keyturn.wire import digest
from keyturn.wire.statement import Statement

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
"""The predicate of an OpenSSF model signature."""

NAME_BYTES_MAX = 255
"""The longest part of a name that every common file system takes."""

_HELP = "name files by relative paths of plain parts, such as `weights/part-1.npz`"


@dataclass(frozen=True, slots=True)
class File:
    """One declared file: its safe relative name, the digest of its content, its length in bytes."""

    name: str
    digest: Digest
    bytes: int


def manifest(files: Mapping[str, bytes]) -> tuple[File, ...]:
    """Return the files of an artifact in name order; raises MalformedInput for an unsafe or clashing name."""
    require_names(files)
    return tuple(File(name, digest.sha256(files[name]), len(files[name])) for name in sorted(files))


def root(files: Iterable[File]) -> Digest:
    """Return the root digest: SHA-256 over the raw digests of the files in name order (by code points).

    Raises MalformedInput when there is no file, a name is unsafe, or two names clash.
    """
    return root_of([(file.name, file.digest) for file in files])


def root_of(pairs: Iterable[tuple[str, Digest]]) -> Digest:
    """Return the root digest of names and digests; raises MalformedInput as `root` does."""
    ordered = sorted(pairs)
    if not ordered:
        raise MalformedInput("found an artifact without files; one at least is expected", help="declare its files")
    require_names(name for name, _ in ordered)
    return digest.of_raw(hashlib.sha256(b"".join(digest.raw(value) for _, value in ordered)).digest())


def require_names(names: Iterable[str]) -> None:
    """Raise MalformedInput unless every name is a safe relative path and no two of them clash.

    Two names clash when they are equal, equal but for case (some file systems keep one of the two), or when one
    would be a folder of the other.
    """
    seen: set[str] = set()
    for name in names:
        _require_safe(name)
        if name.casefold() in seen:
            raise MalformedInput(f"found the file name `{name}` twice", help="give each file a name of its own")
        seen.add(name.casefold())
    for name in seen:
        parts = name.split("/")
        if any("/".join(parts[:end]) in seen for end in range(1, len(parts))):
            raise MalformedInput(f"found `{name}` below a file of that name", help=_HELP)


def _require_safe(name: str) -> None:
    parts = name.split("/")
    plain = name.isprintable() and not set(name) & set('\\:*?"<>|')
    short = all(len(part.encode("utf-8", "replace")) <= NAME_BYTES_MAX for part in parts) and len(parts) <= 16
    if not plain or not short or any(part in {"", ".", ".."} or part != part.strip() for part in parts):
        shown = name[:80].encode("unicode_escape").decode("ascii")
        raise MalformedInput(f"found the file name `{shown}`; a safe relative name is expected", help=_HELP)


def declared(statement: Statement) -> tuple[tuple[str, Digest], ...]:
    """Return names and digests from an OpenSSF model-signing statement, if its subject is their root.

    Only the method `files` with SHA-256 and without symbolic links is read. Raises MalformedInput for another
    predicate or form, TamperDetected when the subject's digest is not the root of the resources.
    """
    if statement.predicate_type != PREDICATE_TYPE:
        message = f"found the predicate `{statement.predicate_type}`; `{PREDICATE_TYPE}` is expected"
        raise MalformedInput(message, help="hand in a model signature")
    form, resources = statement.predicate.get("serialization"), statement.predicate.get("resources")
    wanted = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    if not isinstance(form, dict) or any(form.get(key, ...) != value for key, value in wanted.items()):
        raise MalformedInput("found another serialization than whole files, sha256, no symbolic links", help=_HELP)
    if not isinstance(resources, list) or len(statement.subjects) != 1:
        raise MalformedInput("found no list of `resources` under exactly one subject", help=_HELP)
    pairs = tuple(_resource(item) for item in resources)
    found, said = root_of(pairs), statement.subjects[0][1]
    if found != said:
        message = f"the resources have the root `{found}`; the subject says `{said}`"
        raise TamperDetected(message, help="get the signature again from where the artifact came from")
    return pairs


def _resource(item: Json) -> tuple[str, Digest]:
    if not isinstance(item, dict) or item.get("algorithm") != "sha256" or not isinstance(item.get("name"), str):
        raise MalformedInput("found a resource without a name and a sha256 digest", help=_HELP)
    return str(item["name"]), digest.parse(f"sha256:{item.get('digest')}")
