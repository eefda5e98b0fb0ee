"""Found a project and its lineage: the log's first entries, each signed by those whose trust it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyturn.core import events as ev
from keyturn.core.agenda import Found
from keyturn.core.dossier import open_dossier
from keyturn.core.errors import MalformedInput
from keyturn.core.finding import Request
from keyturn.core.policy import Policy
from keyturn.core.state import Candidate
from keyturn.core.terms import NEVER, NO_DIGEST, Digest
from keyturn.flow.decided import decided
from keyturn.flow.dossier import seal_other
from keyturn.flow.governor import Governor
from keyturn.flow.log import Log, Stamp
from keyturn.flow.permit import permit_fact, permit_id
from keyturn.wire import artifact, canonical, leaf
from keyturn.wire.digest import sha256


@dataclass(frozen=True, slots=True)
class Signed:
    """One person's signature over the genesis with one key; public and signature in base64."""

    person: str
    key: str
    sig: str


def founding(policy: Policy, *, log_vkey: str, service: str, stamp: Stamp) -> ev.ProjectFounded:
    """The founding event of this policy, its genesis digest included: what every person is going to sign."""
    founded = ev.ProjectFounded(
        **stamp,
        name=policy.name,
        origin=policy.origin,
        demo=policy.demo,
        log_key=log_vkey,
        service_key=service,
        genesis=NO_DIGEST,
    )
    genesis = leaf.genesis_digest(founded, policy.document)
    return ev.ProjectFounded(
        **stamp,
        name=policy.name,
        origin=policy.origin,
        demo=policy.demo,
        log_key=log_vkey,
        service_key=service,
        genesis=genesis,
    )


def found_project(log: Log, founded: ev.ProjectFounded, policy: Policy, signatures: tuple[Signed, ...]) -> None:
    """Write the founding and policy 1 together; a missing or wrong signature refuses both."""
    said: tuple[ev.Document, ...] = tuple(
        {"person": each.person, "key": each.key, "sig": each.sig} for each in signatures
    )
    digest = sha256(canonical.encode(policy.document))
    log.append(
        lambda _: founded,
        lambda stamp: ev.PolicyAdopted(
            id=stamp["id"],
            at=stamp["at"],
            actor=stamp["actor"],
            policy=digest,
            version=1,
            digest=digest,
            document=policy.document,
            signatures=said,
            dossier="",
        ),
    )


def found_lineage(governor: Governor, step: Found, files: Mapping[str, bytes] | None) -> None:
    """Seal the founding dossier; once cleared, found the lineage and permit its founder in one append."""
    if step.decision is None:
        _seal(governor, files)
        return
    state = governor.state
    dossier = open_dossier(state, Request("FoundLineage", NO_DIGEST), governor.log.now())
    if dossier is None:
        return  # its window ended since it was decided: the next step seals a new one
    shape = _founder_shape(dossier.document)
    governor.log.append(
        decided(step.decision, dossier.digest),
        lambda stamp: ev.LineageFounded(
            **stamp, lineage=governor.policy.name, root=shape.root, files=shape.files, dossier=dossier.digest
        ),
        permit_fact(governor.log, dossier, step.decision, shape),
        lambda stamp: ev.CandidateReleased(
            **stamp,
            candidate="founder",
            lineage=governor.policy.name,
            root=shape.root,
            generation=0,
            permit=permit_id(dossier.digest),
        ),
    )


def _seal(governor: Governor, files: Mapping[str, bytes] | None) -> None:
    policy = governor.policy
    found = files if files is not None else _stored(governor, policy.subject.founder)
    manifest = artifact.manifest(found)
    root = artifact.root(manifest)
    if root != policy.subject.founder:
        raise MalformedInput(
            f"the founder's files have the root {root[:15]}…; the policy names {policy.subject.founder[:15]}…",
            help="found the project with the files whose root stands in `keyturn.toml`",
        )
    declared = sorted(rule.name for rule in policy.subject.files)
    if declared != sorted(found):
        raise MalformedInput(f"the founder consists of {sorted(found)}; {declared} are declared", help="as above")
    governor.artifacts.put(root, found)
    rows: list[ev.Document] = [{"name": f.name, "digest": f.digest, "bytes": f.bytes} for f in manifest]
    seal_other(governor.log, "FoundLineage", {"candidate": {"name": "founder", "root": root, "files": list(rows)}})


def _stored(governor: Governor, root: Digest) -> Mapping[str, bytes]:
    folder = governor.artifacts.path(root)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def _founder_shape(document: ev.Document) -> Candidate:
    body = document.get("candidate")
    said = body if isinstance(body, dict) else {}
    files = said.get("files")
    rows = tuple(row for row in files if isinstance(row, dict)) if isinstance(files, list) else ()
    return Candidate("founder", 0, NO_DIGEST, Digest(str(said.get("root"))), rows, {}, NEVER)
