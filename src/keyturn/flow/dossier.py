"""Seal dossiers: the one object that people sign, named by the digest of its canonical bytes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from keyturn.core import events as ev
from keyturn.core.agenda import Seal
from keyturn.core.decision import RULES, gate_must_have_a_row, prepare
from keyturn.core.dossier import other_dossier, release_dossier
from keyturn.core.errors import MalformedInput
from keyturn.core.finding import REQUESTS, Decision, Refused, Request
from keyturn.core.terms import NO_DIGEST, Digest, Json
from keyturn.flow.governor import Governor
from keyturn.flow.log import Log
from keyturn.wire import canonical
from keyturn.wire.digest import sha256

RECIPE_LINES_MAX = 60
LINE_MAX = 160


def seal(governor: Governor, step: Seal) -> Digest:
    """Put together what the log shows about a candidate and seal it; publishing follows as the next step."""
    state, now = governor.state, governor.log.now()
    candidate = state.candidates[step.candidate]
    decision = prepare(state, Request("ReleaseCandidate", NO_DIGEST, candidate.name), now)
    governor.stored(candidate.root, candidate.files)
    changes = diff(governor, candidate.parent, candidate.root)
    document = release_dossier(state, candidate, decision, changes=changes, nonce=governor.log.ids.new(), now=now)
    return _sealed(governor.log, document)


def seal_other(log: Log, request: str, body: ev.Document) -> Digest:
    """Seal the dossier of any other request and publish it, so that it can be signed.

    Raises `Refused` where the policy has no row for it: such a dossier could never clear, nor ever be open.
    """
    rowless = tuple(gate_must_have_a_row(log.state, Request(request, NO_DIGEST), log.now()))
    if rowless:
        raise Refused(Decision(REQUESTS[request], rowless, RULES, log.state.size))
    document = other_dossier(log.state, request, body, nonce=log.ids.new(), now=log.now())
    digest = _sealed(log, document)
    log.publish()
    return digest


def _sealed(log: Log, document: ev.Document) -> Digest:
    digest = sha256(canonical.encode(document))
    log.append(lambda stamp: ev.DossierSealed(**stamp, dossier=digest, document=document))
    return digest


def diff(governor: Governor, parent: Digest, child: Digest) -> ev.Document:
    """What changed from the parent: files by digest, code by line counts, recipe figures by value."""
    before = _files(governor, parent)
    after = _files(governor, child)
    rows: list[Json] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        rows.append({"name": name, "change": _change(old, new), "bytes": len(new) if new is not None else 0})
    return {
        "files": rows,
        "code": {name: _lines(before.get(name, b""), new) for name, new in after.items() if name.endswith(".py")},
        "recipe": _recipe(before, after),
    }


def _files(governor: Governor, root: Digest) -> Mapping[str, bytes]:
    folder = governor.artifacts.path(root)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _change(old: bytes | None, new: bytes | None) -> str:
    if old is None:
        return "added"
    if new is None:
        return "removed"
    return "same" if old == new else "changed"


def _lines(old: bytes, new: bytes) -> ev.Document:
    """How many lines of code came and went; the lines themselves are the subject's words and stay out of it."""
    before = old.decode("utf-8", "replace").splitlines()
    after = new.decode("utf-8", "replace").splitlines()
    marks = [
        line[0] for line in difflib.unified_diff(before, after, n=0, lineterm="") if line[:3] not in ("+++", "---")
    ]
    return {"added": marks.count("+"), "removed": marks.count("-")}


def _recipe(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[Json]:
    """Figures that differ in JSON files, as before and after."""
    rows: list[Json] = []
    for name in sorted(name for name in after if name.endswith(".json")):
        old, new = _figures(before.get(name, b"{}")), _figures(after[name])
        rows += [
            {"file": name, "key": key[:LINE_MAX], "before": old.get(key), "after": new.get(key)}
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        ]
    return rows[:RECIPE_LINES_MAX]


def _figures(data: bytes) -> dict[str, Json]:
    try:
        body = canonical.decode(data)
    except MalformedInput:
        return {}
    if not isinstance(body, dict):
        return {}
    return {key: value for key, value in body.items() if isinstance(value, int | float) and abs(value) < 2**53}
