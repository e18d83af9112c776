from twin.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SourceSpec(_message.Message):
    __slots__ = ("address", "kind", "options", "every", "watch")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    EVERY_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    address: str
    kind: str
    options: _containers.ScalarMap[str, str]
    every: float
    watch: bool
    def __init__(self, address: _Optional[str] = ..., kind: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., every: _Optional[float] = ..., watch: bool = ...) -> None: ...

class StartCrawlRequest(_message.Message):
    __slots__ = ("author", "sources", "idempotency_key", "scope")
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    author: str
    sources: _containers.RepeatedCompositeFieldContainer[SourceSpec]
    idempotency_key: str
    scope: _types_pb2.Scope
    def __init__(self, author: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[SourceSpec, _Mapping]]] = ..., idempotency_key: _Optional[str] = ..., scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ...) -> None: ...

class UploadHeader(_message.Message):
    __slots__ = ("author", "idempotency_key", "scope")
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    author: str
    idempotency_key: str
    scope: _types_pb2.Scope
    def __init__(self, author: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ...) -> None: ...

class UploadFile(_message.Message):
    __slots__ = ("name", "media_type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    media_type: str
    def __init__(self, name: _Optional[str] = ..., media_type: _Optional[str] = ...) -> None: ...

class UploadPiece(_message.Message):
    __slots__ = ("header", "file", "data", "end")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    header: UploadHeader
    file: UploadFile
    data: bytes
    end: _types_pb2.Empty
    def __init__(self, header: _Optional[_Union[UploadHeader, _Mapping]] = ..., file: _Optional[_Union[UploadFile, _Mapping]] = ..., data: _Optional[bytes] = ..., end: _Optional[_Union[_types_pb2.Empty, _Mapping]] = ...) -> None: ...

class CrawlId(_message.Message):
    __slots__ = ("id", "scope")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    id: str
    scope: _types_pb2.Scope
    def __init__(self, id: _Optional[str] = ..., scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ...) -> None: ...

class SourceProgress(_message.Message):
    __slots__ = ("source_id", "address", "kind", "state", "progress", "seconds_left", "failure")
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    source_id: str
    address: str
    kind: str
    state: str
    progress: _types_pb2.Progress
    seconds_left: float
    failure: str
    def __init__(self, source_id: _Optional[str] = ..., address: _Optional[str] = ..., kind: _Optional[str] = ..., state: _Optional[str] = ..., progress: _Optional[_Union[_types_pb2.Progress, _Mapping]] = ..., seconds_left: _Optional[float] = ..., failure: _Optional[str] = ...) -> None: ...

class Crawl(_message.Message):
    __slots__ = ("id", "author", "state", "sources", "documents_queued", "documents_indexed", "documents_failed", "failures", "seconds_left", "created_at", "updated_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_QUEUED_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_INDEXED_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FAILED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    author: str
    state: str
    sources: _containers.RepeatedCompositeFieldContainer[SourceProgress]
    documents_queued: int
    documents_indexed: int
    documents_failed: int
    failures: _containers.RepeatedCompositeFieldContainer[_types_pb2.Failure]
    seconds_left: float
    created_at: float
    updated_at: float
    def __init__(self, id: _Optional[str] = ..., author: _Optional[str] = ..., state: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[SourceProgress, _Mapping]]] = ..., documents_queued: _Optional[int] = ..., documents_indexed: _Optional[int] = ..., documents_failed: _Optional[int] = ..., failures: _Optional[_Iterable[_Union[_types_pb2.Failure, _Mapping]]] = ..., seconds_left: _Optional[float] = ..., created_at: _Optional[float] = ..., updated_at: _Optional[float] = ...) -> None: ...

class ListCrawlsRequest(_message.Message):
    __slots__ = ("scope", "limit")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    scope: _types_pb2.Scope
    limit: int
    def __init__(self, scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ..., limit: _Optional[int] = ...) -> None: ...

