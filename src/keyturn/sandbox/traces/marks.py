"""Marks in the run folder: what was not proven, and what no halt can prove, until the machine starts anew.

No process outlives a boot, so each mark holds the boot in which it was made. What cannot be read is doubt.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from keyturn.sandbox.cell import unproven_devices
from keyturn.sandbox.port import Receipt, Spec
from keyturn.sandbox.traces import whereabouts
from keyturn.sandbox.traces.whereabouts import BOOT_ID

UNPROVEN = "unproven"
DEVICES = "devices"


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of one run folder."""

    folder: Path

    def after(self, receipt: Receipt, root: Path | None) -> None:
        """Without a cgroup, what was not proven once stays unproven until the machine has started anew."""
        if root is None and receipt.state != "STOPPED":
            with contextlib.suppress(OSError):  # the kill is done; whoever cannot write here looks again
                (self.folder / UNPROVEN).write_bytes(BOOT_ID.read_bytes())

    @property
    def unproven(self) -> bool:
        """Whether such a mark stands, or may stand."""
        return (self.folder / UNPROVEN).exists()

    def devices(self) -> tuple[str, ...]:
        """The devices that any sandbox here saw since the machine started: no later halt proves more of them."""
        try:
            boot, *names = (self.folder / DEVICES).read_text().split("\n")
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            return (f"devices: which were shown cannot be read: {error}",)
        return unproven_devices(names) if boot == BOOT_ID.read_text().strip() else ()

    def show_devices(self, spec: Spec) -> None:
        """Note, before it is launched, what devices a sandbox will see."""
        mark, boot = self.folder / DEVICES, BOOT_ID.read_text().strip()
        before = mark.read_text().split("\n") if mark.is_file() else []
        known = before[1:] if before[:1] == [boot] else []
        mark.write_text("\n".join([boot, *sorted({*known, *spec.devices})]))

    def traces(self) -> bool:
        """Whether anything may still live that no cgroup would show; what cannot be read may. Never raises."""
        mark = self.folder / UNPROVEN
        try:
            if not self.folder.is_dir():
                return False
            if mark.is_file() and mark.read_bytes() != BOOT_ID.read_bytes():
                with contextlib.suppress(OSError):  # on a disk that takes nothing it stays a trace, which is doubt
                    mark.unlink()
            return any(not child.name.startswith(whereabouts.FILE) for child in self.folder.iterdir())
        except OSError:
            return True
