"""Found a project: keys, policy, and the first entries of the log, signed by everyone whose trust it rests on."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from keyturn.app.machine.doctor import capabilities
from keyturn.app.operating import opening
from keyturn.app.operating.opening import HOME
from keyturn.app.project import POLICY, Project
from keyturn.app.reasons.signing import Signing
from keyturn.app.wiring import KeySigner, RandomIds, SystemClock
from keyturn.core.errors import Conflict, MalformedInput, UntrustedInput
from keyturn.core.policy import Key, Person, Policy
from keyturn.core.terms import Custody, Digest
from keyturn.flow import policy as policies
from keyturn.flow import project as projects
from keyturn.flow.log import Log, Stamp
from keyturn.keys import custody, keyfile, openssh, signing
from keyturn.ledger import note
from keyturn.ledger.artifacts import ArtifactStore
from keyturn.verify import trust as trusts
from keyturn.wire import artifact, base64, leaf, signature


def default_keys() -> Path:
    """Where people's keys lie unless they say otherwise: never in the project."""
    return Path(os.environ.get("KEYTURN_KEYS") or Path.home() / ".config" / "keyturn" / "keys")


def new_key(person: str, *, kind: str, keys: Path, passphrase_file: Path | None) -> Path:
    """Make a person's key in a process of its own and return its file."""
    signing.create_in_child(
        keys, person, keyfile.KeyKind(kind), created_at=SystemClock().now(), passphrase_file=passphrase_file
    )
    return keyfile.path_of(keys, person)


def enrol_ssh(person: str, *, file: Path, keys: Path) -> Path:
    """Let a person sign with the SSH key whose public part is in `file`; returns their key file, which holds no secret.

    OpenSSH makes the signatures, by its agent, a file or a security key.
    """
    openssh.enrol(keys, person, file, created_at=SystemClock().now())
    return keyfile.path_of(keys, person)


def init(  # noqa: PLR0913 - each is one choice made at the door, and all but the folder go by name
    root: Path,
    *,
    name: str,
    person: str,
    keys: Path,
    passphrase_file: Path | None,
    founder: Path | None,
    demo: bool = False,
    policy: Path | None = None,
    unseen: bool = False,
) -> Project:
    """Found a project in `root`; without a policy of one's own, a connect4 project with this one person.

    Such a policy asks for the sandbox tier that this account reaches, T2 at most.
    The person's key is made if there is none. `founder` is the folder with the first member's files; connect4 teaches
    one. Founding the lineage waits for the `amend` quorum: `keyturn run`, then `keyturn approval give`.
    """
    path = root / POLICY
    opening.require_no_log(root)
    root.mkdir(parents=True, exist_ok=True)
    if policy is None and not path.exists():
        from keyturn.app.connect4 import policy_text, teach

        if not keyfile.path_of(keys, person).exists():
            new_key(person, kind="ed25519", keys=keys, passphrase_file=passphrase_file)
        founder = founder or teach(root / "founder", seed=1)
        people = ((person, ("safety", "security"), keyfile.read_public(keyfile.path_of(keys, person))),)
        text = policy_text(name=name, people=people, founder=founder, demo=demo, seed=1, tier=reachable())
        path.write_text(text, encoding="utf-8")
    elif policy is not None and policy.absolute() != path.absolute():
        path.write_bytes(policy.read_bytes())
    read = policies.read_file(path)
    files = read_founder(root, read, founder)
    project = found(
        root,
        read,
        keys={each.id: keys for each in read.people},
        passphrases={person: passphrase_file},
        bank_key=None,
        unseen=unseen,
    )
    ArtifactStore(project.home / "artifacts").put(read.subject.founder, files)
    return project


def reachable() -> str:
    """The tier for a policy of ours: T1 where this account reaches no more, so that its loop can run at all."""
    return "T1" if capabilities().tier == "T1" else "T2"


def read_founder(root: Path, policy: Policy, founder: Path | None) -> Mapping[str, bytes]:
    """The founder's files, which must have the root that the policy names: people sign for exactly these bytes."""
    folder = founder or root / "founder"
    if not folder.is_dir():
        raise MalformedInput(f"there is no founder in `{folder}`", help="`--founder DIR` with the first member's files")
    files = {entry.name: entry.read_bytes() for entry in sorted(folder.iterdir()) if entry.is_file()}
    root_digest = artifact.root(artifact.manifest(files))
    if root_digest != policy.subject.founder:
        raise MalformedInput(
            f"the files in `{folder}` have the root `{root_digest}`; the policy names `{policy.subject.founder}`",
            help="put the root of the founder's files under `[subject] founder`",
        )
    return files