class CrawlList(_message.Message):
    __slots__ = ("crawls",)
    CRAWLS_FIELD_NUMBER: _ClassVar[int]
    crawls: _containers.RepeatedCompositeFieldContainer[Crawl]
    def __init__(self, crawls: _Optional[_Iterable[_Union[Crawl, _Mapping]]] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("id", "author", "kind", "address", "options", "every", "watch", "created_at", "crawled_at", "due_at")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    EVERY_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    CRAWLED_AT_FIELD_NUMBER: _ClassVar[int]
    DUE_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    author: str
    kind: str
    address: str
    options: _containers.ScalarMap[str, str]
    every: float
    watch: bool
    created_at: float
    crawled_at: float
    due_at: float
    def __init__(self, id: _Optional[str] = ..., author: _Optional[str] = ..., kind: _Optional[str] = ..., address: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., every: _Optional[float] = ..., watch: bool = ..., created_at: _Optional[float] = ..., crawled_at: _Optional[float] = ..., due_at: _Optional[float] = ...) -> None: ...

class SourceId(_message.Message):
    __slots__ = ("id", "scope")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    id: str
    scope: _types_pb2.Scope
    def __init__(self, id: _Optional[str] = ..., scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ...) -> None: ...

class ListSourcesRequest(_message.Message):
    __slots__ = ("scope", "author")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    scope: _types_pb2.Scope
    author: str
    def __init__(self, scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ..., author: _Optional[str] = ...) -> None: ...

class SourceList(_message.Message):
    __slots__ = ("sources",)
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedCompositeFieldContainer[Source]
    def __init__(self, sources: _Optional[_Iterable[_Union[Source, _Mapping]]] = ...) -> None: ...

class PutSourceRequest(_message.Message):
    __slots__ = ("author", "source", "scope")
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    author: str
    source: SourceSpec
    scope: _types_pb2.Scope
    def __init__(self, author: _Optional[str] = ..., source: _Optional[_Union[SourceSpec, _Mapping]] = ..., scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ...) -> None: ...

class ListDocumentsRequest(_message.Message):
    __slots__ = ("scope", "author", "source_id", "state", "text", "limit", "cursor")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    scope: _types_pb2.Scope
    author: str
    source_id: str
    state: str
    text: str
    limit: int
    cursor: str
    def __init__(self, scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ..., author: _Optional[str] = ..., source_id: _Optional[str] = ..., state: _Optional[str] = ..., text: _Optional[str] = ..., limit: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

class DocumentList(_message.Message):
    __slots__ = ("documents", "next")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedCompositeFieldContainer[_types_pb2.Document]
    next: str
    def __init__(self, documents: _Optional[_Iterable[_Union[_types_pb2.Document, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class DocumentId(_message.Message):
    __slots__ = ("id", "scope")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    id: str
    scope: _types_pb2.Scope
    def __init__(self, id: _Optional[str] = ..., scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ...) -> None: ...

class GetDocumentRequest(_message.Message):
    __slots__ = ("id", "scope", "version", "start", "end")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    id: str
    scope: _types_pb2.Scope
    version: int
    start: int
    end: int
    def __init__(self, id: _Optional[str] = ..., scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ..., version: _Optional[int] = ..., start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class DocumentText(_message.Message):
    __slots__ = ("document", "version", "text", "start", "end", "characters", "source_address")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    document: _types_pb2.Document
    version: int
    text: str
    start: int
    end: int
    characters: int
    source_address: str
    def __init__(self, document: _Optional[_Union[_types_pb2.Document, _Mapping]] = ..., version: _Optional[int] = ..., text: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., characters: _Optional[int] = ..., source_address: _Optional[str] = ...) -> None: ...

class Author(_message.Message):
    __slots__ = ("name", "documents", "indexed", "sources")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    INDEXED_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    name: str
    documents: int
    indexed: int
    sources: int
    def __init__(self, name: _Optional[str] = ..., documents: _Optional[int] = ..., indexed: _Optional[int] = ..., sources: _Optional[int] = ...) -> None: ...

class ListAuthorsRequest(_message.Message):
    __slots__ = ("scope",)
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    scope: _types_pb2.Scope
    def __init__(self, scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ...) -> None: ...

class AuthorList(_message.Message):
    __slots__ = ("authors",)
    AUTHORS_FIELD_NUMBER: _ClassVar[int]
    authors: _containers.RepeatedCompositeFieldContainer[Author]
    def __init__(self, authors: _Optional[_Iterable[_Union[Author, _Mapping]]] = ...) -> None: ...

class AuthorName(_message.Message):
    __slots__ = ("name", "scope")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    scope: _types_pb2.Scope
    def __init__(self, name: _Optional[str] = ..., scope: _Optional[_Union[_types_pb2.Scope, _Mapping]] = ...) -> None: ...
