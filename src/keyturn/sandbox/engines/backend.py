"""The backend over an engine: the same order as everywhere, parked, attested, let go, ended, proven.

The subject's files go in by the attach stream and come out by it, once nothing of the subject lives; no folder of this
machine is shown to a container, and nothing that a subject made is ever unpacked.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import platform
import posixpath
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from keyturn.core.errors import Conflict, KeyturnError, MalformedInput, Unavailable, invariant
from keyturn.core.terms import Instant, Json, Tier
from keyturn.sandbox import seccomp
from keyturn.sandbox.attest import SHM_BYTES
from keyturn.sandbox.command import ALONE, OWN_USERS, check, digest_of, init_config
from keyturn.sandbox.engines.choice import require_digest
from keyturn.sandbox.engines.held import Held, HeldParked
from keyturn.sandbox.engines.link import Link
from keyturn.sandbox.engines.port import Container, Engine, Order, Place, Stream
from keyturn.sandbox.engines.profile import spare_init
from keyturn.sandbox.engines.proof import Watched, prove
from keyturn.sandbox.freezing import held as freezing
from keyturn.sandbox.port import Capabilities, Limits, Missing, Receipt, Runtime, Spec
from keyturn.sandbox.proof import boottime

PARK_SECONDS_MAX = 30.0
PIECE_BYTES = 32 * 1024
KEY_BYTES = 32
PAGE = 4096
SPARE_BYTES = 1 << 20

BOOT = """import sys, types
name, *files = sys.argv[1:]
for room in ("keyturn", "keyturn.sandbox", "keyturn.sandbox.alone"): sys.modules[room] = types.ModuleType(room)
for file, text in zip(files[::2], files[1::2]):
    module = types.ModuleType("keyturn.sandbox.alone." + file)
    sys.modules[module.__name__] = module
    setattr(sys.modules["keyturn.sandbox.alone"], file, module)
    exec(compile(text, file, "exec"), module.__dict__)
module.main()
"""
"""Our init travels in the container's own command, where everybody can read it and the engine tells if it changed."""

ATTACK = """import socket
try: socket.socket(socket.AF_INET, socket.SOCK_STREAM)
except OSError: raise SystemExit(0)
raise SystemExit("BREACH")
"""
"""An attack that must fail inside; what holds there besides is attested."""

ALONE_FILES = ("init.py", "surroundings.py", "contained.py")


def command(name: str) -> tuple[str, ...]:
    """The first process of a container: Python of the image's, on our init."""
    files = [word for file in ALONE_FILES for word in (file.removesuffix(".py"), (ALONE / file).read_text())]
    return ("python3", "-I", "-S", "-c", BOOT, name, *files)


