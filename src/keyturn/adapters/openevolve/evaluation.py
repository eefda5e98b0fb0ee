"""The evaluator that OpenEvolve is given instead of the user's: it runs each program sealed and asks for its verdict.

The user's evaluator is called as ever, with a path; what it loads there is a proxy, and the program runs elsewhere.
Nothing of a program is ever executed in this process.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from openevolve.evaluation_result import EvaluationResult

from keyturn.adapters.openevolve.cascade import Cascade
from keyturn.core.errors import KeyturnError, MalformedInput
from keyturn.sdk.errors import Stopped
from keyturn.sdk.program import Program
from keyturn.sdk.run import digest_of
from keyturn.sdk.stub import forget, stub_for, was_loaded
from keyturn.sdk.worker import Worker

STAGES: Final = ("evaluate_stage1", "evaluate_stage2", "evaluate_stage3")
SHOWN_MAX: Final = 300
UNTOUCHED: Final = "the evaluator did not load the program; one that starts it as a command is not supported"

_FILE: Final = """\
# Written by Keyturn for one run of OpenEvolve: the user's evaluator is called with a proxy, and programs run sealed.
from keyturn.adapters.openevolve.evaluation import evaluation

globals().update(evaluation({settings!r}).functions())
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker must know. `thresholds` is none where stages are not called one after the other."""

    project: str
    folder: str
    evaluator: str
    held_out: tuple[str, ...]
    seconds: float
    timeout_seconds: float
    bytes_max: int
    thresholds: tuple[float, ...] | None

    def file(self) -> str:
        """The text of an evaluator file for OpenEvolve."""
        return _FILE.format(settings=json.dumps(asdict(self)))


@functools.cache
def evaluation(settings: str) -> Evaluation:
    """The evaluation of these settings, made once a process: OpenEvolve executes its file for every program."""
    read = json.loads(settings)
    thresholds = None if read["thresholds"] is None else tuple(read["thresholds"])
    return Evaluation(Settings(**{**read, "held_out": tuple(read["held_out"]), "thresholds": thresholds}))


def module_at(path: Path, name: str) -> ModuleType:
    """The operator's own file as a module, with its folder in reach as OpenEvolve puts it there."""
    folder = str(path.absolute().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MalformedInput(f"`{path}` cannot be loaded as Python", help="name a file that ends in `.py`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as fault:
        raise MalformedInput(
            f"`{path}` cannot be loaded: {type(fault).__name__}: {fault}",
            help=f"it runs outside the sandbox, in `{sys.executable}`: what it imports must be installed there",
        ) from fault
    return module


def function_in(module: ModuleType, name: str) -> Callable[..., Any]:
    """A function that a file of the operator's must have."""
    found = getattr(module, name, None)
    if not callable(found):
        raise MalformedInput(f"`{module.__file__}` has no function `{name}`", help=f"write `def {name}(...)` in it")
    return found  # type: ignore[no-any-return]  # what is callable may be called


@dataclass(slots=True)
class Sitting:
    """One program under evaluation; several stages may share it, which OpenEvolve calls with the same path."""

    program: Program
    stub: Path
    cascade: Cascade | None
    check_first: bool
    reasons: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)


class Evaluation:
    """The user's evaluator and checks, loaded once, and the programs that this process evaluates."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._worker = Worker(Path(settings.project), bytes_max=settings.bytes_max)
        self._user = module_at(Path(settings.evaluator), "user_evaluator")
        held_out = [module_at(Path(each), f"held_out_{n}") for n, each in enumerate(settings.held_out)]
        self._checks = [function_in(module, "check") for module in held_out]
        stages = [callable(getattr(self._user, name, None)) for name in STAGES]
        self._stages = stages.index(False) if False in stages else len(stages)
        self._sittings: dict[str, Sitting] = {}
        self._refused: dict[str, str] = {}
        self._lock = threading.Lock()

    def functions(self) -> dict[str, Callable[..., Any]]:
        """What an evaluator file must hold: `evaluate`, and the stages that the user's has, with their signatures."""
        names = ["evaluate", *STAGES[: self._stages]]
        return {name: self._sealed(function_in(self._user, name), stage) for stage, name in enumerate(names)}

    def _sealed(self, function: Callable[..., Any], stage: int) -> Callable[..., Any]:
        @functools.wraps(function)
        def evaluate(program_path: str, *args: object, **kwargs: object) -> Any:
            return self._evaluated(str(program_path), stage, lambda path: function(path, *args, **kwargs))

        return evaluate

    def _evaluated(self, path: str, stage: int, call: Callable[[str], Any]) -> Any:
        """One call of OpenEvolve; it never raises for a program, which would only be tried again."""
        try:
            sitting = self._sittings.get(path) or self._sit(path)
            return refusal(sitting) if isinstance(sitting, str) else self._called(path, sitting, stage, call)
        except KeyturnError as fault:
            self._leave(path)
            return refusal(f"not evaluated: {fault.message}")

    def _sit(self, path: str) -> Sitting | str:
        """Hand the program in; gives the reason where it is refused without running, or was refused before."""
        for left in list(self._sittings):  # OpenEvolve evaluates one program at a time: that one was given up
            self._leave(left)
        text = Path(path).read_bytes().decode("utf-8")
        if digest_of(text) in self._refused:
            return self._refused[digest_of(text)]
        program = self._worker.candidate(text, seconds=self.settings.seconds)
        if program.admission is not None:
            return self._remembered(program)
        thresholds = self.settings.thresholds
        sitting = Sitting(
            program,
            stub_for(program, Path(self.settings.folder)),
            Cascade(thresholds, self._stages) if thresholds is not None and self._stages else None,
            check_first=random.SystemRandom().random() < 0.5,
        )
        with self._lock:
            self._sittings[path] = sitting
        return sitting

    def _called(self, path: str, sitting: Sitting, stage: int, call: Callable[[str], Any]) -> Any:
        """Call the user's function with the stub, and judge once nothing more will be called."""
        result, fault, began = None, "", time.monotonic()
        try:
            if stage < 2 and self._checks:
                self._begin(sitting)
            result = call(str(sitting.stub))
            metrics, fault = _parts(result)
            if not fault and not was_loaded(sitting.stub):
                fault = UNTOUCHED
            sitting.metrics |= metrics
        except (Exception, SystemExit) as error:
            if isinstance(error, Stopped):
                raise
            fault = f"{type(error).__name__}: {error}"
        if time.monotonic() - began >= self.settings.timeout_seconds:
            fault = f"its evaluation took longer than {self.settings.timeout_seconds:g} seconds"
        if not fault and sitting.cascade is not None and stage and not sitting.cascade.ends(stage, sitting.metrics):
            return result
        if not fault and not sitting.check_first:
            self._check(sitting)
        return self._judged(path, sitting, result, fault)

    def _begin(self, sitting: Sitting) -> None:
        """Let the checks come first, or not: no program can tell which call is the one that is scored."""
        if sitting.check_first:
            self._check(sitting)
        _fresh(sitting.program)

    def _check(self, sitting: Sitting) -> None:
        """Ask every held-out check, each in a namespace of its own; what it raises refuses too."""
        for check in self._checks:
            try:
                _fresh(sitting.program)
                sitting.reasons += _words(check(sitting.program))
            except (Exception, SystemExit) as error:
                if isinstance(error, Stopped):
                    raise
                sitting.reasons.append(f"the check broke off: {type(error).__name__}: {error}")

    def _judged(self, path: str, sitting: Sitting, result: Any, fault: str) -> Any:
        """Ask for the verdict; the result goes on to OpenEvolve where the program may stay."""
        program = sitting.program
        admission = program.broken(fault) if fault else program.admit(sitting.reasons, **sitting.metrics)
        self._leave(path)
        if not admission.admitted:
            return refusal(self._remembered(program))
        return refusal(fault) if fault else result

    def _remembered(self, program: Program) -> str:
        """Why a program was refused, kept so that the same text is not run again."""
        found = program.admission.findings if program.admission is not None else ()
        self._refused[program.digest] = "; ".join(f"{each.rule}: {each.message}" for each in found)[:SHOWN_MAX]
        return self._refused[program.digest]

    def _leave(self, path: str) -> None:
        """Let go of a program; one that was not judged is recorded as given up, and refused."""
        with self._lock:
            sitting = self._sittings.pop(path, None)
        if sitting is not None:
            forget(sitting.stub)
            sitting.program.close()


def refusal(why: str) -> EvaluationResult:
    """A result that OpenEvolve can live with, for a program that may not stay."""
    return EvaluationResult(metrics={"combined_score": 0.0, "error": why or "refused"})


def _fresh(program: Program) -> None:
    """The program as just loaded, its dice begun anew, so that nothing of an earlier call shows in a later one."""
    program.reload()
    program.seed(int(program.digest[7:14], 16))


def _parts(result: Any) -> tuple[dict[str, Any], str]:
    """The metrics of a result, and what is wrong with one that is none."""
    metrics = getattr(result, "metrics", result)
    if not isinstance(metrics, dict):
        return {}, f"the evaluator returned a `{type(result).__name__}`; a dict of metrics is expected"
    endless = [
        str(name) for name, value in metrics.items() if isinstance(value, int) and abs(value) > sys.float_info.max
    ]
    if endless:  # OpenEvolve makes a float of each, and would raise where nobody expects it
        return {}, f"`{endless[0][:40]}` is a whole number beyond every float"
    return {str(name): value for name, value in metrics.items()}, ""


def _words(said: object) -> list[str]:
    """Why a check refuses: a text, several, or nothing where it does not."""
    if said is None or said is True or said == "":
        return []
    if said is False:
        return ["the check refused it"]
    return [str(each) for each in said] if isinstance(said, list | tuple) else [str(said)]
