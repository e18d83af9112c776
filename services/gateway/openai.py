"""OpenAI's dialect: what a chat or embeddings request may hold, and the shapes that answer it.

Comes in: JSON from any OpenAI client. Goes out: domain requests; dictionaries in OpenAI's shapes.
Does not know: routes, services. docs/openai-compatibility.md tells people the same table, field by field.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, ValidatorFunctionWrapHandler, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from services.domain import Citation, Message
from services.errors import InvalidInput
from services.gateway.shapes import Asked, CitationShape, Evidence, FilterBody, Given, PassageShape, SupportShape, Whole

EVERYONE_MODEL = "twin"
"""The model that answers from every author the key may see."""

_INT64 = Field(ge=-(2**63), le=2**63 - 1)
_Words = Annotated[str, StringConstraints(max_length=1_000_000, pattern=r"^[^\x00]*$")]

_REASONS = {
    "n": "Twin makes one answer a request: leave n out, or 1.",
    "logprobs": "Twin gives no log probabilities: leave it out, or false.",
    "top_logprobs": "Twin gives no log probabilities: leave it out, or 0.",
    "logit_bias": "Twin doesn't weigh tokens: leave it out.",
    "tools": "Twin calls no tools: leave it out.",
    "tool_choice": "Twin calls no tools: leave it out, or none or auto.",
    "functions": "Twin calls no functions: leave it out.",
    "function_call": "Twin calls no functions: leave it out, or none or auto.",
    "response_format": 'Twin answers in text with citations: leave it out, or {"type": "text"}.',
    "modalities": 'Twin answers in text: leave it out, or ["text"].',
    "audio": "Twin doesn't speak: leave it out.",
    "prediction": "Twin takes no predicted output: leave it out.",
    "web_search_options": "Twin searches its own corpus only: leave it out.",
}


class TextPart(Asked):
    type: Literal["text"]
    text: _Words


class ChatMessage(Asked):
    role: Literal["system", "developer", "user", "assistant"]
    content: _Words | list[TextPart] | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None
    function_call: None = None
    twin: Any = None
    """An answer may be sent back in the history as it came."""

    def message(self) -> Message:
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return Message("system" if self.role == "developer" else self.role, text)


class StreamOptions(Asked):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class TextFormat(Asked):
    type: Literal["text"]


class TwinOptions(Asked):
    """What is Twin's own in a chat request."""

    k: Annotated[int, Field(ge=0, le=50), Whole] | None = None
    """Passages to answer from; 0: none are looked for."""
    filter: FilterBody = Field(default_factory=FilterBody)
    support: Literal["mark", "replace"] = "mark"
    """mark: stream at once, a verdict after each sentence; replace: whole sentences, unsupported ones quoted."""
    rewrite: bool | None = None
    rerank: bool | None = None


class ChatBody(Asked):
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000), Whole] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000), Whole] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: (
        Annotated[str, Field(min_length=1, max_length=200)]
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=4)]
        | None
    ) = None
    seed: Annotated[int, _INT64, Whole] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    twin: TwinOptions | None = None

    # Ignored: they change nothing about the answer's text.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    parallel_tool_calls: bool | None = None

    # Refused, but for the value that asks for nothing.
    n: Annotated[Literal[1], Whole] | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Annotated[Literal[0], Whole] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: Annotated[list[Any], Field(max_length=0)] | None = None
    function_call: Literal["none", "auto"] | None = None
    response_format: TextFormat | None = None
    modalities: list[Literal["text"]] | None = None
    audio: None = None
    prediction: None = None
    web_search_options: None = None

    @field_validator(*_REASONS, mode="wrap")
    @classmethod
    def _refused(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("refused", "{reason}", {"reason": _REASONS[info.field_name or ""]}) from None

    def conversation(self) -> tuple[Message, ...]:
        """The messages; the last one is the question."""
        if self.messages[-1].role != "user":
            raise InvalidInput(
                "The last message is the question: its role must be user.",
                param=f"messages.{len(self.messages) - 1}.role",
            )
        if self.stream_options is not None and not self.stream:
            raise InvalidInput("stream_options goes with stream: true only.", param="stream_options")
        return tuple(each.message() for each in self.messages)

    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class UrlCitation(Given):
    url: str
    title: str
    start_index: int
    """Where the sentence that it supports begins in the content, code points."""
    end_index: int


class Annotation(Given):
    type: Literal["url_citation"]
    url_citation: UrlCitation


class AnswerMessage(Given):
    role: Literal["assistant"]
    content: str
    refusal: None
    annotations: list[Annotation]


class Choice(Given):
    index: int
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None


class UsageShape(Given):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TwinAnswer(Given):
    generation_id: str
    evidence: Evidence
    question: str
    notices: list[str]
    citations: list[CitationShape]
    support: list[SupportShape]
    passages: list[PassageShape]
    timings: dict[str, float]
    """Milliseconds: search, first_token, total."""


class ChatAnswer(Given):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: UsageShape
    twin: TwinAnswer


class Model(Given):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Given):
    object: Literal["list"]
    data: list[Model]


_Input = Annotated[str, StringConstraints(min_length=1, max_length=1_000_000, pattern=r"^[^\x00]*$")]


class EmbeddingsBody(Asked):
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """`twin`, or the encoder's name as GET /v1/status says it."""
    input: _Input | Annotated[list[_Input], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65536), Whole] | None = None
    """The encoder's own number, or nothing."""
    user: str | None = None


class Embedding(Given):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """base64: of float32, little endian."""


class EmbeddingsUsage(Given):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(Given):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


def annotation(each: Citation) -> dict[str, Any]:
    return {
        "type": "url_citation",
        "url_citation": {
            "url": each.url,
            "title": each.title,
            "start_index": each.answer_start,
            "end_index": each.answer_end,
        },
    }


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def model(id: str) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": 0, "owned_by": "twin"}
