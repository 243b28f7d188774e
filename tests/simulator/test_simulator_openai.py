"""The openai package as a client that knows nothing of us."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest


@pytest.fixture
def client(simulator: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{simulator.url}/v1", api_key="none-needed", max_retries=0, timeout=20) as client:
        yield client


def test_models(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert len(names) == 3
    assert names == sorted(names)


def test_a_whole_answer(client: openai.OpenAI) -> None:
    model = client.models.list().data[0].id
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "a" * 40}], max_tokens=7)
    (choice,) = answer.choices
    assert answer.object == "chat.completion"
    assert answer.model == model
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 10
    assert answer.usage.total_tokens == 10 + answer.usage.completion_tokens <= 17


def test_a_stream_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="",
        messages=[{"role": "system", "content": "b"}, {"role": "user", "content": "a"}],
        max_completion_tokens=11,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content for chunk in chunks[1:-1]]
    assert all(pieces)
    assert chunks[-1].choices[0].finish_reason == ("length" if len(pieces) == 11 else "stop")
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == len(pieces)
    assert len({chunk.id for chunk in [*chunks, last]}) == 1


def test_a_stream_without_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "a"}], max_tokens=4, stream=True
    )
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in stream)


def test_text_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="default", prompt="a" * 40, max_tokens=7)
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 10


def test_a_stream_of_text_completions_with_usage(client: openai.OpenAI) -> None:
    stream = client.completions.create(
        model="default", prompt="a", max_tokens=7, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    pieces = [chunk.choices[0].text for chunk in chunks]
    assert all(pieces[:-1]) and not pieces[-1]
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == len(pieces) - 1


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        client.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "a"}])


def test_a_wrong_key(start: Any) -> None:
    guarded = start("--api-key-env", "SIM_KEY", env={"SIM_KEY": "right"})
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
        assert client.with_options(api_key="right").models.list().data
