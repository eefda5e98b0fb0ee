"""A backend that claims to be tight and contains nothing: every probe of the suite must find that out.

It runs the probes as plain children, under a process of ours that plays the one which holds a sandbox.
"""

from __future__ import annotations

import sys
from pathlib import Path

from keyturn.core.terms import Digest, Tier
from keyturn.sandbox.port import Attestation, Capabilities, Receipt, Runtime, Spec
from keyturn.sandbox.suite.places import INSIDE, OUT_INSIDE, PROBES, SCRATCH_INSIDE, BareRun, How
from tests.sandbox.fake import receipt


class BareParked:
    """See `port.Parked`."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self._spec, self._folder = spec, folder

    def attest(self) -> Attestation:
        return Attestation(Tier.T2, {"backend": "bare"})

    def go(self) -> BareRun:
        """Run it on the host, where what it would see inside is meant to lie."""
        spec, seen = self._spec, {mount.target: mount.source for mount in self._spec.mounts}
        for target, name in {OUT_INSIDE: "out", SCRATCH_INSIDE: "scratch"}.items():
            seen[target] = self._folder / name
            seen[target].mkdir(exist_ok=True)
        program, probe, facts = spec.argv[4:]
        for target, source in seen.items():
            facts = facts.replace(f'"{target}"', f'"{source}"')
        assert spec.argv[3].startswith(INSIDE)
        words = (str(PROBES / "attempt.py"), "--hold", program, probe, facts)
        how = How(answer=spec.purpose == "answer", wall_seconds=spec.limits.wall_seconds)
        return BareRun((sys.executable, "-I", "-S", *words), how, self._folder / "out")

    def tick(self) -> bool:
        return True

    def halt(self, why: str) -> Receipt:
        return receipt("nothing runs", why, 0)

    def close(self) -> None:
        """Nothing was started."""


class BareBackend:
    """See `port.Backend`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def runtime(self, name: str = "python-numpy") -> Runtime:
        return Runtime(name, sys.executable, (), (), Digest("sha256:" + "0" * 64))

    def capabilities(self) -> Capabilities:
        return Capabilities(Tier.T2, {"backend": "bare"})

    def prepare(self, spec: Spec) -> BareParked:
        return BareParked(spec, self._folder)

    def halt_all(self, why: str) -> Receipt:
        return receipt("nothing runs", why, 0)

    def sweep(self) -> Receipt:
        return receipt("nothing was left", "start", 0)

    def close(self) -> None:
        """Nothing is kept."""
