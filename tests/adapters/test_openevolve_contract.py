"""What we rely on in OpenEvolve that nobody promised us: each test says in words what upstream would have changed.

Nothing of ours runs here but the few functions that must agree with theirs.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import pickle
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion
from openevolve import OpenEvolve, __version__, api
from openevolve.config import Config, DatabaseConfig, EvaluatorConfig, LLMModelConfig
from openevolve.controller import EvolutionFailedError
from openevolve.database import Program, ProgramDatabase
from openevolve.evaluation_result import EvaluationResult
from openevolve.evaluator import Evaluator
from openevolve.llm.ensemble import LLMEnsemble
from openevolve.llm.openai import OpenAILLM
from openevolve.population import PopulationStrategy, ProgramState
from openevolve.process_parallel import ProcessParallelController


def changed(what: str) -> str:
    """The sentence with which every check fails."""
    return f"OpenEvolve {__version__} is not what the adapter was written for: {what}"


def require(holds: object, what: str) -> None:
    assert holds, changed(what)


def names(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


# ---------------------------------------------------------------- the door


def test_the_version_lies_in_the_range_that_we_ask_for(repo: Path) -> None:
    asked = tomllib.loads((repo / "pyproject.toml").read_text())["project"]["optional-dependencies"]["openevolve"]
    assert asked == ["openevolve>=0.4.1,<0.5"]
    require((0, 4, 1) <= tuple(int(part) for part in __version__.split(".")[:3]) < (0, 5), "it is out of the range")


def test_a_run_takes_the_arguments_that_ours_hands_on() -> None:
    theirs = [
        "initial_program", "evaluator", "config", "iterations", "output_dir", "cleanup", "target_score",
        "checkpoint_path", "island_selector", "population_strategy",
    ]  # fmt: skip  # a list of words reads best as a block
    require(names(api.run_evolution) == theirs, "`run_evolution` takes other arguments; ours must take the same")
    made = ["initial_program_path", "evaluation_file", "config", "output_dir", "island_selector", "population_strategy"]
    require(names(OpenEvolve.__init__) == made, "`OpenEvolve` is made from other arguments")
    require(names(OpenEvolve.run) == ["iterations", "target_score", "checkpoint_path"], "`OpenEvolve.run` takes others")


def test_a_result_is_made_of_what_ours_is_made_of() -> None:
    held = {"best_program", "best_score", "best_code", "metrics", "output_dir"}
    require(fields(api.EvolutionResult) == held, "`EvolutionResult` holds other fields")
    require(issubclass(EvolutionFailedError, RuntimeError), "a run without any program ends otherwise than by raising")


def test_programs_and_evaluators_are_taken_in_the_forms_that_upstream_takes(tmp_path: Path) -> None:
    rest: list[str] = []
    path = api._prepare_program("x = 1", str(tmp_path), rest)
    text = Path(path).read_text()
    require("EVOLVE-BLOCK-START" in text and "x = 1" in text, "a program given as text is written otherwise")
    path = api._prepare_evaluator(lambda where: {"combined_score": 1.0, "was": len(where)}, str(tmp_path), rest)
    require("def evaluate(" in Path(path).read_text(), "an evaluator given as a function becomes no evaluator file")
    require(rest and all(Path(each).parent == tmp_path for each in rest), "what is made for a run is put elsewhere")


# ---------------------------------------------------------------- admission


def database(admit: Callable[..., object]) -> ProgramDatabase:
    config = DatabaseConfig(num_islands=1, population_size=10, archive_size=5)
    return ProgramDatabase(config, population_strategy=PopulationStrategy(admit=admit))


def program(id: str, code: str = "x = 1") -> Program:
    return Program(id=id, code=code, metrics={"combined_score": 0.5})


def test_a_strategy_has_the_hooks_that_ours_composes_with() -> None:
    hooks = {"admit", "replace_cell", "archive", "evict", "migration_due", "migrate"}
    require(fields(PopulationStrategy) == hooks, "`PopulationStrategy` has other hooks")
    require({"id", "code", "metrics"} <= fields(ProgramState), "`admit` is told other things about a program")


def test_admit_is_asked_before_anything_of_the_program_is_stored() -> None:
    seen: list[tuple[str, int, tuple[str, ...]]] = []

    def admit(snapshot: Any, candidate: ProgramState, island: int) -> bool:
        seen.append((candidate.code, island, tuple(snapshot.programs)))
        return candidate.code != "bad"

    population = database(admit)
    require(population.add(program("a"), target_island=0) == "a", "an admitted program is not added")
    require(population.add(program("b", "bad"), target_island=0) is None, "`add` of a refused program returns a value")
    require(seen == [("x = 1", 0, ()), ("bad", 0, ("a",))], "`admit` is called otherwise, or not for every program")
    require(set(population.programs) == {"a"}, "a refused program is stored")
    require(population.best_program_id == "a", "the best program is not the admitted one")


def test_what_admit_raises_leaves_the_population_and_stops_the_run() -> None:
    class StopHere(Exception):
        pass

    def admit(*_: Any) -> bool:
        raise StopHere

    population = database(admit)
    with pytest.raises(StopHere) as caught:
        population.add(program("a"), target_island=0)
    require(getattr(caught.value, "_openevolve_strategy_error", False), "an error of a strategy is not marked as such")
    source = inspect.getsource(ProcessParallelController.run_evolution)
    require("_openevolve_strategy_error" in source, "the controller swallows what a strategy raises")


def test_admit_cannot_refuse_the_first_program_so_that_ours_has_to_stop_the_run_itself() -> None:
    with pytest.raises(ValueError, match="cannot reject the initial program"):
        database(lambda *_: False).add(program("a"), target_island=0)


def test_a_copy_that_migrates_asks_again() -> None:
    asked: list[str] = []
    config = DatabaseConfig(num_islands=2, population_size=10, archive_size=5)
    strategy = PopulationStrategy(admit=lambda _, candidate, __: asked.append(candidate.code) is None)
    population = ProgramDatabase(config, population_strategy=strategy)
    population.add(program("a"), target_island=0)
    population.migrate_programs()
    require(asked == ["x = 1"] * len(asked) and len(asked) > 1, "a migrating copy enters without being asked about")


# ---------------------------------------------------------------- the evaluator


def evaluator(file: Path, **settings: Any) -> Evaluator:
    config = EvaluatorConfig(**{"timeout": 20, "max_retries": 0, "cascade_evaluation": False, **settings})
    return Evaluator(config, str(file))


def write(folder: Path, text: str) -> Path:
    file = folder / "evaluator.py"
    file.write_text(text)
    return file


def test_an_evaluator_is_called_with_the_path_of_the_programs_text(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "import pathlib, threading\n"
        "def evaluate(program_path, *, factor=1):\n"
        "    main = threading.current_thread() is threading.main_thread()\n"
        "    text = pathlib.Path(program_path).read_text(encoding='utf-8')\n"
        "    return {'combined_score': factor * len(text), 'main': main}\n",
    )
    theirs = evaluator(file, evaluator_args={"factor": 2})
    got = asyncio.run(theirs.evaluate_program("é = 1", "p"))
    require(got == {"combined_score": 10, "main": False}, "`evaluate` is called otherwise")


def test_a_result_may_be_a_dict_or_hold_artifacts(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "from openevolve.evaluation_result import EvaluationResult\n"
        "def evaluate(path):\n"
        "    return EvaluationResult(metrics={'combined_score': 1.0}, artifacts={'note': 'seen'})\n",
    )
    theirs = evaluator(file)
    got = asyncio.run(theirs.evaluate_program("x = 1", "p"))
    require(got == {"combined_score": 1.0}, "metrics of a result with artifacts come out otherwise")
    require(theirs.get_pending_artifacts("p") == {"note": "seen"}, "artifacts are not kept for the prompt")
    require(fields(EvaluationResult) == {"metrics", "artifacts"}, "`EvaluationResult` holds other fields")


def test_without_retries_a_program_is_evaluated_once(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    calls.touch()
    text = (
        "import pathlib\n"
        f"CALLS = pathlib.Path({str(calls)!r})\n"
        "def evaluate(path):\n"
        "    CALLS.write_text(CALLS.read_text() + 'x')\n"
        "    raise RuntimeError('no')\n"
    )
    got = asyncio.run(evaluator(write(tmp_path, text)).evaluate_program("x = 1", "p"))
    require(calls.read_text() == "x", "`max_retries = 0` still tries again")
    require(got == {"error": 0.0}, "an evaluator that raises gives other metrics")


CASCADE = """
import pathlib
def note(stage):
    pathlib.Path(LOG).write_text(pathlib.Path(LOG).read_text() + str(stage))
    return {"combined_score": SCORES[stage - 1]}
