"""The sandbox port: what a backend is asked for, and the values that it gives back.

Nothing here starts a process. One order holds for every backend: `prepare` (parked: not one instruction of the subject
has run), `attest`, `go`, `wait`, `collect`, and `halt` at any moment. Every call is synchronous. The lease is renewed
only in `tick`, `wait`, `send` and `receive`, by the thread that governs; a governor that hangs lets it run out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from keyturn.core.terms import Digest, Instant, Json, Tier
from keyturn.sandbox.freezing.held import Held, Look

Purpose = Literal["improve", "answer", "drill"]
Reason = Literal["exited", "wall", "cpu", "lease", "halted", "memory", "lost"]
How = Literal["opened", "written"]
State = Literal["STOPPED", "UNPROVEN"]

MEBIBYTE = 1 << 20
CLAIM = ("claim.json", 64 * 1024)
"""The file that every improvement may leave beside the declared ones, and its greatest size."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a subject may use. Bytes are bytes, lengths are seconds, and each is enforced by the kernel.

    `cpus` is the share of processors that all its processes have together, `cpu_seconds_max` what they may use in all:
    the governor stops it there whenever it looks. If it never looks, one process alone dies at most two seconds of its
    own later, and all together use at most `cpus` x `wall_seconds`, which init's timer ends. None limits nothing.

    `out_bytes` and `tmp_bytes` size the two writable folders, `file_bytes_max` any single file;
    `output_bytes_max` bounds what `receive` accepts in all; `diagnostics_bytes_max` is the tail of stderr that is kept.
    """

    memory_bytes: int = 1024 * MEBIBYTE
    processes_max: int = 64
    wall_seconds: float = 120.0
    output_bytes_max: int = 16 * MEBIBYTE
    out_bytes: int = 64 * MEBIBYTE
    tmp_bytes: int = 64 * MEBIBYTE
    file_bytes_max: int = 64 * MEBIBYTE
    open_files_max: int = 256
    diagnostics_bytes_max: int = 16 * 1024
    cpus: float | None = None
    cpu_seconds_max: float | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of ours, shown read-only at `target`.

    What the subject's user could not read (mode 0600, say) is copied into the sandbox instead of bound; the copy counts
    against `memory_bytes`.
    """

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class Decoy:
    """A file to be touched by nobody, which is reported; writable, because a write that is refused raises no event."""

    name: str
    target: str
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Bind:
    """One file or folder of a runtime on this machine, and where the subject sees it."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class Runtime:
    """The interpreter and libraries that a subject runs on; `digest` covers every file bound except `__pycache__`.

    `python` is the interpreter's path inside the sandbox; a subject's `argv[0]` of `python` or `python3` means it.
    `masks` are folders inside the binds that are shown empty.
    """

    name: str
    python: str
    binds: tuple[Bind, ...]
    masks: tuple[str, ...]
    digest: Digest


@dataclass(frozen=True, slots=True)
class Spec:
    """One sealed run. `environment` is all that the subject inherits: not even `PATH` or `HOME` is added.

    `purpose` "answer" joins the subject's standard input and output to the caller; any other gives an empty input and
    counts standard output as diagnostics. `out` makes the writable folder `/out`. What `waits` is a runner of ours that
    is let go before it is needed: its wall limit counts from `begin`, and until then the lease alone holds it. With
    `executable` the subject may run files that it wrote in `/tmp`.

    `programs_max` is for what waits: of more than one, init loads the runner, which is `argv[2]` after `python -I`, and
    each program is a fork of that, which ends as a whole before the next one begins; see `Running.again`. `devices` are
    device nodes of the host that are shown where they lie: no halt of one is proven.
    """

    purpose: Purpose
    argv: tuple[str, ...]
    runtime: Runtime
    mounts: tuple[Mount, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    decoys: tuple[Decoy, ...] = ()
    out: bool = False
    devices: tuple[str, ...] = ()
    lease_seconds: float = 2.0
    waits: bool = False
    programs_max: int = 1
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that this machine does not give: what, why that matters here, and what to do about it."""

    what: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this machine was seen to enforce, found out by launching a probe.

    `weaker` names each guarantee of the tier above that does not hold here; with anything in `missing` that stops a
    launch, the tier is T0 and `prepare` raises `Unavailable`.
    """

    tier: Tier
    kernel: Mapping[str, Json]
    weaker: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One field that was compared: of whom, what was required and what the kernel enforces, in words."""

    who: str
    field: str
    required: str
    effective: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Attestation:
    """What the kernel enforces on every process of one parked sandbox, read from outside.

    `facts` carries no process id, inode or path of this machine: two runs of one configuration are equal.
    `rows` are all comparisons, and `problems` those where the effective is less than the required: the caller must
    refuse unless empty. `weaker` names what the tier lacks, which is no problem by itself: the policy compares tiers.
    """

    tier: Tier
    facts: Mapping[str, Json]
    problems: tuple[str, ...] = ()
    weaker: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class DecoyOpened:
    """A decoy was touched: `opened` for reading, or `written` (a truncation, a change of content or of mode)."""

    name: str
    how: How


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run ended. `diagnostics` is the tail of what the subject wrote to stderr: untrusted, never evidence.

    `code` is the main process's own exit code, `signal` what killed it; both None when it was stopped from outside.
    `left_running` counts processes still alive when the main process had ended. `lost` means that the sandbox went away
    without a word: a failure of ours, never evidence about the candidate.
    """

    reason: Reason
    code: int | None
    signal: int | None
    cpu_seconds: float
    wall_seconds: float
    left_running: int
    decoys: tuple[DecoyOpened, ...]
    diagnostics: bytes
    memory_bytes_peak: int | None = None

    @property
    def clean(self) -> bool:
        """Whether the main process ended by itself with code 0, left nothing behind and touched no decoy."""
        return self.reason == "exited" and self.code == 0 and not self.left_running and not self.decoys


@dataclass(frozen=True, slots=True)
class Finding:
    """Why what lies in `/out` is refused. The name of the file is the subject's own, escaped and cut short."""

    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Collected:
    """The declared files, copied by us; with any finding the candidate is refused and `files` must not be used."""

    files: Mapping[str, bytes]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof of a stop. STOPPED only when init's exit and `populated 0` were both seen; all else is UNPROVEN.

    Of a container both are its engine's word. `requested_at` is a moment; the other times, None where not seen, are
    milliseconds since the request on a clock that suspension does not stop. `unknown` says what is still not known.
    """

    scope: str
    why: str
    requested_at: Instant
    kill_written_ms: float | None
    init_exited_ms: float | None
    cgroup_empty_ms: float | None
    processes_before: int
    survivors: int
    state: State
    unknown: tuple[str, ...] = ()


class Running(Protocol):
    """A subject that runs. The descriptors are non-blocking, so that the caller's own select loop can drive it.

    In purpose "answer" `stdin_fd` and `stdout_fd` are the subject's pipes; otherwise they are -1.
    `decoy_fd` becomes readable when a decoy was touched, -1 without decoys; `wake_fd` when the main process has ended
    or the sandbox is gone. A loop of one's own must call `tick` at least every third of the lease.
    """

    id: str
    stdin_fd: int
    stdout_fd: int
    decoy_fd: int
    wake_fd: int

    def begin(self, seconds: float) -> None:
        """Let the time of a subject that `waits` count from now: `seconds`, or its spec's wall limit if that is less.

        Only after it was heard: what lives and was used until now is taken for ours. Raises `Unavailable` once it is
        gone.
        """

    def alive(self) -> bool:
        """Whether what lived at `begin` still does: an end shows here before anybody else could tell of it."""

    def beyond(self) -> int:
        """How many processes live in it beside those that lived at `begin`; without a `begin`, beside ours."""

    def tick(self) -> bool:
        """Renew the lease and take in what happened; False once the main process has ended or was stopped."""

    def decoys(self) -> tuple[DecoyOpened, ...]:
        """All decoys touched so far."""

    def send(self, data: bytes, timeout: float) -> None:
        """Write all of `data`, renewing the lease. Raises `Unavailable` on time-out or when the pipe is closed."""

    def receive(self, timeout: float) -> bytes:
        """Read what is there, waiting at most `timeout`, renewing the lease; b"" at the end of file.

        Raises `Unavailable` on time-out, and once more than `output_bytes_max` has come in all.
        """

    def wait(self, timeout: float | None = None, on_tick: Callable[[], bool] | None = None) -> Exit:
        """Wait for the end of the main process, then kill what is left and see that it is gone; idempotent.

        `timeout` seconds from now, or the wall limit if that is sooner, ends it as "wall"; `on_tick` is called every
        third of the lease and on every event, and halts by returning False.
        """

    def collect(self, declared: tuple[tuple[str, int], ...], also: tuple[tuple[str, int], ...] = (CLAIM,)) -> Collected:
        """Copy the declared files (name, size at most) out of `/out`, but for those `also` named that are absent.

        Only once the sandbox is seen to be empty; else raises `Unavailable`.
        """

    def kill(self) -> None:
        """Write the kill and do not wait; `gone` says when nothing of the subject lives, `halt` proves all of it."""

    def spare(self) -> None:
        """Kill the one process of a program and do not wait; the sandbox around it stays, where it may serve `again`.

        Where it may not, this is `kill`. A program that has not ended by itself is never waited for.
        """

    def clear(self) -> None:
        """See that no trace is left of a program that was spared and is gone; waits a fraction of a second at most.

        Nothing lives there then but init and its monitor, who are as they were, as seen from outside, and the writable
        folders are empty. Raises `Unavailable` on any doubt, and the sandbox must then be killed.
        """

    def again(self) -> Running:
        """Start the next runner in a sandbox that was cleared, on pipes of its own; this one is spent.

        Raises `Unavailable` on any doubt, and the sandbox must then be killed.
        """

    def gone(self) -> bool:
        """Whether no process of the subject can do anything any more; our own init may still be on its way out."""

    def seen(self) -> Exit:
        """How it ended as far as is seen now, without waiting; final once the subject is `gone`."""

    def halt(self, why: str) -> Receipt:
        """Stop it now, from any thread, and prove it; idempotent, and nothing is raised before the kill is written."""

    def close(self) -> None:
        """Kill what is left and give every descriptor, folder and cgroup back; idempotent."""


class Parked(Protocol):
    """A sandbox with everything applied, whose init waits for the word; the lease already counts."""

    id: str

    def attest(self) -> Attestation:
        """Read from the kernel what is enforced for each process in it."""

    def tick(self) -> bool:
        """Renew the lease; False when the sandbox is gone."""

    def go(self) -> Running:
        """Let the subject start. Raises `Unavailable` when the sandbox is gone or a halt came in between."""

    def halt(self, why: str) -> Receipt:
        """As in `Running`."""

    def close(self) -> None:
        """As in `Running`."""


class Backend(Protocol):
    """A way to run sealed. The latch against launching after a halt is the caller's."""

    def runtime(self, name: str = "python-numpy") -> Runtime:
        """The runtime of that name, as in `runtime.NAMES`; raises `Unavailable` when a part of it cannot be found."""

    def capabilities(self) -> Capabilities:
        """What this machine enforces, found out by doing; costs a launch, and is kept."""

    def profile(self) -> Mapping[str, str]:
        """What every sandbox here is made of, in short texts by name, or `Unavailable`; a check speaks of no other."""

    def prepare(self, spec: Spec) -> Parked:
        """Build a sandbox and park its init.

        Raises `Unavailable` with the reason and the remedy, `MalformedInput` for a spec that cannot mean anything.
        """

    def halt_all(self, why: str, also: Callable[[], None] = lambda: None) -> Receipt:
        """Stop every live sandbox of this backend, from any thread; nothing is raised before the kill is written.

        `also` strikes what else is to die, right after that. No launch under way comes to life behind it.
        """

    def may_kill(self) -> str:
        """Why the kill of everything could not be written now; empty where it could. Nothing is killed."""

    def freeze(self, seconds: float) -> Held:
        """Hold all that lives still; after so many seconds nothing goes on any more. Launches wait meanwhile."""

    def thaw(self) -> None:
        """Let all of it go on; raises `Conflict` or `Unavailable` where it does not, and only a halt is left then."""

    def look(self) -> tuple[Look, ...]:
        """What lives now."""

    def sweep(self, also: Callable[[], None] = lambda: None) -> Receipt:
        """Kill and receipt what an earlier governor left alive in our own cgroup, and only there; remove its traces.

        Only before the first launch; `also` as in `halt_all`.
        """

    def close(self) -> None:
        """Halt what is live and give everything back."""
