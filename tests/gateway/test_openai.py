"""The official OpenAI client against the gateway, over a real socket, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI

from tests.gateway.conftest import World
from tests.gateway.scripted import TEXT


@pytest.fixture
async def client(world: World, served: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key=await world.key(), base_url=f"{served}/v1", max_retries=0) as made:
        yield made


def _ask(question: str) -> list[openai.types.chat.ChatCompletionMessageParam]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]


async def test_a_whole_answer(client: AsyncOpenAI) -> None:
    """content, finish_reason, usage and url_citation annotations come as the client's own types."""
    answer = await client.chat.completions.create(model="twin", messages=_ask("How do I add a source?"))
    message = answer.choices[0].message
    assert message.content == "Sources are added with a command. [1]"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 18
    assert message.annotations is not None
    cited = message.annotations[0].url_citation
    assert (cited.url, cited.title) == ("https://example.org/document-alpha", "Sources")
    assert message.content[cited.start_index : cited.end_index] == "Sources are added with a command."
    twin = (answer.model_extra or {})["twin"]
    assert twin["citations"][0]["quote"] == TEXT[:42]
    assert twin["evidence"] == "answer"
    assert twin["passages"][0]["document"]["author"] == "alpha"


async def test_a_streamed_answer(client: AsyncOpenAI) -> None:
    """Deltas make the same content; usage comes last where it is asked for, and nowhere else."""
    stream = await client.chat.completions.create(
        model="alpha", messages=_ask("How?"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == (
        "Sources are added with a command. [1]"
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7
    assert all(chunk.usage is None for chunk in chunks[:-1])
    own = [(chunk.model_extra or {}).get("twin", {}) for chunk in chunks]
    assert [next(iter(each)) for each in own if each] == ["started", "citation", "support", "finished"]

    stream = await client.chat.completions.create(model="twin", messages=_ask("How?"), stream=True)
    async for chunk in stream:
        assert chunk.usage is None
        assert chunk.choices


async def test_the_clients_own_putting_together(client: AsyncOpenAI) -> None:
    """The client's helper for streams makes the whole answer of the chunks, with every citation."""
    async with client.chat.completions.stream(model="alpha", messages=_ask("twice")) as stream:
        whole = await stream.get_final_completion()
    assert whole.choices[0].message.content == "Sources are added with a command. [1]"
    annotations = whole.choices[0].message.annotations or []
    assert [each.url_citation.title for each in annotations] == ["Sources", "Sources"]


async def test_models(client: AsyncOpenAI) -> None:
    """The models are `twin` and the authors."""
    assert [model.id async for model in client.models.list()] == ["twin", "alpha", "beta"]
    assert (await client.models.retrieve("beta")).id == "beta"


async def test_embeddings(client: AsyncOpenAI) -> None:
    """The client's default (base64) and floats give the same vectors."""
    packed = await client.embeddings.create(model="twin", input=["a", "b"])
    plain = await client.embeddings.create(model="hashing://4", input="a", encoding_format="float")
    assert packed.data[0].embedding == plain.data[0].embedding == [0.5, 0.5, 0.5, -0.5]
    assert [each.index for each in packed.data] == [0, 1]
    assert packed.usage.prompt_tokens == 6


@pytest.mark.promise(9)
async def test_errors_are_the_clients_own(world: World, served: str, client: AsyncOpenAI) -> None:
    """Each refusal is raised as the client's class for it, with code and param."""
    with pytest.raises(openai.AuthenticationError) as unauthenticated:
        await AsyncOpenAI(api_key="sk-no", base_url=f"{served}/v1", max_retries=0).models.list()
    assert unauthenticated.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="gpt-4o", messages=_ask("How?"))
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="twin", messages=_ask("How?"), n=2)
    assert refused.value.param == "n"
    with pytest.raises(openai.RateLimitError) as overloaded:
        await client.chat.completions.create(model="twin", messages=_ask("overloaded"))
    assert overloaded.value.response.headers["retry-after"] == "3"
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model="twin", messages=_ask("overloaded"), stream=True)
    scoped = AsyncOpenAI(api_key=await world.key(authors=["alpha"]), base_url=f"{served}/v1", max_retries=0)
    with pytest.raises(openai.NotFoundError):
        await scoped.chat.completions.create(model="beta", messages=_ask("How?"))


