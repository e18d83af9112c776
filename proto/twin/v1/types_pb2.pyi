from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Scope(_message.Message):
    __slots__ = ("everyone", "authors")
    EVERYONE_FIELD_NUMBER: _ClassVar[int]
    AUTHORS_FIELD_NUMBER: _ClassVar[int]
    everyone: bool
    authors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, everyone: bool = ..., authors: _Optional[_Iterable[str]] = ...) -> None: ...

class Filter(_message.Message):
    __slots__ = ("authors", "sources", "languages", "since", "until", "documents")
    AUTHORS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    authors: _containers.RepeatedScalarFieldContainer[str]
    sources: _containers.RepeatedScalarFieldContainer[str]
    languages: _containers.RepeatedScalarFieldContainer[str]
    since: str
    until: str
    documents: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, authors: _Optional[_Iterable[str]] = ..., sources: _Optional[_Iterable[str]] = ..., languages: _Optional[_Iterable[str]] = ..., since: _Optional[str] = ..., until: _Optional[str] = ..., documents: _Optional[_Iterable[str]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("address", "code", "message")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    address: str
    code: str
    message: str
    def __init__(self, address: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("total", "seen", "new", "changed", "unchanged", "skipped", "failed", "current", "failures", "checkpoint")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    total: int
    seen: int
    new: int
    changed: int
    unchanged: int
    skipped: int
    failed: int
    current: str
    failures: _containers.RepeatedCompositeFieldContainer[Failure]
    checkpoint: str
    def __init__(self, total: _Optional[int] = ..., seen: _Optional[int] = ..., new: _Optional[int] = ..., changed: _Optional[int] = ..., unchanged: _Optional[int] = ..., skipped: _Optional[int] = ..., failed: _Optional[int] = ..., current: _Optional[str] = ..., failures: _Optional[_Iterable[_Union[Failure, _Mapping]]] = ..., checkpoint: _Optional[str] = ...) -> None: ...

class Document(_message.Message):
    __slots__ = ("id", "author", "url", "source_id", "kind", "title", "byline", "language", "published", "modified", "media_type", "version", "indexed_version", "fingerprint", "raw_hash", "text_hash", "etag", "last_modified", "duplicate_of", "characters", "chunks", "failure", "deleted_at", "created_at", "updated_at", "revision")
    ID_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    BYLINE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INDEXED_VERSION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    RAW_HASH_FIELD_NUMBER: _ClassVar[int]
    TEXT_HASH_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    LAST_MODIFIED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_OF_FIELD_NUMBER: _ClassVar[int]
    CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    DELETED_AT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    id: str
    author: str
    url: str
    source_id: str
    kind: str
    title: str
    byline: str
    language: str
    published: str
    modified: str
    media_type: str
    version: int
    indexed_version: int
    fingerprint: str
    raw_hash: str
    text_hash: str
    etag: str
    last_modified: str
    duplicate_of: str
    characters: int
    chunks: int
    failure: str
    deleted_at: float
    created_at: float
    updated_at: float
    revision: int
    def __init__(self, id: _Optional[str] = ..., author: _Optional[str] = ..., url: _Optional[str] = ..., source_id: _Optional[str] = ..., kind: _Optional[str] = ..., title: _Optional[str] = ..., byline: _Optional[str] = ..., language: _Optional[str] = ..., published: _Optional[str] = ..., modified: _Optional[str] = ..., media_type: _Optional[str] = ..., version: _Optional[int] = ..., indexed_version: _Optional[int] = ..., fingerprint: _Optional[str] = ..., raw_hash: _Optional[str] = ..., text_hash: _Optional[str] = ..., etag: _Optional[str] = ..., last_modified: _Optional[str] = ..., duplicate_of: _Optional[str] = ..., characters: _Optional[int] = ..., chunks: _Optional[int] = ..., failure: _Optional[str] = ..., deleted_at: _Optional[float] = ..., created_at: _Optional[float] = ..., updated_at: _Optional[float] = ..., revision: _Optional[int] = ...) -> None: ...

class Passage(_message.Message):
    __slots__ = ("chunk_id", "document_id", "version", "start", "end", "text", "heading", "title", "url", "author", "score", "scores", "before", "after", "language", "published", "source_id")
    class ScoresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    HEADING_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    chunk_id: str
    document_id: str
    version: int
    start: int
    end: int
    text: str
    heading: str
    title: str
    url: str
    author: str
    score: float
    scores: _containers.ScalarMap[str, float]
    before: str
    after: str
    language: str
    published: str
    source_id: str
    def __init__(self, chunk_id: _Optional[str] = ..., document_id: _Optional[str] = ..., version: _Optional[int] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., text: _Optional[str] = ..., heading: _Optional[str] = ..., title: _Optional[str] = ..., url: _Optional[str] = ..., author: _Optional[str] = ..., score: _Optional[float] = ..., scores: _Optional[_Mapping[str, float]] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., language: _Optional[str] = ..., published: _Optional[str] = ..., source_id: _Optional[str] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("name", "detail", "milliseconds", "candidates")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    name: str
    detail: str
    milliseconds: float
    candidates: int
    def __init__(self, name: _Optional[str] = ..., detail: _Optional[str] = ..., milliseconds: _Optional[float] = ..., candidates: _Optional[int] = ...) -> None: ...

class EncoderIdentity(_message.Message):
    __slots__ = ("url", "revision", "precision", "pooling", "dimensions", "window")
    URL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    POOLING_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    url: str
    revision: str
    precision: str
    pooling: str
    dimensions: int
    window: int
    def __init__(self, url: _Optional[str] = ..., revision: _Optional[str] = ..., precision: _Optional[str] = ..., pooling: _Optional[str] = ..., dimensions: _Optional[int] = ..., window: _Optional[int] = ...) -> None: ...

class Thresholds(_message.Message):
    __slots__ = ("decline", "answer", "origin")
    DECLINE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    decline: float
    answer: float
    origin: str
    def __init__(self, decline: _Optional[float] = ..., answer: _Optional[float] = ..., origin: _Optional[str] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("name", "encoder", "cleaner", "chunker", "state", "thresholds", "created_at")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    CLEANER_FIELD_NUMBER: _ClassVar[int]
    CHUNKER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    encoder: EncoderIdentity
    cleaner: str
    chunker: str
    state: str
    thresholds: Thresholds
    created_at: float
    def __init__(self, name: _Optional[str] = ..., encoder: _Optional[_Union[EncoderIdentity, _Mapping]] = ..., cleaner: _Optional[str] = ..., chunker: _Optional[str] = ..., state: _Optional[str] = ..., thresholds: _Optional[_Union[Thresholds, _Mapping]] = ..., created_at: _Optional[float] = ...) -> None: ...

class Citation(_message.Message):
    __slots__ = ("number", "document_id", "version", "title", "url", "author", "start", "end", "quote", "answer_start", "answer_end", "heading", "chunk_id", "published")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_START_FIELD_NUMBER: _ClassVar[int]
    ANSWER_END_FIELD_NUMBER: _ClassVar[int]
    HEADING_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    number: int
    document_id: str
    version: int
    title: str
    url: str
    author: str
    start: int
    end: int
    quote: str
    answer_start: int
    answer_end: int
    heading: str
    chunk_id: str
    published: str
    def __init__(self, number: _Optional[int] = ..., document_id: _Optional[str] = ..., version: _Optional[int] = ..., title: _Optional[str] = ..., url: _Optional[str] = ..., author: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., quote: _Optional[str] = ..., answer_start: _Optional[int] = ..., answer_end: _Optional[int] = ..., heading: _Optional[str] = ..., chunk_id: _Optional[str] = ..., published: _Optional[str] = ...) -> None: ...

class Support(_message.Message):
    __slots__ = ("start", "end", "verdict", "score")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    verdict: str
    score: float
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., verdict: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ...) -> None: ...

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
