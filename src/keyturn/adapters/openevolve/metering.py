"""Count what a run asks of its endpoints: every request asks the governor first, and says afterwards what it used.

OpenEvolve lets a configuration name the function that makes a model's client; ours makes upstream's own client and puts
itself before the one call that upstream makes. What was used and not reported counts at its upper bound.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
from openevolve.config import Config, LLMModelConfig
from openevolve.llm.openai import OpenAILLM

from keyturn.core.errors import MalformedInput
from keyturn.sdk.worker import Worker

Create = Callable[..., Awaitable[Any]]

FIGURE_MAX = 10**9
"""What no single request uses, in tokens or dollars: an endpoint that says more has said nothing."""

COUNTED = (None, "", "openai")
"""The providers whose client is the one that we know."""


@dataclass(frozen=True, slots=True)
class Account:
    """What one request used."""

    tokens: int
    usd: float | None


def metered(
    endpoint: LLMModelConfig, *, project: str, required: bool, inner: Callable[[LLMModelConfig], Any] | None = None
) -> Any:
    """Upstream's client for this model, or what the operator's own function made, with every request counted."""
    made = inner(endpoint) if inner else OpenAILLM(endpoint)
    client = getattr(made, "client", None)
    if not isinstance(client, openai.AsyncOpenAI):
        if required:
            raise uncounted(endpoint, "is asked through another client than OpenAI's")
        return made
    # The client's own retries would be requests that nobody sees; upstream tries again by itself, through us.
    create = client.with_options(max_retries=0).chat.completions.create
    counted = functools.partial(_counted, create, Worker(Path(project)))
    made.client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=counted)))
    return made


async def _counted(create: Create, worker: Worker, **params: Any) -> Any:
    """One request: leave is asked for before it, and whatever becomes of it is reported."""
    worker.request()
    with _accounted(worker, params) as keep:
        response = await create(**params)
        keep.append(account(params, response))
    return response


@contextmanager
def _accounted(worker: Worker, params: dict[str, Any]) -> Iterator[list[Account]]:
    """Report what was kept; a request that broke off used nothing, or nobody knows what."""
    kept: list[Account] = []
    try:
        yield kept
    except openai.APIError as fault:
        kept.append(Account(0, 0.0) if _never_served(fault) else Account(upper_bound(params), None))
        raise
    finally:
        last = kept[-1] if kept else Account(upper_bound(params), None)
        worker.used(requests=1, tokens=last.tokens, usd=last.usd)


def _never_served(fault: openai.APIError) -> bool:
    """Whether the endpoint refused the request, or was never reached; an answer that was lost may have its price."""
    if isinstance(fault, openai.APIStatusError):
        return True
    return type(fault.__cause__).__name__ in {"ConnectError", "ConnectTimeout"}


def account(params: dict[str, Any], response: Any) -> Account:
    """What a response says that it used; what it does not say counts at its upper bound."""
    usage = getattr(response, "usage", None)
    tokens = _figure(usage, "total_tokens")
    if tokens is None:
        asked, said = _figure(usage, "prompt_tokens"), _figure(usage, "completion_tokens")
        tokens = upper_bound(params) if asked is None or said is None else asked + said
    return Account(int(tokens), _figure(usage, "cost"))


def _figure(usage: object, name: str) -> float | None:
    """A figure that an endpoint reports, where it is one: `cost` is what some say a request cost, in US dollars."""
    value = getattr(usage, name, None)
    whole = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= FIGURE_MAX
    return float(value) if whole and isinstance(value, int | float) else None


def upper_bound(params: dict[str, Any]) -> int:
    """The most tokens that a request can have used: no token is shorter than a byte, and the answer has its limit."""
    most = params.get("max_tokens") or params.get("max_completion_tokens") or 0
    return len(json.dumps(params.get("messages", []), ensure_ascii=False).encode()) + int(most)


def meter(config: Config, *, project: str, required: bool) -> None:
    """Let every model of a configuration be counted; where bounds need it, refuse what cannot be.

    Raises `MalformedInput` for what would be asked past every count.
    """
    endpoints = {id(each): each for each in (*config.llm.models, *config.llm.evaluator_models)}
    for each in endpoints.values():
        if each.provider not in COUNTED and each.init_client is None:
            if required:
                raise uncounted(each, f"has the provider `{each.provider}`")
            continue
        each.init_client = functools.partial(metered, project=project, required=required, inner=each.init_client)
    if required and config.database.embedding_model:
        raise MalformedInput(
            f"the embeddings of `{config.database.embedding_model}` are asked for past every hook: nobody counts them",
            help="take out `database.embedding_model`, or give a warrant that bounds programs and time only",
        )


def uncounted(endpoint: LLMModelConfig, why: str) -> MalformedInput:
    """The error for a model whose requests nobody could count."""
    return MalformedInput(
        f"the model `{endpoint.name}` {why}, so its requests, tokens and price cannot be counted as the warrant asks",
        help="use an OpenAI-compatible endpoint, or give a warrant that bounds programs and time only",
    )
