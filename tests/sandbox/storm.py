"""Storms: random orders of everything that may happen to sandboxes, each reproducible by its seed.

`python -m tests.sandbox.storm FIRST COUNT` runs storms and prints one line of JSON. Every receipt is compared, by code
that is not ours, with every process that the storm ever saw: none of them may live when it says STOPPED. In the end all
are dead, nothing of ours is left, and bystanders live. A storm that breaks a promise says its seed and what it did.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from keyturn.core.errors import Conflict, Unavailable
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.port import Limits, Receipt, Runtime, Spec
from keyturn.sandbox.running import BubblewrapParked, BubblewrapRunning
from tests.sandbox import census, kills
from tests.sandbox.nursery import SUBJECT, Nursery, Order, nursery

LIMITS = Limits(memory_bytes=256 << 20, processes_max=64, wall_seconds=60, out_bytes=1 << 20, tmp_bytes=1 << 20)
One = BubblewrapParked | BubblewrapRunning
States = Counter[str]
FREEZE_SECONDS = 5.0


class Broken(AssertionError):
    """A promise was broken; the words say which, by which seed, and what was done until then."""


class Storm:
    """One storm over one governor's sandboxes."""

    def __init__(self, seed: int, folder: Path, runtime: Runtime, governors: Nursery) -> None:
        self.seed, self.folder, self.runtime, self.governors = seed, folder, runtime, governors
        self.dice = random.Random(seed)
        self.run_root = folder / f"run-{seed}"
        self.backend = Bubblewrap(self.run_root, runtime_cache=folder / "runtime.json")
        self.there: dict[str, One] = {}
        self.seen: dict[str, set[census.Identity]] = {}
        self.steps: list[str] = []
        self.states: States = Counter()

    # -- looking

    @property
    def place(self) -> Path:
        """The cgroup of all of them, wherever it was made."""
        return census.unified(self.run_root)

    def require(self, true: object, promise: str) -> None:
        """Break off where a promise does not hold."""
        if not true:
            told = "\n  ".join(self.steps)
            again = f"python -m tests.sandbox.storm {self.seed} 1"
            raise Broken(f"{promise}\nseed {self.seed}, again by `{again}`:\n  {told}")

    def look(self) -> None:
        """Take down everybody who lives in any sandbox of this storm."""
        for name in list(self.there):
            self.seen.setdefault(name, set()).update(census.members(self.place / name))

    def judge(self, receipt: Receipt, names: list[str]) -> None:
        """Nobody of these sandboxes may live once a receipt says STOPPED."""
        living = {name: census.members(self.place / name) for name in names}
        living |= {name: {one for one in self.seen.get(name, ()) if census.lives(one)} | living[name] for name in names}
        counted = [name for name in names if census.populated(self.place / name)]
        self.states[receipt.state] += 1
        told = f"{receipt.scope} is {receipt.state}, while there live {living} {counted}"
        self.require(receipt.state != "STOPPED" or not (any(living.values()) or counted), told)
        self.require(receipt.state in {"STOPPED", "UNPROVEN"}, f"a state `{receipt.state}`")

    # -- what may happen

    def spawn(self) -> None:
        """A sandbox with some daemons, parked or let go."""
        daemons, stays = self.dice.choice([0, 0, 1, 2, 6]), self.dice.choice([0.0, 0.02, 60.0, 60.0])
        goes, attested, rests = self.dice.random() < 0.85, self.dice.random() < 0.3, self.dice.uniform(0, 0.04)
        self.steps.append(f"spawn {daemons} daemons, stays {stays}, goes {goes}, attested {attested}, rest {rests:.4f}")
        code = SUBJECT.format(daemons=daemons, stays=stays)
        lease = self.dice.choice([0.6, 5.0])
        spec = Spec("improve", ("python", "-I", "-S", "-c", code), self.runtime, limits=LIMITS, lease_seconds=lease)
        try:
            parked = self.backend.prepare(spec)
        except Unavailable as error:
            self.steps.append(f"  it could not be built: {error.message}")
            self.require("launcher" in error.message or "halt" in error.message or "went away" in error.message, error)
            return
        self.there[parked.id] = parked
        self.look()
        if attested:
            problems = parked.attest().problems
            self.require(not problems, f"attested problems: {problems}")
        if goes:
            self.there[parked.id] = parked.go()
            time.sleep(rests)
            self.there[parked.id].tick()
        self.look()

    def chosen(self) -> One | None:
        return self.there[self.dice.choice(sorted(self.there))] if self.there else None

    def someone_dies(self) -> None:
        """Any one process of a sandbox, be it the subject, a daemon, init or the monitor."""
        one = self.chosen()
        living = sorted(census.members(self.place / one.id)) if one is not None else []
        if one is None or not living:
            return
        at = self.dice.randrange(len(living))
        self.steps.append(f"process {at} of {len(living)} in {one.id} dies")
        with suppress(ProcessLookupError):
            os.kill(living[at][0], signal.SIGKILL)
        if self.dice.random() < 0.5:
            time.sleep(self.dice.uniform(0, 0.005))

    def together(self, acts: list[Callable[[], object]]) -> None:
        """Do all of these at once; what any of them raises is a broken promise."""
        failed: list[BaseException] = []
        barrier = threading.Barrier(len(acts))

        def run(act: Callable[[], object]) -> None:
            barrier.wait()
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - another thread's failure is told in ours
                failed.append(error)

        threads = [threading.Thread(target=run, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in failed:
            if isinstance(error, Broken):
                raise error
            self.require(False, f"{type(error).__name__}: {error}")

    def halt_one(self) -> None:
        """One sandbox or several, each from several threads."""
        chosen = [one for one in (self.chosen() for _ in range(self.dice.choice([1, 1, 2, 3]))) if one is not None]
        if not chosen:
            return
        frozen = self.dice.random() < 0.3
        self.steps.append(f"halt {[one.id for one in chosen]}{', all held still' if frozen else ''}")
        if frozen:
            self.backend.freeze(FREEZE_SECONDS)
        self.look()
        self.together([lambda one=one: self.judge(one.halt("storm"), [one.id]) for one in chosen])  # type: ignore[misc]  # bound at once by its default
        if frozen:
            self.thaw()

    def thaw(self) -> None:
        """Let everything go on; where that is refused, only a halt is left, as its caller is told."""
        try:
            self.backend.thaw()
        except (Conflict, Unavailable) as refused:
            self.steps.append(f"the thaw is refused: {refused.message}")
            self.judge(self.backend.halt_all("storm"), list(self.there))

    def halt_all(self) -> None:
        """Everything, from several threads, sometimes while a sandbox is being built."""
        self.look()
        threads, building = self.dice.choice([1, 1, 2, 3]), self.dice.random() < 0.35
        early = self.dice.uniform(0, self.dice.choice([0.003, 0.05]))
        self.steps.append(f"halt all from {threads} threads{f', {early:.4f} s into a launch' if building else ''}")
        names = list(self.there)
        acts: list[Callable[[], object]] = [lambda: self.judge(self.backend.halt_all("storm"), names)] * threads
        if building:
            acts = [lambda: self.halted_while_built(early)]
        self.together(acts)
        self.look()

    def halted_while_built(self, early: float) -> None:
        """What began to be built before a halt, and was not done, never starts, and does not outlive the receipt."""
        code = SUBJECT.format(daemons=1, stays=60.0)
        spec = Spec("improve", ("python", "-I", "-S", "-c", code), self.runtime, limits=LIMITS)
        built: list[BubblewrapParked] = []
        refused: list[Unavailable] = []

        def build() -> None:
            try:
                built.append(self.backend.prepare(spec))
            except Unavailable as error:
                refused.append(error)

        folders = self.folders()
        thread = threading.Thread(target=build)
        thread.start()
        time.sleep(early)
        before = thread.is_alive() and self.folders() > folders  # it has begun, as anyone can see
        receipt = self.backend.halt_all("storm")
        halfway = thread.is_alive()
        living = census.members(self.place)
        names = list({*self.there, *(one.id for one in built)})
        self.judge(receipt, names)
        if before:
            self.require(receipt.state != "STOPPED" or not living, f"STOPPED, while {living} of a launch live")
        thread.join()
        self.require(len(built) + len(refused) == 1, "a launch ended in nothing")
        after = census.members(self.place)
        if before and halfway:
            self.require(not after or receipt.state != "STOPPED", f"{after} of a launch came to life after the receipt")
        for parked in built:
            self.there[parked.id] = parked
            if before and halfway:
                with suppress(Unavailable):
                    parked.go()
                    self.require(False, "what was being built when a halt came was let go")

    def folders(self) -> int:
        """How many sandboxes have a run folder."""
        return len([place for place in self.run_root.iterdir() if place.is_dir()]) if self.run_root.exists() else 0

    def governor_lost(self) -> None:
        """The governor is gone without a word, played by closing all that it held; the next one sweeps."""
        self.look()
        self.steps.append("the governor is lost, and the next one sweeps")
        old, names = self.backend, list(self.there)
        for cell in list(old._live.values()):
            cell.ends.lease.close()
        old._launcher.close()
        self.backend = Bubblewrap(self.run_root, runtime_cache=self.folder / "runtime.json")
        self.judge(self.backend.sweep(), names)
        for one in self.there.values():
            one.close()
        self.there.clear()
        old.layout()
        os.close(old._kill_fd)

    def governor_killed(self) -> None:
        """A real governor, in a process of its own, dies at any moment of its launches, maybe with its launcher."""
        after, launcher = self.dice.uniform(0, 0.09), self.dice.random() < 0.5
        warm = self.dice.random() < 0.5
        self.steps.append(f"a governor is killed after {after:.4f} s, launcher {launcher}, warm {warm}")
        root = self.folder / f"governor-{self.seed}-{len(self.steps)}"
        governor = self.governors.governor(Order(str(root), warm=warm, sandboxes=2))
        time.sleep(after)
        death = kills.kill(governor, root, launcher=launcher)
        self.require(not death.survivors, f"a governor that was killed left {death.survivors}")
        kills.swept(root, self.folder / "runtime.json")

    def launcher_killed(self) -> None:
        process = self.backend._launcher._process
        if process is None:
            return
        self.steps.append("the launcher is killed")
        process.kill()
        if self.dice.random() < 0.5:
            process.wait()

    def freeze_and_thaw(self) -> None:
        """Hold everything still for a moment; nobody may have been let go on who was not held."""
        held = self.backend.freeze(FREEZE_SECONDS)
        self.steps.append(f"freeze everything: {held.state}; and thaw it")
        time.sleep(self.dice.uniform(0, 0.003))
        self.thaw()

    def wait_for_one(self) -> None:
        one = self.chosen()
        if isinstance(one, BubblewrapRunning):
            self.look()
            seconds = self.dice.choice([0.0, 0.01, 0.03])
            self.steps.append(f"wait {seconds} s for {one.id}")
            one.wait(seconds)
            self.require(not census.members(self.place / one.id), "the end of a wait, and somebody lives")

    def close_one(self) -> None:
        one = self.chosen()
        if one is not None:
            self.look()
            self.steps.append(f"close {one.id}")
            one.close()
            del self.there[one.id]
            self.require(not [who for who in self.seen[one.id] if census.lives(who)], "closed, and somebody lives")

    # -- all of it

    def run(self) -> States:
        """Let it storm, and look that nothing is left."""
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not named
        acts = [self.spawn] * 6 + [self.someone_dies] * 4 + [self.halt_one] * 4 + [self.halt_all] * 2
        acts += [self.launcher_killed, self.freeze_and_thaw, self.wait_for_one, self.close_one, self.governor_lost]
        acts += [self.governor_killed] if self.seed % 3 == 0 else []
        try:
            self.spawn()
            for _ in range(self.dice.randint(3, 6)):
                self.dice.choice(acts)()
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"{type(error).__name__}: {error}; seed {self.seed}, after {self.steps}") from error
        finally:
            self.look()
            for one in self.there.values():
                one.close()
            self.backend.close()
        self.nothing_left(before)
        return self.states

    def nothing_left(self, descriptors: int) -> None:
        """Everybody is dead, and no cgroup, folder or descriptor of ours is left."""
        alive = [one for seen in self.seen.values() for one in seen if census.lives(one)]
        self.require(not alive, f"in the end there live {alive}")
        cgroups = [place for place in census.cgroups_of(self.run_root) if place.exists()]
        self.require(not cgroups, f"cgroups are left: {cgroups}")
        self.require(not self.folders(), f"folders are left in {self.run_root}")
        now = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not named
        self.require(now == descriptors, f"{now} descriptors are open, {descriptors} were before")


def storms(first: int, count: int) -> dict[str, int]:
    """Run the storms of these seeds beside bystanders, who must outlive them all."""
    states: States = Counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cache = folder / "runtime.json"
        stranger = Bubblewrap(folder / "stranger", runtime_cache=cache)
        stack.callback(stranger.close)
        runtime = stranger.runtime("python")
        argv = ("python", "-I", "-S", "-c", SUBJECT.format(daemons=0, stays=3600))
        limits = Limits(wall_seconds=3600)
        bystander = stranger.prepare(Spec("improve", argv, runtime, limits=limits, lease_seconds=3600)).go()
        place = census.unified(folder / "stranger")  # made by now
        within = census.within(30, lambda: len(census.members(place)) == 3, 0.01)
        known = census.members(place)
        governors = stack.enter_context(nursery(cache))
        for seed in range(first, first + count):
            storm = Storm(seed, folder, runtime, governors)
            states += storm.run()
            storm.require(within and census.members(place) == known and bystander.tick(), "a bystander was killed")
    return {**states, "storms": count}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(storms(int(sys.argv[1]), int(sys.argv[2]))) + "\n")
