"""`run_evolution`, with the same arguments as OpenEvolve's and a project: the whole run is one governed improve step.

It never decides: programs run where the governor runs them, enter the population where it admits them, and the best is
proposed to it. When the governor says stop, OpenEvolve is asked to shut down.
"""

from __future__ import annotations

import asyncio
import copy
import math
import re
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dacite import DaciteError
from openevolve import OpenEvolve, __version__, api
from openevolve.config import Config, load_config
from openevolve.controller import EvolutionFailedError
from openevolve.database import Program
from openevolve.population import PopulationStrategy
from openevolve.selection import IslandSelector
from yaml import YAMLError  # type: ignore[import-untyped]  # it comes without types

from keyturn.adapters.openevolve.admitting import Admitting, Report, Stopping, score_of, strategy
from keyturn.adapters.openevolve.checkpoint import sifted
from keyturn.adapters.openevolve.evaluation import Settings
from keyturn.adapters.openevolve.metering import meter
from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.sdk.errors import Refused, Stopped
from keyturn.sdk.run import Outcome, Run, govern

WATCH_SECONDS: Final = 0.05
QUIET_SECONDS: Final = 0.5
"""How long no program is at work before a run whose bounds are used up is stopped, so that its last results count."""

METERED: Final = ("requests_max", "tokens_max", "usd_max")
CLAIMED: Final = "score"
"""The figure of the claim that is the loop's score, whatever its evaluator calls it."""

NO_BETTER: Final = "no program scored better than the generation that the run started from"
_FIGURE: Final = re.compile(r"(?!(?:best|self)$)[a-z][a-z0-9_]{0,40}")


@dataclass(repr=False)  # upstream's own is short
class Governed(api.EvolutionResult):  # type: ignore[misc]  # OpenEvolve comes without types
    """OpenEvolve's result, and what became of the best program; `held` is None where a person broke the run off."""

    held: Outcome | None = None


def run_evolution(  # noqa: PLR0913, PLR0917 - these are the arguments of the function that it stands for
    initial_program: str | Path | list[str],
    evaluator: str | Path | Callable[..., Any],
    config: str | Path | Config | None = None,
    iterations: int | None = None,
    output_dir: str | None = None,
    cleanup: bool = True,
    target_score: float | None = None,
    checkpoint_path: str | None = None,
    island_selector: IslandSelector | None = None,
    population_strategy: PopulationStrategy | None = None,
    *,
    project: str | Path,
    shadow: bool = False,
    held_out: str | Path | Sequence[str | Path] | None = None,
    report: Report = lambda _: None,
) -> Governed:
    """Run OpenEvolve under the governor of `project`; the arguments before it are OpenEvolve's own.

    The run starts from the present generation, which at first is the initial program. `held_out` names files with
    `check(program)`, by default the one beside the evaluator if there is one. Raises Refused where there is no leave,
    Stopped on a halt, Unavailable when nothing came of any iteration; its step stays open then, for the next run.
    """
    configured = _configured(config)
    with _folders(output_dir, cleanup=cleanup) as (work, output):
        stopping = Stopping(report)
        checks = _checks(held_out, evaluator)
        with govern(project, name=f"openevolve {__version__}", shadow=shadow, on_stop=stopping.told) as run:
            report(_started(run))
            _say_where_it_starts(run, initial_program, work, report)
            evolution = Evolution(run, configured, work, output, report, stopping)
            evolution.make(evaluator, checks, island_selector, population_strategy)
            with _signals_kept():
                best = evolution.best(iterations, target_score, checkpoint_path)
            return evolution.finished(best, output_dir=None if cleanup else str(output))


