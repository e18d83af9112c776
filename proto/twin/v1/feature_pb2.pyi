from twin.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DocumentVersion(_message.Message):
    __slots__ = ("document_id", "version", "author")
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    version: int
    author: str
    def __init__(self, document_id: _Optional[str] = ..., version: _Optional[int] = ..., author: _Optional[str] = ...) -> None: ...

class FeaturizeRequest(_message.Message):
    __slots__ = ("documents", "parent")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedCompositeFieldContainer[DocumentVersion]
    parent: str
    def __init__(self, documents: _Optional[_Iterable[_Union[DocumentVersion, _Mapping]]] = ..., parent: _Optional[str] = ...) -> None: ...

class FeaturizeReply(_message.Message):
    __slots__ = ("job_ids",)
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class FeatureDocumentId(_message.Message):
    __slots__ = ("document_id",)
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    def __init__(self, document_id: _Optional[str] = ...) -> None: ...

class ReindexRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReindexId(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ReindexJob(_message.Message):
    __slots__ = ("id", "state", "manifest", "progress", "seconds_left", "failure")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: str
    manifest: _types_pb2.Manifest
    progress: _types_pb2.Progress
    seconds_left: float
    failure: str
    def __init__(self, id: _Optional[str] = ..., state: _Optional[str] = ..., manifest: _Optional[_Union[_types_pb2.Manifest, _Mapping]] = ..., progress: _Optional[_Union[_types_pb2.Progress, _Mapping]] = ..., seconds_left: _Optional[float] = ..., failure: _Optional[str] = ...) -> None: ...

class CalibrateRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
