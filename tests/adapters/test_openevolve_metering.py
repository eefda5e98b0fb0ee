"""What a request is charged with: what the endpoint says, or else the most that it can have been."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest
from openevolve.config import Config, LLMModelConfig

from keyturn.adapters.openevolve.metering import _counted, meter, metered, upper_bound
from keyturn.core.errors import MalformedInput
from keyturn.sdk import Stopped

PARAMS: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "grüß"}], "max_tokens": 50}
MOST = len('[{"role": "user", "content": "grüß"}]'.encode()) + 50


class Worker:
    """A governor that gives leave until it does not, and remembers what it was told."""

    def __init__(self, *, leave: bool = True) -> None:
        self.leave, self.told = leave, []  # type: ignore[var-annotated]  # whatever was told

    def request(self) -> None:
        if not self.leave:
            raise Stopped("3 requests are used; the warrant ends at 3")

    def used(self, *, requests: int, tokens: int, usd: float | None) -> None:
        self.told.append((requests, tokens, usd))


def charged(create: Callable[..., Any], worker: Worker) -> Any:
    async def made(**params: Any) -> Any:
        return create(**params)

    return asyncio.run(_counted(made, worker, **PARAMS))


@pytest.mark.parametrize(
    ("usage", "charge"),
    [
        ({"total_tokens": 7, "cost": 0.25}, (1, 7, 0.25)),
        ({"total_tokens": 7}, (1, 7, None)),
        ({"prompt_tokens": 3, "completion_tokens": 5, "cost": 0}, (1, 8, 0.0)),
        ({"prompt_tokens": 3, "cost": -1}, (1, MOST, None)),
        ({"total_tokens": "many", "cost": True}, (1, MOST, None)),
        ({"total_tokens": float("nan"), "cost": float("nan")}, (1, MOST, None)),
        (None, (1, MOST, None)),
    ],
)
def test_a_response_is_charged_with_what_it_says_or_with_the_most_it_can_have_used(usage: Any, charge: Any) -> None:
    worker = Worker()
    response = SimpleNamespace(usage=None if usage is None else SimpleNamespace(**usage))
    assert charged(lambda **_: response, worker) is response
    assert worker.told == [charge]
    assert upper_bound(PARAMS) == MOST


def failing(fault: BaseException) -> Callable[..., Any]:
    def create(**_: Any) -> Any:
        raise fault

    return create


REQUEST = httpx2.Request("POST", "http://127.0.0.1:9/v1/chat/completions")


@pytest.mark.parametrize(
    ("fault", "charge"),
    [
        (openai.APIStatusError("busy", response=httpx2.Response(503, request=REQUEST), body=None), (1, 0, 0.0)),
        (openai.APITimeoutError(request=REQUEST), (1, MOST, None)),
        (asyncio.CancelledError(), (1, MOST, None)),
        (RuntimeError("lost"), (1, MOST, None)),
    ],
)
def test_a_request_without_an_answer_is_charged_unless_the_endpoint_refused_it(
    fault: BaseException, charge: Any
) -> None:
    worker = Worker()
    with pytest.raises(type(fault)):
        charged(failing(fault), worker)
    assert worker.told == [charge]


def test_a_request_without_leave_is_never_sent() -> None:
    sent: list[object] = []
    with pytest.raises(Stopped, match="3 requests are used"):
        charged(lambda **_: sent.append(1), Worker(leave=False))
    assert sent == []


def test_an_endpoint_that_was_never_reached_costs_a_request_and_nothing_else() -> None:
    client = openai.AsyncOpenAI(api_key="none", base_url="http://127.0.0.1:9/v1", max_retries=0)
    worker = Worker()
    with pytest.raises(openai.APIConnectionError):
        asyncio.run(_counted(client.chat.completions.create, worker, **PARAMS))
    assert worker.told == [(1, 0, 0.0)]


def configured(**fields: Any) -> Config:
    config = Config()
    config.llm.models = [LLMModelConfig(name="m", api_key="none", api_base="http://127.0.0.1:9/v1", **fields)]
    config.llm.evaluator_models = list(config.llm.models)
    return config


def test_what_nobody_could_count_is_refused_where_it_is_bounded_and_only_there() -> None:
    config = configured(provider="claude_code")
    meter(config, project="p", required=False)
    assert config.llm.models[0].init_client is None
    with pytest.raises(MalformedInput, match="has the provider `claude_code`"):
        meter(config, project="p", required=True)
    config = configured()
    config.database.embedding_model = "e"
    with pytest.raises(MalformedInput, match="nobody counts them"):
        meter(config, project="p", required=True)
    strange = LLMModelConfig(name="m")
    made = metered(strange, project="p", required=False, inner=lambda _: SimpleNamespace(client="none"))
    assert made.client == "none"
    with pytest.raises(MalformedInput, match="another client than OpenAI's"):
        metered(strange, project="p", required=True, inner=lambda _: SimpleNamespace(client="none"))


def test_one_endpoint_for_both_ensembles_is_counted_once_and_by_itself() -> None:
    config = configured()
    meter(config, project="p", required=True)
    made = config.llm.models[0].init_client
    assert (made.keywords["inner"], config.llm.evaluator_models[0].init_client) == (None, made)
    client = made(LLMModelConfig(name="m", api_key="none", api_base="http://127.0.0.1:9/v1", retries=3)).client
    assert client.chat.completions.create.args[0].__self__._client.max_retries == 0
