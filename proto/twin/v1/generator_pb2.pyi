from twin.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateRequest(_message.Message):
    __slots__ = ("messages", "scope", "key_id", "author", "filter", "k", "support", "rewrite", "rerank", "max_tokens", "temperature", "top_p", "stop", "seed", "frequency_penalty", "presence_penalty", "together")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    SUPPORT_FIELD_NUMBER: _ClassVar[int]
    REWRITE_FIELD_NUMBER: _ClassVar[int]
    RERANK_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    TOGETHER_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Message]
    scope: _types_pb2.Scope
    key_id: str
    author: str
    filter: _types_pb2.Filter
    k: int
    support: str
    rewrite: bool
    rerank: bool
    max_tokens: int
    temperature: float
    top_p: float
    stop: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    frequency_penalty: float
    presence_penalty: float
    together: bool
    def __init__(self, messages: _Optional[_Iterable[_Union[_types_pb2.Message, _Mapping]]] = ..., scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ..., key_id: _Optional[str] = ..., author: _Optional[str] = ..., filter: _Optional[_Union[_types_pb2.Filter, _Mapping]] = ..., k: _Optional[int] = ..., support: _Optional[str] = ..., rewrite: bool = ..., rerank: bool = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., stop: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ..., frequency_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., together: bool = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("generation_id", "model", "created_at", "evidence", "passages", "question", "notices")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    model: str
    created_at: float
    evidence: str
    passages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Passage]
    question: str
    notices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generation_id: _Optional[str] = ..., model: _Optional[str] = ..., created_at: _Optional[float] = ..., evidence: _Optional[str] = ..., passages: _Optional[_Iterable[_Union[_types_pb2.Passage, _Mapping]]] = ..., question: _Optional[str] = ..., notices: _Optional[_Iterable[str]] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("reason", "timings")
    class TimingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    timings: _containers.ScalarMap[str, float]
    def __init__(self, reason: _Optional[str] = ..., timings: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class AnswerEvent(_message.Message):
    __slots__ = ("started", "delta", "citation", "support", "usage", "finished", "failed", "more")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    CITATION_FIELD_NUMBER: _ClassVar[int]
    SUPPORT_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    started: Started
    delta: Delta
    citation: _types_pb2.Citation
    support: _types_pb2.Support
    usage: _types_pb2.Usage
    finished: Finished
    failed: Failed
    more: _containers.RepeatedCompositeFieldContainer[AnswerEvent]
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., delta: _Optional[_Union[Delta, _Mapping]] = ..., citation: _Optional[_Union[_types_pb2.Citation, _Mapping]] = ..., support: _Optional[_Union[_types_pb2.Support, _Mapping]] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., more: _Optional[_Iterable[_Union[AnswerEvent, _Mapping]]] = ...) -> None: ...

class AnswerEvents(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[AnswerEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[AnswerEvent, _Mapping]]] = ...) -> None: ...

class Feedback(_message.Message):
    __slots__ = ("generation_id", "rating", "correction", "reasons", "at")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    RATING_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    rating: int
    correction: str
    reasons: _containers.RepeatedScalarFieldContainer[str]
    at: float
    def __init__(self, generation_id: _Optional[str] = ..., rating: _Optional[int] = ..., correction: _Optional[str] = ..., reasons: _Optional[_Iterable[str]] = ..., at: _Optional[float] = ...) -> None: ...

class FeedbackRequest(_message.Message):
    __slots__ = ("feedback", "scope")
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    feedback: Feedback
    scope: _types_pb2.Scope
    def __init__(self, feedback: _Optional[_Union[Feedback, _Mapping]] = ..., scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ...) -> None: ...

class GenerationId(_message.Message):
    __slots__ = ("id", "scope")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    id: str
    scope: _types_pb2.Scope
    def __init__(self, id: _Optional[str] = ..., scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ...) -> None: ...

class ListGenerationsRequest(_message.Message):
    __slots__ = ("scope", "key_id", "limit", "before", "trace")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    scope: _types_pb2.Scope
    key_id: str
    limit: int
    before: float
    trace: str
    def __init__(self, scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ..., key_id: _Optional[str] = ..., limit: _Optional[int] = ..., before: _Optional[float] = ..., trace: _Optional[str] = ...) -> None: ...

class Generation(_message.Message):
    __slots__ = ("id", "key_id", "author", "messages", "question", "prompt", "model", "passages", "answer", "citations", "support", "evidence", "usage", "timings", "reason", "created_at", "authors", "feedback", "redacted", "trace", "queries", "filter", "confidence", "steps")
    class TimingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    SUPPORT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    AUTHORS_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    REDACTED_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    id: str
    key_id: str
    author: str
    messages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Message]
    question: str
    prompt: str
    model: str
    passages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Passage]
    answer: str
    citations: _containers.RepeatedCompositeFieldContainer[_types_pb2.Citation]
    support: _containers.RepeatedCompositeFieldContainer[_types_pb2.Support]
    evidence: str
    usage: _types_pb2.Usage
    timings: _containers.ScalarMap[str, float]
    reason: str
    created_at: float
    authors: _containers.RepeatedScalarFieldContainer[str]
    feedback: Feedback
    redacted: bool
    trace: str
    queries: _containers.RepeatedScalarFieldContainer[str]
    filter: _types_pb2.Filter
    confidence: float
    steps: _containers.RepeatedCompositeFieldContainer[_types_pb2.Step]
    def __init__(self, id: _Optional[str] = ..., key_id: _Optional[str] = ..., author: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_types_pb2.Message, _Mapping]]] = ..., question: _Optional[str] = ..., prompt: _Optional[str] = ..., model: _Optional[str] = ..., passages: _Optional[_Iterable[_Union[_types_pb2.Passage, _Mapping]]] = ..., answer: _Optional[str] = ..., citations: _Optional[_Iterable[_Union[_types_pb2.Citation, _Mapping]]] = ..., support: _Optional[_Iterable[_Union[_types_pb2.Support, _Mapping]]] = ..., evidence: _Optional[str] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., timings: _Optional[_Mapping[str, float]] = ..., reason: _Optional[str] = ..., created_at: _Optional[float] = ..., authors: _Optional[_Iterable[str]] = ..., feedback: _Optional[_Union[Feedback, _Mapping]] = ..., redacted: bool = ..., trace: _Optional[str] = ..., queries: _Optional[_Iterable[str]] = ..., filter: _Optional[_Union[_types_pb2.Filter, _Mapping]] = ..., confidence: _Optional[float] = ..., steps: _Optional[_Iterable[_Union[_types_pb2.Step, _Mapping]]] = ...) -> None: ...

class GenerationList(_message.Message):
    __slots__ = ("generations",)
    GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    generations: _containers.RepeatedCompositeFieldContainer[Generation]
    def __init__(self, generations: _Optional[_Iterable[_Union[Generation, _Mapping]]] = ...) -> None: ...

class RedactRequest(_message.Message):
    __slots__ = ("document_id",)
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    def __init__(self, document_id: _Optional[str] = ...) -> None: ...

class RedactReply(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: int
    def __init__(self, entries: _Optional[int] = ...) -> None: ...

class GeneratorDescription(_message.Message):
    __slots__ = ("answers", "hint")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    answers: str
    hint: str
    def __init__(self, answers: _Optional[str] = ..., hint: _Optional[str] = ...) -> None: ...