def evaluate(path):
    return {"combined_score": 9.0}
def evaluate_stage1(path):
    return note(1)
def evaluate_stage2(path):
    return note(2)
def evaluate_stage3(path):
    return note(3)
"""


@pytest.mark.parametrize(
    ("scores", "thresholds", "stages"),
    [
        ([0.1, 0.9, 0.9], [0.5, 0.75], "1"),
        ([0.6, 0.7, 0.9], [0.5, 0.75], "12"),
        ([0.6, 0.8, 0.9], [0.5, 0.75], "123"),
        ([0.6, 0.8, 0.9], [0.5], "12"),
    ],
)
def test_a_cascade_calls_its_stages_with_one_path_and_ends_where_we_think(
    tmp_path: Path, scores: list[float], thresholds: list[float], stages: str
) -> None:
    from keyturn.adapters.openevolve.cascade import Cascade

    log = tmp_path / "log"
    log.touch()
    text = f"LOG, SCORES = {str(log)!r}, {scores!r}\n{CASCADE}"
    theirs = evaluator(write(tmp_path, text), cascade_evaluation=True, cascade_thresholds=thresholds)
    asyncio.run(theirs.evaluate_program("x = 1", "p"))
    require(log.read_text() == stages, "a cascade goes through other stages")
    ours = Cascade(thresholds=tuple(thresholds), stages=3)
    told = [ours.ends(stage, {"combined_score": scores[stage - 1]}) for stage in range(1, len(stages) + 1)]
    assert told == [False] * (len(stages) - 1) + [True]


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"combined_score": 0.5},
        {"combined_score": "0.9", "other": 0.1},
        {"a": 0.2, "b": 0.9, "error": 9.0},
        {"passed": True, "a": 0.4},
        {"note": "text only"},
        {"combined_score": float("nan")},
        {"combined_score": True},
    ],
)
def test_a_threshold_is_passed_as_we_think(metrics: Mapping[str, Any]) -> None:
    from keyturn.adapters.openevolve.cascade import passes

    theirs = Evaluator._passes_threshold(SimpleNamespace(), metrics, 0.5)
    require(passes(metrics, 0.5) == theirs, f"the threshold of a cascade reads {dict(metrics)!r} otherwise")


def test_the_fields_of_the_configuration_that_we_read_or_set_are_there() -> None:
    config = Config()
    for path in (
        "evaluator.timeout", "evaluator.max_retries", "evaluator.cascade_evaluation", "evaluator.cascade_thresholds",
        "evaluator.parallel_evaluations", "evaluator.use_llm_feedback", "database.embedding_model", "llm.models",
        "llm.evaluator_models", "max_tasks_per_child", "random_seed", "file_suffix", "max_iterations",
    ):  # fmt: skip  # a list of words reads best as a block
        value: Any = config
        for name in path.split("."):
            require(hasattr(value, name), f"the configuration has no `{path}`")
            value = getattr(value, name)


# ---------------------------------------------------------------- metering


def fake_client(config: LLMModelConfig) -> SimpleNamespace:
    return SimpleNamespace(made_for=config.name)


def test_a_model_is_made_by_our_function_where_one_is_set() -> None:
    made = LLMEnsemble([LLMModelConfig(name="m", init_client=fake_client)])
    require(made.models == [SimpleNamespace(made_for="m")], "`init_client` no longer makes the model")


def test_our_function_reaches_the_workers() -> None:
    config = Config()
    config.llm.models = [LLMModelConfig(name="m", init_client=fake_client)]
    controller = ProcessParallelController(config, "evaluator.py", ProgramDatabase(DatabaseConfig()))
    sent = pickle.loads(pickle.dumps(controller._serialize_config(config)))
    kept = sent["llm"]["models"][0].get("init_client")
    require(kept is fake_client, "`init_client` is not handed to the workers")


def test_a_request_goes_through_the_one_call_that_we_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    calls: list[dict[str, Any]] = []

    async def create(**params: Any) -> ChatCompletion:
        calls.append(params)
        return ChatCompletion.model_validate(COMPLETION)

    config = LLMModelConfig(name="m", api_base="http://127.0.0.1:9", api_key="none", max_tokens=7, timeout=5, retries=0)
    made = OpenAILLM(config)
    require(isinstance(made.client, openai.AsyncOpenAI), "the client is another one")
    require(callable(made.client.with_options(max_retries=0).chat.completions.create), "a client cannot be copied")
    made.client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    said = asyncio.run(made.generate_with_context("system", [{"role": "user", "content": "hello"}]))
    require(said == "answer" and len(calls) == 1, "a request does not go through `client.chat.completions.create`")
    require({"model", "messages", "max_tokens"} <= set(calls[0]), "a request names other parameters")


COMPLETION = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "answer"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "cost": 0.25},
}


def test_what_an_endpoint_says_about_its_price_is_kept() -> None:
    usage = ChatCompletion.model_validate(COMPLETION).usage
    require(getattr(usage, "cost", None) == 0.25, "the client drops what the endpoint says beside the tokens")


# ---------------------------------------------------------------- stopping


def test_a_run_can_be_asked_to_stop() -> None:
    controller = ProcessParallelController(Config(), "evaluator.py", ProgramDatabase(DatabaseConfig()))
    controller.request_shutdown()
    require(controller.shutdown_event.is_set(), "`request_shutdown` no longer sets the event that the run looks at")
    source = inspect.getsource(OpenEvolve.run)
    require(
        "self.parallel_controller = ProcessParallelController(" in source, "the controller of workers lies elsewhere"
    )
    require("self.parallel_controller.stop()" in source, "the workers are not stopped at the end of a run")
    for signal in ("SIGINT", "SIGTERM"):
        require(f"signal.signal(signal.{signal}," in source, f"{signal} is no longer handled")


def test_the_best_program_is_what_upstream_tracks() -> None:
    population = database(lambda *_: True)
    population.add(program("a"), target_island=0)
    require(population.get(population.best_program_id).id == "a", "the best program is tracked otherwise")
    require(population.get_best_program().id == "a", "`get_best_program` gives another one")


def test_a_saved_population_is_laid_out_as_we_sift_it(tmp_path: Path) -> None:
    population = database(lambda *_: True)
    population.add(program("a"), target_island=0)
    population.add(program("b", "x = 2"), target_island=0)
    population.save(str(tmp_path), 7)
    read = {file.stem: json.loads(file.read_text()) for file in (tmp_path / "programs").glob("*.json")}
    require(
        {id: body["code"] for id, body in read.items()} == {"a": "x = 1", "b": "x = 2"}, "programs are saved otherwise"
    )
    about = json.loads((tmp_path / "metadata.json").read_text())
    require(about.get("best_program_id") == "a", "the best of a saved population is named otherwise")
    (tmp_path / "programs" / "a.json").unlink()
    again = database(lambda *_: True)
    again.load(str(tmp_path))
    require(set(again.programs) == {"b"}, "a program that was taken out of a saved population comes back")
    require(again.get_best_program().id == "b", "without its best, a saved population has none")
    require(again.last_iteration == 7, "a saved population does not say how far it came")


def test_what_we_ask_of_a_controller_is_there() -> None:
    require(names(Evaluator.evaluate_program) == ["program_code", "program_id"], "a program is evaluated otherwise")
    source = inspect.getsource(OpenEvolve.__init__)
    for held in ("self.evaluator = Evaluator(", "self.database = ProgramDatabase(", "self.parallel_controller = None"):
        require(held in source, f"a controller no longer holds `{held.split(' =')[0]}`")