def found(
    root: Path,
    policy: Policy,
    *,
    keys: Mapping[str, Path],
    passphrases: Mapping[str, Path | None],
    bank_key: bytes | None,
    unseen: bool = False,
) -> Project:
    """Found a project under this policy: make its keys, have every person of the policy sign, write the first entries.

    `keys` and `passphrases` name, by person, the folder of the key and the file of its passphrase (None: it is asked).
    `unseen` lets SSH keys sign without a terminal.
    Raises `Conflict` when there is one already, and as signing does when a person's key is not here.
    """
    home = root / HOME
    opening.require_no_log(root)
    if policy.governor.service_key or policy.governor.log_keys:
        message = "`[governor]` names keys, and the founding makes the governor's own"
        raise MalformedInput(message, help="leave the table out; `keyturn key rotate` writes it when a key changes")
    _clear_unfinished(home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = SystemClock().now()
    service = keyfile.create(home / "service.key", "service", keyfile.KeyKind.SERVICE, created_at=now)
    log_public = keyfile.create(home / "log.key", "log", keyfile.KeyKind.SERVICE, created_at=now)
    vkey = note.Verifier(policy.origin, log_public.public).vkey
    stamp = Stamp(id=RandomIds().new(), at=now, actor="governor", policy="")
    founded = projects.founding(policy, log_vkey=vkey, service=service.public, stamp=stamp)
    signed = tuple(
        _genesis_signature(
            root, founded.genesis, person, Signing(person.id, None, keys[person.id], passphrases.get(person.id), unseen)
        )
        for person in policy.people
    )
    _write_private(home / "bank.key", bank_key or secrets.token_bytes(32))
    trust = trusts.Trust(founded.genesis, founded, policy, trusts.Seen())
    trusts.write(trust, home / "trust.json")
    signer = KeySigner.open(home / "service.key" / "service.json", "service")
    log_key = KeySigner.open(home / "log.key" / "log.json", policy.origin)
    with opening.new_log(root) as store:
        log = Log.open(store, service=signer, log_key=log_key, clock=SystemClock(), ids=RandomIds())
        projects.found_project(log, founded, policy, signed)
    return Project(root)


def _clear_unfinished(home: Path) -> None:
    """Forget the keys of a founding that was broken off before all had signed: nothing rests on them yet.

    The trust file is written after the last signature. Where it lies without a log, a log may have been lost: refused.
    """
    if (home / "trust.json").exists():
        raise Conflict(
            f"`{home}` holds a trust file but no log: the log was lost, or a founding broke off at its very end",
            help="restore the log; if no project was ever founded here, remove that folder",
        )
    for made in (home / "service.key" / "service.json", home / "log.key" / "log.json"):
        made.unlink(missing_ok=True)


def _genesis_signature(root: Path, genesis: Digest, person: Person, who: Signing) -> projects.Signed:
    path, enrolled = keyfile.path_of(who.keys, person.id), person.keys[0]
    if enrolled.public != keyfile.read_public(path).public:
        raise UntrustedInput(
            f"the key of `{person.id}` in `{who.keys}` is not the one in the policy",
            help="put that key's `public` there",
        )
    for key in person.keys:
        require_custody(path, person.id, key, root)
    message = leaf.genesis_message(genesis, person.id)
    public, sig = who.sign(person.id, message)
    if not signature.verify(public, message, sig, touch=enrolled.touch, pin=enrolled.pin):
        raise UntrustedInput(
            f"the key of `{person.id}` signed without the touch or the PIN that the policy demands of it",
            help="sign again with the device, touched and with its PIN",
        )
    return projects.Signed(person.id, public, base64.encode(sig))


def require_custody(path: Path, person: str, key: Key, root: Path) -> None:
    """Refuse a policy that declares a better custody than what is seen of the key file."""
    seen = openssh.custody_seen if keyfile.read_public(path).kind is keyfile.KeyKind.SSH else custody.custody_of
    observed = seen(path, governor_uid=os.geteuid(), project_dir=root)
    settled = custody.record(observed=observed, declared=key.custody)
    if list(Custody).index(settled.custody) < list(Custody).index(key.custody):
        raise UntrustedInput(
            f"the policy declares custody `{key.custody}` for the key of `{person}`; seen is {settled.custody}:"
            f" {settled.why}",
            help="declare what is true, or keep the key where the governor's account cannot reach it",
        )


def _write_private(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
