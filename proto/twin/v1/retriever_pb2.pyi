from twin.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchRequest(_message.Message):
    __slots__ = ("query", "scope", "k", "filter", "history", "rewrite", "rerank", "threshold")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    REWRITE_FIELD_NUMBER: _ClassVar[int]
    RERANK_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    query: str
    scope: _types_pb2.Scope
    k: int
    filter: _types_pb2.Filter
    history: _containers.RepeatedCompositeFieldContainer[_types_pb2.Message]
    rewrite: bool
    rerank: bool
    threshold: bool
    def __init__(self, query: _Optional[str] = ..., scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ..., k: _Optional[int] = ..., filter: _Optional[_Union[_types_pb2.Filter, _Mapping]] = ..., history: _Optional[_Iterable[_Union[_types_pb2.Message, _Mapping]]] = ..., rewrite: bool = ..., rerank: bool = ..., threshold: bool = ...) -> None: ...

class SearchResult(_message.Message):
    __slots__ = ("passages", "evidence", "confidence", "question", "queries", "filter", "steps", "index", "notices", "vector", "encoder", "listing")
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    LISTING_FIELD_NUMBER: _ClassVar[int]
    passages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Passage]
    evidence: str
    confidence: float
    question: str
    queries: _containers.RepeatedScalarFieldContainer[str]
    filter: _types_pb2.Filter
    steps: _containers.RepeatedCompositeFieldContainer[_types_pb2.Step]
    index: str
    notices: _containers.RepeatedScalarFieldContainer[str]
    vector: bytes
    encoder: str
    listing: bool
    def __init__(self, passages: _Optional[_Iterable[_Union[_types_pb2.Passage, _Mapping]]] = ..., evidence: _Optional[str] = ..., confidence: _Optional[float] = ..., question: _Optional[str] = ..., queries: _Optional[_Iterable[str]] = ..., filter: _Optional[_Union[_types_pb2.Filter, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[_types_pb2.Step, _Mapping]]] = ..., index: _Optional[str] = ..., notices: _Optional[_Iterable[str]] = ..., vector: _Optional[bytes] = ..., encoder: _Optional[str] = ..., listing: bool = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("texts",)
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, texts: _Optional[_Iterable[str]] = ...) -> None: ...

class EmbedReply(_message.Message):
    __slots__ = ("vectors", "dimensions", "encoder", "tokens")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    vectors: bytes
    dimensions: int
    encoder: str
    tokens: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, vectors: _Optional[bytes] = ..., dimensions: _Optional[int] = ..., encoder: _Optional[str] = ..., tokens: _Optional[_Iterable[int]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("scope",)
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    scope: _types_pb2.Scope
    def __init__(self, scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ...) -> None: ...

class IndexDescription(_message.Message):
    __slots__ = ("manifest", "authors", "documents", "chunks")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    AUTHORS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    manifest: _types_pb2.Manifest
    authors: _containers.RepeatedScalarFieldContainer[str]
    documents: int
    chunks: int
    def __init__(self, manifest: _Optional[_Union[_types_pb2.Manifest, _Mapping]] = ..., authors: _Optional[_Iterable[str]] = ..., documents: _Optional[int] = ..., chunks: _Optional[int] = ...) -> None: ...
