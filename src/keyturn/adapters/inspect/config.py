"""What a task may ask of its sandbox, as Inspect hands it over: nothing, a file of YAML or JSON, or this model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml  # type: ignore[import-untyped]  # it comes without types
from pydantic import BaseModel, Field, ValidationError

from keyturn.core.errors import MalformedInput
from keyturn.sandbox.port import MEBIBYTE, Limits

FILE = "keyturn.yaml"
"""The file that Inspect looks for beside a task."""


class KeyturnConfig(BaseModel, frozen=True, extra="forbid"):  # type: ignore[call-arg]  # as pydantic takes them
    """The least tier, and the most that one sample may use; each limit is enforced by the kernel.

    `work_mebibytes` is the room under `/tmp`, which counts against the memory. Without `executable` nothing that was
    written can be run by its path. A governor that is silent for `lease_seconds` loses its sandboxes.
    """

    tier: Literal["T1", "T2", "T3", "T4"] = "T2"
    memory_mebibytes: int = Field(default=1024, ge=64)
    processes_max: int = Field(default=128, ge=4)
    wall_seconds: float = Field(default=4 * 3600, gt=0)
    work_mebibytes: int = Field(default=256, ge=1)
    open_files_max: int = Field(default=1024, ge=32)
    lease_seconds: float = Field(default=10, ge=1)
    executable: bool = True

    def limits(self) -> Limits:
        """The same as limits of the sandbox."""
        return Limits(
            memory_bytes=self.memory_mebibytes * MEBIBYTE,
            processes_max=self.processes_max,
            wall_seconds=self.wall_seconds,
            tmp_bytes=self.work_mebibytes * MEBIBYTE,
            file_bytes_max=self.work_mebibytes * MEBIBYTE,
            open_files_max=self.open_files_max,
        )


def read_config(config: object) -> KeyturnConfig:
    """The config that Inspect hands over; raises `MalformedInput` for anything else than one of the three forms."""
    if config is None:
        return KeyturnConfig()
    if isinstance(config, KeyturnConfig):
        return config
    if not isinstance(config, str):
        raise MalformedInput(f"a sandbox config of kind {type(config).__name__} is not ours", help=f"see `{FILE}`")
    try:
        found = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
        return KeyturnConfig(**(found if found is not None else {}))
    except (OSError, TypeError, ValueError, yaml.YAMLError, ValidationError) as error:
        raise MalformedInput(f"`{config}` is no config of this sandbox: {error}", help="see docs/inspect.md") from error
