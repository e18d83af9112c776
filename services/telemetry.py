"""What is seen of a running service: JSON logs, metrics in Prometheus' format, and the id that ties a request together.

Comes in: names and numbers from interceptors and wrappers. Goes out: log lines on stderr, metrics text.
Does not know: what the work is. Prompts, texts and secrets are never logged here.
"""

from __future__ import annotations

import contextvars
import logging
import re
import secrets
import sys

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

_TRACE: contextvars.ContextVar[str] = contextvars.ContextVar("twin_trace", default="")
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")

REGISTRY = CollectorRegistry()
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

RPC_SECONDS = Histogram(
    "twin_rpc_seconds", "Time a call took.", ["method", "code"], registry=REGISTRY, buckets=_BUCKETS
)
HTTP_SECONDS = Histogram(
    "twin_http_seconds",
    "Time until a response's last byte.",
    ["method", "route", "status"],
    registry=REGISTRY,
    buckets=_BUCKETS,
)
JOBS = Counter("twin_jobs_total", "Claimed jobs by how they ended.", ["kind", "state"], registry=REGISTRY)
CHUNKS = Counter("twin_chunks_embedded_total", "Chunks embedded.", registry=REGISTRY)
TOKENS = Counter("twin_tokens_total", "Tokens of prompts and completions.", ["kind", "model"], registry=REGISTRY)
ANSWERS = Counter("twin_answers_total", "Answers by how well the passages answered.", ["evidence"], registry=REGISTRY)
SUPPORT = Counter("twin_support_total", "Sentences of answers by verdict.", ["verdict"], registry=REGISTRY)
SEARCH_STEP_SECONDS = Histogram(
    "twin_search_step_seconds", "Time of each step of a search.", ["step"], registry=REGISTRY, buckets=_BUCKETS
)


def metrics() -> bytes:
    """All metrics as Prometheus reads them."""
    return generate_latest(REGISTRY)


def new_trace(traceparent: str | None = None) -> str:
    """Take over the caller's trace, or begin one; returns its id, 32 hexadecimal digits.

    Source: W3C Trace Context, traceparent.
    """
    match = _TRACEPARENT.fullmatch(traceparent or "")
    trace = match[1] if match and match[1] != "0" * 32 else secrets.token_hex(16)
    _TRACE.set(trace)
    structlog.contextvars.bind_contextvars(trace=trace)
    return trace


def traceparent() -> str:
    """What a called service takes the trace over from."""
    return f"00-{_TRACE.get() or secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def configure_logs(level: str = "info", *, human: bool = False) -> None:
    """Structured logs on stderr: JSON for machines, coloured lines for people at a terminal."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if human else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