class Contained:
    """The backend. See `port.Backend`; `engine` is what differs."""

    def __init__(self, run_root: Path, engine: Engine) -> None:
        self._tag = hashlib.sha256(os.fsencode(run_root.resolve())).hexdigest()[:24]
        self.engine = engine
        self._digest = require_digest(engine.image)
        self._live: dict[str, Held] = {}
        self._halts = 0
        self._capabilities: Capabilities | None = None

    # -- what there is

    @property
    def tier(self) -> Tier:
        """What its containers can be at best: under gVisor T3; a container that shares this kernel T1."""
        return Tier.T3 if self.engine.gvisor else Tier.T1

    @property
    def weaker(self) -> tuple[str, ...]:
        """What the next tier promises and a container of this engine does not give."""
        shared = () if self.engine.gvisor else ("kernel: the container shares the kernel of its machine, runc's way",)
        return ("proof: that a container has ended is the engine's word", *shared, *self.engine.lacks)

    def runtime(self, name: str = "python-numpy") -> Runtime:
        """The operator's image; what it must hold for `name` is the operator's to see to."""
        if name not in {"python", "python-numpy"}:
            raise Unavailable(f"there is no runtime `{name}`; there are python, python-numpy", help="name one of them")
        return Runtime(name=name, python="python3", binds=(), masks=(), digest=self._digest)

    def capabilities(self) -> Capabilities:
        """What the engine enforces, found out by having it run a probe."""
        if self._capabilities is None:
            self._capabilities = self._probe()
        return self._capabilities

    def _probe(self) -> Capabilities:
        kernel: dict[str, Json] = {"engine": self.engine.scope, "machine": platform.machine()}
        try:
            kernel |= dict(self.engine.ready())
            limits = Limits(memory_bytes=256 << 20, processes_max=16, wall_seconds=20, out_bytes=PAGE, tmp_bytes=PAGE)
            probe = ("python", "-I", "-S", "-c", ATTACK)
            parked = self.prepare(Spec("improve", probe, self.runtime("python"), limits=limits))
            try:
                seen = parked.attest()
                running = parked.go()
                end = running.wait()
                proof = running.halt("the probe is over")
            finally:
                parked.close()
        except KeyturnError as error:
            return Capabilities(Tier.T0, kernel, (), (Missing("a container", error.message, error.help),))
        faults = [*seen.problems, *proof.unknown]
        faults += (
            [] if end.clean else [f"the probe ended badly: {end.reason}, code {end.code}, {end.diagnostics!r:.200}"]
        )
        inside = seen.facts.get("inside")
        kernel["kernel"] = str(inside.get("kernel")) if isinstance(inside, dict) else ""
        if faults:
            help = "see docs/engines.md; do not run subjects here"
            missing = tuple(Missing("an effective container", fault, help) for fault in faults)
            return Capabilities(Tier.T0, kernel, seen.weaker, missing)
        return Capabilities(seen.tier, kernel, seen.weaker)

    def profile(self) -> dict[str, str]:
        """What every container here is made of: the engine, its image, the filter, our own programs."""
        return {
            "engine": self.engine.scope,
            "runtime": "gVisor" if self.engine.gvisor else "the kernel of its machine",
            "image": self._digest,
            "filter": digest_of(seccomp.for_this_machine()),
            "profile": digest_of("\0".join(command("profile")).encode()),
        }

    # -- launching

    def prepare(self, spec: Spec) -> HeldParked:
        """Have a container made and started, lay the subject's files out in it, and park its init."""
        check(spec)
        halts, name = self._halts, f"{spec.purpose}-{secrets.token_hex(6)}"
        files = list(_files(spec))
        order = Order(
            name=name, tag=self._tag, image=self.engine.image, command=command(name),
            user=OWN_USERS[0] + secrets.randbelow(OWN_USERS[1] - OWN_USERS[0]),
            places=_places(spec, files), spec=spec,
        )  # fmt: skip  # who, what, where
        container, stream = self.engine.make(order)
        held = self._hold(order, container, stream)
        try:
            self._lay_out(held, files)
            held.watched = Watched(container.look().pid, (name, container.number))
        except BaseException:
            held.close()
            raise
        return HeldParked(held, self.tier, weaker=self.weaker, may_go=lambda: self._halts == halts)

    def _hold(self, order: Order, container: Container, stream: Stream) -> Held:
        limits, joined = order.spec.limits, order.spec.purpose == "answer"
        key = secrets.token_bytes(KEY_BYTES)
        link = Link(
            stream,
            key=key,
            joined=joined,
            diagnostics_max=limits.diagnostics_bytes_max,
            hands_out_max=limits.out_bytes,
        )
        held = Held(order, container, link, Watched(0, ()), self.engine, self._forget, key=key)
        self._live[order.name] = held
        return held

    def _lay_out(self, held: Held, files: list[tuple[str, bytes]]) -> None:
        """Say the config and the files, and wait until init says that everything lies there."""
        link = held.link
        link.say(b"C", json.dumps(_config(held.order) | {"key": held.key.hex()}).encode())
        for target, data in files:
            link.say(b"F", target.encode())
            for at in range(0, len(data), PIECE_BYTES):
                link.say(b"f", data[at : at + PIECE_BYTES])
        link.say(b"L")
        link.wait_for(lambda: link.parked is not None, PARK_SECONDS_MAX)
        if link.parked is None:
            said = link.init_words.decode(errors="replace").strip()[-400:]
            why = said or f"nothing was said within {PARK_SECONDS_MAX:.0f} seconds"
            raise Unavailable(f"the container could not be built: {why}", help="see docs/engines.md")
        ours = (platform.machine(), f"{sys.version_info.major}.{sys.version_info.minor}")
        theirs = (link.parked.get("machine"), link.parked.get("python"))
        if theirs != ours:
            help = "name an image of the same machine and with the same Python"
            raise Unavailable(f"the image has {theirs}, the governor has {ours}", help=help)

    def _forget(self, name: str) -> None:
        self._live.pop(name, None)

    # -- stopping

    def may_kill(self) -> str:
        """Why nothing could be killed now: the engine itself does it, so it must answer."""
        try:
            self.engine.ready()
        except Unavailable as fault:
            return f"the engine does not answer: {fault.message}"
        return ""

    def freeze(self, seconds: float) -> freezing.Held:
        """Nothing: a paused container's lease runs on, so it could only be let go on to its end."""
        why = f"containers of {self.engine.scope} cannot be held still and go on afterwards; they can be halted"
        now = Instant(time.time_ns() // 1_000_000)
        return freezing.Held("nothing", now, None, len(self._live), 0, "NOT HELD", (why,))

    def thaw(self) -> None:
        """Nothing: nothing was held still."""
        raise Conflict("nothing is held still", help="`keyturn status`")

    def look(self) -> tuple[freezing.Look, ...]:
        """What lives now, as far as we know without the engine; it counts nothing for us."""
        looks = []
        for name, one in list(self._live.items()):
            spec, age = one.order.spec, round(boottime() - one.made_at, 3)
            looks.append(freezing.Look(name, spec.purpose, spec.waits, False, 1, None, None, age))
        return tuple(looks)

    def halt_all(self, why: str, also: Callable[[], None] = lambda: None) -> Receipt:
        """Stop every live container, from any thread; what needs no engine goes first: one may hang."""
        self._halts += 1
        live = list(self._live.values())
        for held in live:
            held.halted = True
        also()
        for held in live:
            held.cut()
        pairs = [(held.container, held.watched) for held in live]
        scope = f"{len(live)} containers of this governor, on {self.engine.scope}"
        return prove(pairs, scope, why, cut=lambda: None, seconds=self.engine.proof_seconds)

    def sweep(self, also: Callable[[], None] = lambda: None) -> Receipt:
        """Kill and receipt what an earlier governor left behind, by its label; only before the first launch."""
        invariant(not self._live, "a sweep comes before the first launch")
        scope = f"what an earlier governor left, by its label, on {self.engine.scope}"
        also()
        try:
            left = self.engine.left(self._tag)
        except Unavailable as error:
            return _unproven(scope, f"engine: {error.message}")
        alive = [one for one in left if not _is_over(one)]
        receipt = prove(
            [(one, None) for one in alive], scope, "start", cut=lambda: None, seconds=self.engine.proof_seconds
        )
        if receipt.state == "STOPPED":
            for one in left:
                with contextlib.suppress(Unavailable):  # what is dead and stays is found again
                    one.remove()
        return receipt

    def close(self) -> None:
        """Halt what is live and give everything back."""
        for held in list(self._live.values()):
            held.close()
        self.engine.close()


def _unproven(scope: str, why: str) -> Receipt:
    """The receipt of a sweep that could not even ask."""
    now = Instant(time.time_ns() // 1_000_000)
    return Receipt(scope, "start", now, None, None, None, 0, 0, "UNPROVEN", (why,))


def _is_over(container: Container) -> bool:
    """Whether the engine says so; one that does not say is not over."""
    try:
        return container.look().state == "ended" and not container.confirm()
    except Unavailable:
        return False


def _config(order: Order) -> dict[str, Json]:
    """What init is told: as under bubblewrap, with the places of a container."""
    spec = order.spec
    held = init_config(spec, memory_held=True)
    filters = (spare_init(platform.machine()), seccomp.for_this_machine())
    shown: list[Json] = [*sorted({_shown(mount.target, mount.source) for mount in spec.mounts})]
    bait: list[Json] = [*sorted({posixpath.dirname(decoy.target) for decoy in spec.decoys})]
    return {name: held[name] for name in ("lease_ms", "wall_ms", "waits", "argv", "environment", "folder", "rlimits",
                                          "out")} | {
        "joined": spec.purpose == "answer",
        "out_bytes": spec.limits.out_bytes,
        "writable": ["/tmp", "/dev/shm", *(["/out"] if spec.out else [])],  # noqa: S108 - the container's own
        "shown": shown,
        "bait": bait,
        "decoys": [[decoy.name, decoy.target] for decoy in spec.decoys],
        "filters": [base64.b64encode(code).decode() for code in filters],
    }  # fmt: skip  # what, where, how


def _shown(target: str, source: Path) -> str:
    """The folder that must be there for a mount."""
    return target if source.is_dir() else posixpath.dirname(target)


def _files(spec: Spec) -> Iterator[tuple[str, bytes]]:
    """Every file of ours that the subject is to see, and the decoys."""
    for mount in spec.mounts:
        if not mount.source.is_dir():
            yield mount.target, mount.source.read_bytes()
            continue
        for path in sorted(mount.source.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield f"{mount.target}/{path.relative_to(mount.source).as_posix()}", path.read_bytes()
    for decoy in spec.decoys:
        yield decoy.target, decoy.content


def _places(spec: Spec, files: list[tuple[str, bytes]]) -> tuple[Place, ...]:
    """The container's own folders, each of a size; what is shown takes no more room than it needs."""
    tops = {_shown(mount.target, mount.source) for mount in spec.mounts}
    tops |= {posixpath.dirname(decoy.target) for decoy in spec.decoys}
    if "/" in tops:
        help = "name a folder for it: the root of a container is read-only"
        raise MalformedInput("a file cannot be laid out at the root of a container", help=help)
    own = [Place("/tmp", spec.limits.tmp_bytes), Place("/dev/shm", SHM_BYTES)]  # noqa: S108 - the container's own
    own += [Place("/out", spec.limits.out_bytes)] if spec.out else []
    return (*own, *(Place(top, _room(top, files)) for top in sorted(tops)))


def _room(top: str, files: list[tuple[str, bytes]]) -> int:
    """Room for the files below a folder, in whole pages, and a little more."""
    return SPARE_BYTES + sum(
        PAGE + (len(data) + PAGE - 1) // PAGE * PAGE for name, data in files if name.startswith(top)
    )
