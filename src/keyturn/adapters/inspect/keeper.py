"""The sandboxes of one Inspect process: where they live, how they are opened, and what an earlier process left.

Each process has a place of its own, whose path names its cgroup, and holds a lock there for as long as it lives. Where
the lock is free, the place belongs to nobody any more: what lives there is killed, and the place removed.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from keyturn.adapters.inspect.config import KeyturnConfig
from keyturn.adapters.inspect.living import Living
from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.core.terms import Json, Tier
from keyturn.sandbox import open_backend
from keyturn.sandbox.command import ALONE
from keyturn.sandbox.port import Attestation, Backend, Mount, Receipt, Runtime, Spec
from keyturn.wire import canonical

AGENT = ALONE / "commands.py"
AGENT_INSIDE = "/agent.py"
TMP = "/tmp"  # noqa: S108 - the sandbox's own
WORK = f"{TMP}/work"
USER = "agent"
USER_ID = 1000
ETC = {
    "passwd": f"root:x:0:0::/:/usr/sbin/nologin\n{USER}:x:{USER_ID}:{USER_ID}::{WORK}:/bin/bash\n",
    "group": f"root:x:0:\n{USER}:x:{USER_ID}:\n",
    "hosts": "127.0.0.1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
"""What programs expect to read there; there is no other user, no network and no name to look up."""

ENVIRONMENT = {
    "PATH": "/runtime/bin:/usr/local/bin:/usr/bin:/bin",
    "HOME": WORK,
    "USER": USER,
    "LANG": "C.UTF-8",
    "TMPDIR": TMP,
    "PYTHONDONTWRITEBYTECODE": "1",
}
"""What every command inherits, below what its caller sets."""


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A sandbox that was attested and let go, and what is to be recorded of it."""

    living: Living
    record: dict[str, Json]


def base() -> Path:
    """The folder of this user's places; raises `Unavailable` where somebody else made it."""
    place = Path(tempfile.gettempdir()) / f"keyturn-inspect-{os.geteuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    status = place.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o170077 != 0o040000:
        raise Unavailable(f"`{place}` is not a folder of this user's alone", help="remove it")
    return place


@contextlib.contextmanager
def held(place: Path) -> Iterator[bool]:
    """Whether nobody else holds this place; while within, nobody else can."""
    fd = os.open(place / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def sweep(place: Path) -> Receipt:
    """Kill what lives in a place, prove it, and remove the place where it was proven."""
    backend = open_backend(place / "run", runtime_cache=place.parent / "runtime.json")
    receipt = backend.sweep()
    backend.close()
    if receipt.state == "STOPPED":
        shutil.rmtree(place, ignore_errors=True)
    return receipt


def sweep_all(name: str | None = None) -> dict[str, Receipt | None]:
    """Sweep every place that nobody holds any more, or the one of that `name` whoever holds it; None: still held."""
    found: dict[str, Receipt | None] = {}
    places = [entry for entry in base().iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    for place in sorted(place for place in places if name in {None, place.name}):
        try:
            with held(place) as free:
                found[place.name] = sweep(place) if free or name is not None else None
        except FileNotFoundError:  # another process has swept it meanwhile
            continue
    return found


class Keeper:
    """What this process keeps. Opening is one at a time; closing works from any thread."""

    def __init__(self) -> None:
        sweep_all()
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.place = base() / name
        made = base() / f".{name}"  # no sweep looks at it before it is held
        made.mkdir(mode=0o700)
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(held(made))
        made.rename(self.place)
        self._etc = self.place / "etc"
        self._etc.mkdir()
        for name, text in ETC.items():
            (self._etc / name).write_text(text)
            (self._etc / name).chmod(0o644)
        self._etc.chmod(0o755)
        self.backend: Backend = open_backend(self.place / "run", runtime_cache=base() / "runtime.json")
        self._runtime: Runtime | None = None
        self._lock = threading.Lock()
        self._unproven = ""
        self.living: dict[str, Living] = {}

    def require(self, tier: str) -> None:
        """See that this machine gives the tier; raises `Unavailable` with what is missing."""
        with self._lock:
            found = self.backend.capabilities()
        if found.tier.rank < Tier(tier).rank:
            lacking = "; ".join([*(one.what for one in found.missing), *found.weaker]) or "nothing here reaches it"
            remedy = "; ".join(one.remedy for one in found.missing)
            raise Unavailable(f"this machine gives {found.tier}, {tier} is required: {lacking}", help=remedy)

    def open(self, config: KeyturnConfig) -> Opened:
        """Prepare, attest, compare, and let go; raises `Unavailable` where anything is less than was asked for."""
        with self._lock:
            if self._unproven:
                raise Unavailable(f"a stop was not proven: {self._unproven}", help="find what lives, then start anew")
            if self._runtime is None:
                self._runtime = self.backend.runtime("shell")
            parked = self.backend.prepare(self._spec(config, self._runtime))
            try:
                attestation = parked.attest()
                if attestation.problems or attestation.tier.rank < Tier(config.tier).rank:
                    why = "; ".join([*attestation.problems, *attestation.weaker])
                    raise Unavailable(
                        f"the sandbox was attested as {attestation.tier}, {config.tier} is required: {why}",
                        help="see `keyturn doctor`",
                    )
                living = Living(parked.go(), config.lease_seconds)
            except BaseException:
                parked.close()
                raise
        self.living[living.id] = living
        try:
            living.wait_ready()
        except KeyturnError:
            self.close(living, "its agent did not start")
            raise
        return Opened(living, _record(living.id, attestation))

    def _spec(self, config: KeyturnConfig, runtime: Runtime) -> Spec:
        return Spec(
            purpose="answer",
            argv=("python", "-I", "-S", AGENT_INSIDE, WORK),
            runtime=runtime,
            mounts=(Mount(AGENT, AGENT_INSIDE), Mount(self._etc, "/etc")),
            limits=config.limits(),
            lease_seconds=config.lease_seconds,
            executable=config.executable,
        )

    def close(self, living: Living, why: str) -> Receipt:
        """Stop a sandbox with proof; without one, this process opens no further sandbox."""
        receipt = living.close(why)
        self.living.pop(living.id, None)
        if receipt.state != "STOPPED":
            self._unproven = f"{living.id}: {', '.join(receipt.unknown)}"
        return receipt

    def end(self) -> None:
        """Stop everything and give the place back."""
        for living in list(self.living.values()):
            self.close(living, "the process ends")
        self.backend.close()
        self._stack.close()
        if not self._unproven:
            shutil.rmtree(self.place, ignore_errors=True)


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _record(id: str, attestation: Attestation) -> dict[str, Json]:
    """What is recorded of a sandbox as it begins; the digest covers the tier and every fact."""
    attested: dict[str, Json] = {"tier": attestation.tier.value, "facts": dict(attestation.facts)}
    return {
        "sandbox": id,
        "attestation": _digest(canonical.encode(attested)),
        "agent": _digest(AGENT.read_bytes()),
        "etc": _digest(canonical.encode(dict(ETC))),
        "weaker": [*attestation.weaker],
        **attested,
    }


_keeper: Keeper | None = None
_opening = threading.Lock()


def keeper() -> Keeper:
    """The keeper of this process, made when first asked for, and ended as the process ends."""
    global _keeper  # noqa: PLW0603 - Inspect asks a class, so what the process keeps has no other home
    with _opening:
        if _keeper is None:
            _keeper = Keeper()
            atexit.register(_keeper.end)
        return _keeper