class Evolution:
    """One run of OpenEvolve's controller, watched: stopped when the governor says so, or when a person does."""

    def __init__(self, run: Run, config: Config, work: Path, output: Path, report: Report, stopping: Stopping) -> None:
        self._run, self._config, self._report, self._stopping = run, config, report, stopping
        self._work, self._output, self._stubs = work, output, work / "stubs"
        self._stubs.mkdir()
        self._controller: Any = None
        self._interrupts = self._stopped_turns = self._quiet_turns = 0

    def make(
        self,
        evaluator: str | Path | Callable[..., Any],
        checks: Sequence[Path],
        island_selector: IslandSelector | None,
        population_strategy: PopulationStrategy | None,
    ) -> None:
        """Make the controller: with our evaluator file, our hook before the population, and every request counted."""
        program = self._work / "initial_program.py"
        program.write_bytes(self._run.parent.encode("utf-8"))
        bounds = self._run.bounds if isinstance(self._run.bounds, dict) else {}
        meter(self._config, project=str(self._run.project), required=any(bounds.get(name) for name in METERED))
        admitting = Admitting(self._run, self._report, self._stopping)
        self._controller = OpenEvolve(
            initial_program_path=str(program),
            evaluation_file=str(self._evaluator(evaluator, checks)),
            config=self._config,
            output_dir=str(self._output),
            island_selector=island_selector,
            population_strategy=strategy(admitting, population_strategy),
        )

    def _evaluator(self, evaluator: str | Path | Callable[..., Any], checks: Sequence[Path]) -> Path:
        """Our evaluator file, which calls the user's; a program runs once, and ends before OpenEvolve gives up."""
        theirs = Path(api._prepare_evaluator(evaluator, str(self._work), [])).absolute()  # noqa: SLF001 - upstream's own reading of what it takes; the contract test holds it
        config = self._config.evaluator
        config.max_retries = 0
        if "evaluate_stage1" not in theirs.read_text(encoding="utf-8"):
            config.cascade_evaluation = False
        seconds = float(config.timeout)
        settings = Settings(
            project=str(self._run.project),
            folder=str(self._stubs),
            evaluator=str(theirs),
            held_out=tuple(str(each) for each in checks),
            seconds=max(seconds - 1, seconds / 2),
            timeout_seconds=seconds,
            bytes_max=self._run.bytes_max,
            thresholds=tuple(config.cascade_thresholds) if config.cascade_evaluation else None,
        )
        file = self._work / "governed_evaluator.py"
        file.write_text(settings.file(), encoding="utf-8")
        return file

    def best(self, iterations: int | None, target_score: float | None, saved: str | None) -> Program | None:
        """The best program of a whole run; none where the bounds were used up before its first one was judged.

        A step that was left open then has nothing to go on with, so it has to end: nobody else could end it.
        """
        try:
            return asyncio.run(self.evolved(iterations, target_score, saved))
        except Refused:
            if self._stopping.stop is None:
                raise
            return None

    async def evolved(self, iterations: int | None, target_score: float | None, saved: str | None) -> Program | None:
        """Run to the end, and give the best program by OpenEvolve's own choice."""
        checkpoint = await self._sifted(Path(saved)) if saved else None
        try:
            async with self._watched():
                return await self._controller.run(
                    iterations=iterations, target_score=target_score, checkpoint_path=checkpoint
                )
        except EvolutionFailedError as fault:
            self._raise_halt()
            if self._stopping.stop is not None:  # nothing more may run, so that no later run could go on either
                best: Program | None = self._controller.database.get_best_program()
                return best
            raise Unavailable(
                f"nothing came of the run: {fault}",
                help="see whether the endpoint answers; the step stays open, and the next run goes on with it",
            ) from fault

    async def _sifted(self, saved: Path) -> str | None:
        """What may be gone on from, of a population that was saved."""

        async def again(text: str) -> object:
            return await self._controller.evaluator.evaluate_program(text, str(uuid.uuid4()))

        kept, left_out = await sifted(saved, self._work / "saved", self._run, again)
        if left_out:
            what = "program was" if left_out == 1 else "programs were"
            said = f"{left_out} saved {what} not admitted in this step, and left out"
            self._report({"type": "tell", "text": said})
        if kept is None:
            self._report({"type": "tell", "text": "nothing of what was saved may be gone on from: the run starts anew"})
        return str(kept) if kept is not None else None

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        """Ask OpenEvolve to shut down when the governor or a person says so.

        Its own handler of signals takes a lock that the interrupted code may hold, and would then wait for ever; ours
        only counts, and the shutdown is asked for here.
        """
        handled = False
        while True:
            workers = self._controller.parallel_controller
            if workers is not None and not handled:
                handled = True
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, self._interrupted)
            if workers is not None and (self._over() or self._interrupts):
                workers.request_shutdown()
            await asyncio.sleep(WATCH_SECONDS)

    def _over(self) -> bool:
        """Whether to stop now: at once on a halt, else once what is at work has ended, and no later than it must."""
        stop = self._stopping.stop
        if stop is None or stop.halted:
            return stop is not None
        self._stopped_turns += 1
        self._quiet_turns = 0 if any(self._stubs.iterdir()) else self._quiet_turns + 1
        late = self._stopped_turns * WATCH_SECONDS > self._config.evaluator.timeout
        return late or self._quiet_turns * WATCH_SECONDS > QUIET_SECONDS

    def _interrupted(self, number: int, frame: object) -> None:
        self._interrupts += 1
        if self._interrupts > 1:
            raise KeyboardInterrupt

    def finished(self, best: Program | None, *, output_dir: str | None) -> Governed:
        """Propose the best program, where it is a new one, and say what became of it. Raises Stopped on a halt."""
        self._raise_halt()
        held = None
        if not self._interrupts:
            held = self._proposed(best) if best is not None else self._run.end(NO_BETTER)
        metrics = dict(best.metrics or {}) if best is not None else {}
        code = best.code if best is not None else ""
        return Governed(best, score_of(metrics) or 0.0, code, metrics, output_dir, held)

    def _raise_halt(self) -> None:
        stop = self._stopping.stop
        if stop is not None and stop.halted:
            raise Stopped(stop.why, halted=True)

    def _proposed(self, best: Program) -> Outcome:
        if best.code == self._run.parent:
            return self._run.end(NO_BETTER)
        return self._run.held(best.code, **claim_of(best.metrics or {}))


