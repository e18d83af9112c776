"""Every error a caller can meet.

TwinError
├── InvalidInput          the request is wrong                         INVALID_ARGUMENT     400
│   ├── UnsupportedMedia  a file of a kind that cannot be read         INVALID_ARGUMENT     415
│   ├── Unprocessable     well formed, but it cannot be carried out    INVALID_ARGUMENT     422
│   └── TooLarge          beyond a limit                               OUT_OF_RANGE         413
├── Unauthenticated       no key, or one that is not valid             UNAUTHENTICATED      401
├── Forbidden             the key may not do this                      PERMISSION_DENIED    403
├── NotFound              it is not there, or not for this caller      NOT_FOUND            404
│   └── ModelNotFound     no such model, in OpenAI's words             NOT_FOUND            404
├── MethodNotAllowed      the route is there, the method is not        UNIMPLEMENTED        405
├── Conflict              it changed meanwhile, or it exists           ABORTED              409
│   └── LeaseLost         another worker holds the job                 ABORTED              409
├── PreconditionFailed    If-Match does not hold                       FAILED_PRECONDITION  412
├── Overloaded            too much at once: try again later            RESOURCE_EXHAUSTED   429
├── Unavailable           a part is away: try again later              UNAVAILABLE          503
├── DeadlineExceeded      it took longer than allowed                  DEADLINE_EXCEEDED    504
├── Cancelled             the caller went away                         CANCELLED            499
├── Misconfigured         a setting is wrong: refused at start         FAILED_PRECONDITION  500
└── Internal              a fault of Twin's, its cause in the log      INTERNAL             500

Comes in: nothing. Goes out: classes that carry their statuses. Does not know: gRPC, HTTP libraries, logging.
A message says what was wrong and what to do, and holds no path, address or text that the caller did not send.
"""

from __future__ import annotations


class TwinError(Exception):
    """The root. `code` is stable and for programs; the message is for people."""

    code = "internal"
    grpc = "INTERNAL"
    """Name of the grpc.StatusCode."""
    http = 500
    type = "server_error"
    """OpenAI's error type."""

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        """The request field at fault."""
        self.retry_after = retry_after
        """Seconds after which trying again makes sense."""


class InvalidInput(TwinError):
    code = "invalid_input"
    grpc = "INVALID_ARGUMENT"
    http = 400
    type = "invalid_request_error"


class UnsupportedMedia(InvalidInput):
    code = "unsupported_media"
    http = 415


class Unprocessable(InvalidInput):
    code = "unprocessable"
    http = 422


class TooLarge(InvalidInput):
    code = "too_large"
    grpc = "OUT_OF_RANGE"
    http = 413


class Unauthenticated(TwinError):
    code = "invalid_api_key"
    grpc = "UNAUTHENTICATED"
    http = 401
    type = "authentication_error"


class Forbidden(TwinError):
    code = "forbidden"
    grpc = "PERMISSION_DENIED"
    http = 403
    type = "permission_error"


class NotFound(TwinError):
    code = "not_found"
    grpc = "NOT_FOUND"
    http = 404
    type = "invalid_request_error"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(TwinError):
    code = "method_not_allowed"
    grpc = "UNIMPLEMENTED"
    http = 405
    type = "invalid_request_error"


class Conflict(TwinError):
    code = "conflict"
    grpc = "ABORTED"
    http = 409
    type = "invalid_request_error"


class LeaseLost(Conflict):
    code = "lease_lost"


class PreconditionFailed(TwinError):
    code = "precondition_failed"
    grpc = "FAILED_PRECONDITION"
    http = 412
    type = "invalid_request_error"


class Overloaded(TwinError):
    code = "overloaded"
    grpc = "RESOURCE_EXHAUSTED"
    http = 429
    type = "rate_limit_error"


class Unavailable(TwinError):
    code = "unavailable"
    grpc = "UNAVAILABLE"
    http = 503


class DeadlineExceeded(TwinError):
    code = "deadline_exceeded"
    grpc = "DEADLINE_EXCEEDED"
    http = 504


class Cancelled(TwinError):
    code = "cancelled"
    grpc = "CANCELLED"
    http = 499


class Misconfigured(TwinError):
    code = "misconfigured"
    grpc = "FAILED_PRECONDITION"
    http = 500


class Internal(TwinError):
    """Raised in the place of what was not foreseen: the cause is logged, never sent."""

    code = "internal"


def by_code() -> dict[str, type[TwinError]]:
    """Every class of this file by its code, for the way back from the wire: a part's own kinds of them stay in it."""
    found: dict[str, type[TwinError]] = {}
    pending: list[type[TwinError]] = [TwinError]
    while pending:
        error = pending.pop()
        pending.extend(error.__subclasses__())
        if error is not TwinError and error.__module__ == __name__:
            found[error.code] = error
    return found
