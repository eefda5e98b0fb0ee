"""The provider: Inspect's own interface, answered by our sandbox.

A sandbox that is lost is told as `SandboxUnavailableError`, which Inspect never shows to a model as output.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
from typing import Any

import anyio
import click
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.log import transcript
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
    SandboxUserUnsupportedError,
    sandboxenv,
)

from keyturn.adapters.inspect.config import FILE, KeyturnConfig, read_config
from keyturn.adapters.inspect.keeper import ENVIRONMENT, USER, USER_ID, WORK, keeper, sweep_all
from keyturn.adapters.inspect.living import Living
from keyturn.core.errors import KeyturnError
from keyturn.core.terms import Json
from keyturn.sandbox.port import Receipt

CANNOT_ENTER, CANNOT_EXECUTE, NOT_FOUND, KILLED = 126, 126, 127, 128
"""What a shell answers for each; `KILLED` plus the number of the signal."""

AS = {
    errno.ENOTDIR: errno.ENOENT,
    errno.EROFS: errno.EACCES,
    errno.ELOOP: errno.ENOENT,
    errno.ENAMETOOLONG: errno.ENOENT,
}
"""Errors of files that Inspect knows under another name."""

WORDS_MAX = 4 << 20
"""How long a command and its environment may be in all; the kernel refuses even shorter ones."""

PATH_MAX = 4096
WAITING_MAX = 256
"""How many commands of one sample may be waited for at once."""

log = logging.getLogger(__name__)


@sandboxenv(name="keyturn")
class KeyturnSandbox(SandboxEnvironment):
    """One sandbox of a sample: attested before it begins, leased while Inspect lives, stopped with proof."""

    def __init__(self, living: Living) -> None:
        super().__init__()
        self._living = living
        self._limiter = anyio.CapacityLimiter(WAITING_MAX)

    # -- one sample

    async def _ask(self, order: dict[str, object], body: bytes | None, bytes_max: int) -> tuple[dict[str, Any], Any]:
        """Ask the agent and wait; a call that is cancelled is ended inside as well."""
        try:
            call = self._living.start(order, body, bytes_max)
            try:
                answer = await anyio.to_thread.run_sync(
                    self._living.answer, call, abandon_on_cancel=True, limiter=self._limiter
                )
            except anyio.get_cancelled_exc_class():
                self._living.abandon(call)
                raise
        except KeyturnError as error:
            raise SandboxUnavailableError(error.message) from error
        return answer, call.streams

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a command as the sandbox's one user; of each stream the last bytes are kept, up to Inspect's limit."""
        if user is not None and user not in {USER, str(USER_ID)}:
            raise SandboxUserUnsupportedError(f"this sandbox has one user, `{USER}`; it cannot execute as `{user}`")
        if sum(map(len, [*cmd, *(word for pair in (env or {}).items() for word in pair)])) > WORDS_MAX:
            return ExecResult(False, CANNOT_EXECUTE, "", f"{cmd[0]}: {os.strerror(errno.E2BIG)}\n")
        order: dict[str, object] = {
            "do": "execute",
            "command": list(cmd),
            "folder": cwd or ".",
            "environment": ENVIRONMENT | (env or {}),
            "seconds": timeout or 0,
            "input": input is not None,
            "bytes_max": SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE,
        }
        answer, streams = await self._ask(order, _bytes(input), SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE)
        if answer.get("errno"):
            return _not_started(cmd, cwd, answer)
        if answer["late"]:
            raise TimeoutError(f"the command did not end within {timeout} seconds")
        code = int(answer["code"])
        out, error = (streams[name].decode(errors="replace") for name in (1, 2))
        return ExecResult(code == 0, code if code >= 0 else KILLED - code, out, error)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Write a file as the sandbox's user, with the folders that it lies in."""
        _require_path(file)
        answer, _ = await self._ask({"do": "write", "path": file}, _bytes(contents), 0)
        _raise_error(answer, file)

    async def read_file(self, file: str, text: bool = True) -> Any:
        """Read a regular file as the sandbox's user, whole or not at all."""
        _require_path(file)
        most = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        answer, streams = await self._ask({"do": "read", "path": file, "bytes_max": most}, None, most)
        _raise_error(answer, file)
        if not answer["done"]:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
        return streams[1].decode("utf-8") if text else bytes(streams[1])

    # -- what Inspect asks of the provider

    @classmethod
    def config_files(cls) -> list[str]:
        """The config that Inspect finds beside a task by itself."""
        return [FILE]

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> KeyturnConfig:
        """A config out of a log."""
        return KeyturnConfig(**config)

    @classmethod
    def default_concurrency(cls) -> int | None:
        """As many sandboxes at once as Inspect grants to containers."""
        return 2 * (os.cpu_count() or 1)

    @classmethod
    async def task_init(cls, task_name: str, config: Any) -> None:
        """Refuse to begin where this machine does not give the tier that is asked for."""
        try:
            asked = read_config(config)
            await anyio.to_thread.run_sync(lambda: keeper().require(asked.tier))
        except KeyturnError as error:
            raise PrerequisiteError(f"{error.message}\n{error.help}") from error

    @classmethod
    async def sample_init(cls, task_name: str, config: Any, metadata: dict[str, str]) -> dict[str, SandboxEnvironment]:
        """A fresh sandbox, attested; what the kernel enforces goes into the sample's transcript before *go* counts."""
        try:
            asked = read_config(config)
            opened = await anyio.to_thread.run_sync(lambda: keeper().open(asked))
        except KeyturnError as error:
            raise SandboxUnavailableError(f"{error.message}; {error.help}") from error
        except OSError as error:
            raise SandboxUnavailableError(f"no sandbox could be made: {error}") from error
        transcript().info(opened.record, source="keyturn")
        return {"default": cls(opened.living)}

    @classmethod
    async def sample_cleanup(
        cls, task_name: str, config: Any, environments: dict[str, SandboxEnvironment], interrupted: bool
    ) -> None:
        """Stop each sandbox and record the receipt; raises where a stop was not proven."""
        unproven = []
        for environment in environments.values():
            living = environment.as_type(cls)._living  # noqa: SLF001 - our own class
            why = "the sample was interrupted" if interrupted else "the sample is over"
            receipt = await anyio.to_thread.run_sync(keeper().close, living, why)
            transcript().info(_receipt(living, receipt), source="keyturn")
            if receipt.state != "STOPPED":
                unproven.append(f"{living.id}: {', '.join(receipt.unknown)}")
        if unproven:
            raise RuntimeError(f"keyturn: a stop was not proven; no further sample begins here: {'; '.join(unproven)}")

    @classmethod
    async def task_cleanup(cls, task_name: str, config: Any, cleanup: bool) -> None:
        """Say what becomes of sandboxes that were to be left standing."""
        left = sorted(keeper().living)
        if not cleanup and left:
            log.warning("keyturn: a sandbox never outlives the process that governs it; these end now: %s", left)

    @classmethod
    async def cli_cleanup(cls, id: str | None) -> None:
        """`inspect sandbox cleanup keyturn`: kill what earlier processes left, and show the proof of it."""
        found = await anyio.to_thread.run_sync(sweep_all, id)
        for name, receipt in found.items():
            told = "its process lives; name it to stop it" if receipt is None else _told(receipt)
            click.echo(f"{name}: {told}")
        if not found:
            click.echo("keyturn: nothing was left")