def claim_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What the loop says of its best program: its numbers by their names, and its score by ours."""
    claim = {
        name: float(value)
        for name, value in metrics.items()
        if _FIGURE.fullmatch(name) and isinstance(value, int | float) and not isinstance(value, bool)
    }
    score = score_of(metrics)
    claim |= {CLAIMED: score} if score is not None else {}
    return {name: value for name, value in claim.items() if math.isfinite(value) and abs(value) < 2**53}


def _configured(config: str | Path | Config | None) -> Config:
    """The configuration, a copy of what was handed in; raises `MalformedInput` where it cannot lead to a run."""
    if isinstance(config, str | Path) and not Path(config).is_file():
        raise MalformedInput(f"there is no configuration at `{config}`", help="name a `config.yaml`")
    made = copy.deepcopy(config) if isinstance(config, Config) else _read(str(config)) if config else Config()
    if not made.llm.models:
        raise MalformedInput("the configuration names no model", help="name one under `llm.models`")
    return made


def _read(config: str) -> Config:
    """A configuration as OpenEvolve reads it; whatever it cannot read is the file's fault, and said so."""
    try:
        return load_config(config)
    except (OSError, ValueError, TypeError, AttributeError, YAMLError, DaciteError) as fault:
        said = " ".join(str(fault).split())[:300]
        raise MalformedInput(
            f"OpenEvolve cannot read `{config}`: {said}", help="mend the file, or set the variable that it names"
        ) from fault


def _checks(
    held_out: str | Path | Sequence[str | Path] | None, evaluator: str | Path | Callable[..., Any]
) -> tuple[Path, ...]:
    """The files with held-out checks; every one that was named must be there."""
    if held_out is None:
        beside = Path(evaluator).parent / "held_out.py" if isinstance(evaluator, str | Path) else None
        return (beside.absolute(),) if beside is not None and beside.is_file() else ()
    named = [held_out] if isinstance(held_out, str | Path) else held_out
    paths = tuple(Path(each).absolute() for each in named)
    for path in paths:
        if not path.is_file():
            raise MalformedInput(f"there is no held-out check at `{path}`", help="name a file with `check(program)`")
    return paths


@contextmanager
def _folders(output_dir: str | None, *, cleanup: bool) -> Iterator[tuple[Path, Path]]:
    """A folder of our own for the length of the run, and the one where OpenEvolve writes."""
    work = Path(tempfile.mkdtemp(prefix="keyturn-openevolve-"))
    output = Path(output_dir or (work / "output" if cleanup else "openevolve_output")).absolute()
    try:
        output.mkdir(parents=True, exist_ok=True)
        yield work, output
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Leave the handlers of signals as they were: OpenEvolve sets its own, and leaves them behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _started(run: Run) -> dict[str, Any]:
    told = {"generation": run.generation, "attempt": run.attempt, "shadow": run.shadow, "resumed": run.resumed}
    return {"type": "started", **told, "bounds": run.bounds, "used": run.used_before}


def _say_where_it_starts(run: Run, initial_program: str | Path | list[str], work: Path, report: Report) -> None:
    """The next run starts from what people released and from nothing else; say so where another program was named."""
    named = Path(api._prepare_program(initial_program, str(work), []))  # noqa: SLF001 - upstream's own reading of what it takes; the contract test holds it
    if named.read_bytes().decode("utf-8", "replace") != run.parent:
        what = "what shadow mode made last" if run.shadow and run.attempt > 1 else f"generation {run.generation}"
        said = f"the run starts from {what}, which is not the initial program that was named"
        report({"type": "tell", "text": said})