async def test_an_engine_that_breaks_off(client: AsyncOpenAI) -> None:
    """After the first token an error is an event, which the client raises; whole answers get its status."""
    with pytest.raises(openai.APIError, match="The engine went away"):
        async for _ in await client.chat.completions.create(model="twin", messages=_ask("breaks"), stream=True):
            pass
    with pytest.raises(openai.InternalServerError) as away:
        await client.chat.completions.create(model="twin", messages=_ask("breaks"))
    assert away.value.status_code == 503


@pytest.mark.promise(9)
@pytest.mark.parametrize("question", ["slow", "late"])
async def test_leaving_stops_the_work(world: World, client: AsyncOpenAI, question: str) -> None:
    """A caller that goes away (streaming or not, before or after the first token) ends the generation."""

    async def ask(streaming: bool) -> None:
        if not streaming:
            await client.chat.completions.create(model="twin", messages=_ask(question))
            return
        async for _ in await client.chat.completions.create(model="twin", messages=_ask(question), stream=True):
            pass

    for streaming in (True, False):
        world.services.closed.clear()
        world.services.generating.clear()
        asking = asyncio.create_task(ask(streaming))
        await asyncio.wait_for(world.services.generating.wait(), 30)
        asking.cancel()
        await asyncio.wait_for(world.services.closed.wait(), 30)


REFUSED = [
    ({"n": 2}, "n"),
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logit_bias": {"1": 5}}, "logit_bias"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"top_k": 3}, "top_k"),
    ({"temperature": 3}, "temperature"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
    ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "messages.1.role"),
    ({"messages": [{"role": "user", "content": "\0"}]}, "messages.0.content"),
    ({"twin": {"j": 1}}, "twin.j"),
    ({"twin": {"k": -1}}, "twin.k"),
    ({"twin": {"support": "maybe"}}, "twin.support"),
    ({"twin": {"filter": {"since": "yesterday"}}}, "twin.filter.since"),
    ({"twin": {"filter": {"autor": "alpha"}}}, "twin.filter.autor"),
]


async def test_what_is_refused_names_its_field(world: World) -> None:
    """What Twin doesn't do, and what is misspelt, is refused with 400 and the field: never silently dropped."""
    for more, param in REFUSED:
        body = {"model": "twin", "messages": [{"role": "user", "content": "How?"}], **more}  # type: ignore[dict-item]
        response = await world.admin.post("/v1/chat/completions", json=body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param), more
    assert world.services.requests == []


async def test_what_is_honoured_arrives(world: World) -> None:
    """Each honoured field reaches the generator as it was sent; ignored and neutral ones are taken."""
    body = {
        "model": "alpha",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "One "}, {"type": "text", "text": "question"}]},
            {"role": "assistant", "content": None, "refusal": None, "annotations": [{"type": "url_citation"}]},
            {"role": "user", "content": "And?", "name": "reader"},
        ],
        "max_tokens": 5,
        "max_completion_tokens": 9,
        "temperature": 0,
        "top_p": 0.5,
        "stop": "END",
        "seed": -3,
        "frequency_penalty": 1,
        "presence_penalty": -1.5,
        "twin": {
            "k": 0,
            "filter": {"author": "alpha", "source": "example.org", "language": "en", "since": "2024-01-01"},
            "support": "replace",
            "rewrite": False,
            "rerank": True,
        },
        "user": "someone",
        "metadata": {"a": "b"},
        "store": False,
        "n": 1,
        "logprobs": False,
        "logit_bias": {},
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "modalities": ["text"],
    }
    response = await world.admin.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    asked = world.services.requests[-1]
    assert [(each.role, each.content) for each in asked.messages] == [
        ("system", "Be brief."),
        ("user", "One question"),
        ("assistant", ""),
        ("user", "And?"),
    ]
    assert (asked.author, asked.k, asked.support, asked.rewrite, asked.rerank) == ("alpha", 0, "replace", False, True)
    assert (asked.max_tokens, asked.temperature, asked.top_p, list(asked.stop)) == (9, 0, 0.5, ["END"])
    assert (asked.seed, asked.frequency_penalty, asked.presence_penalty) == (-3, 1, -1.5)
    assert list(asked.filter.authors) == ["alpha"]
    assert (asked.filter.since, asked.filter.until) == ("2024-01-01", "")
    assert asked.key_id == "local"