def _bytes(data: str | bytes | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data


def _told(receipt: Receipt) -> str:
    return f"{receipt.state}, {receipt.processes_before} processes before, {receipt.survivors} survivors"


def _receipt(living: Living, receipt: Receipt) -> dict[str, Json]:
    """What is recorded of a sandbox as it ends."""
    fields: dict[str, Json] = {name: getattr(receipt, name) for name in RECEIPT_FIELDS}
    return {"sandbox": living.id, **fields, "unknown": [*receipt.unknown]}


RECEIPT_FIELDS = [one.name for one in dataclasses.fields(Receipt) if one.name != "unknown"]


def _not_started(cmd: list[str], cwd: str | None, answer: dict[str, Any]) -> ExecResult[str]:
    """A command that could not be started, as a shell would tell it; raises `PermissionError` where it may not run."""
    number, why = int(answer["errno"]), str(answer["why"])
    if answer["at"] == "folder":
        return ExecResult(False, CANNOT_ENTER, "", f"cannot enter `{cwd or WORK}`: {why}\n")
    if number in {errno.EACCES, errno.EPERM}:
        raise PermissionError(number, why, cmd[0])
    return ExecResult(False, NOT_FOUND if number == errno.ENOENT else CANNOT_EXECUTE, "", f"{cmd[0]}: {why}\n")


def _require_path(file: str) -> None:
    """Refuse what no kernel would take for a path."""
    if len(file) > PATH_MAX:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENAMETOOLONG), file[:PATH_MAX])


def _raise_error(answer: dict[str, Any], file: str) -> None:
    """Raise what the kernel said of a file, as Python and Inspect name it."""
    if answer.get("errno"):
        number = int(answer["errno"])
        raise OSError(AS.get(number, number), str(answer["why"]), file)
