"""What is seen of a running service: traces, metrics, JSON logs.

Comes in: names and numbers from interceptors and wrappers. Goes out: spans to where the standard OTEL_* variables say,
metrics text, log lines on stderr. Does not know: what the work is. Prompts, texts and secrets are never told here;
what a model reads and writes is part of its span only where OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT asks
for it.

Every request has a trace id, exported or not: it is in each log line and in the answer's header. Nothing is exported
until `configure_traces` finds an exporter named.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import structlog
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.exposition import choose_encoder

from services.errors import Misconfigured, TwinError

__all__ = ["Span", "SpanKind"]

REGISTRY = CollectorRegistry()
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SHARES = tuple(number / 20 for number in range(1, 20))

RPC_SECONDS = Histogram(
    "twin_rpc_seconds", "Time a call took.", ["method", "code"], registry=REGISTRY, buckets=_BUCKETS
)
RPC_RUNNING = Gauge("twin_rpc_running", "Calls that are being answered.", registry=REGISTRY)
HTTP_SECONDS = Histogram(
    "twin_http_seconds",
    "Time until a response's last byte.",
    ["method", "route", "status"],
    registry=REGISTRY,
    buckets=_BUCKETS,
)
HTTP_RUNNING = Gauge("twin_http_running", "Requests that are being answered.", registry=REGISTRY)
JOBS = Counter("twin_jobs_total", "Claimed jobs by how they ended.", ["kind", "state"], registry=REGISTRY)
JOBS_WAITING = Gauge("twin_jobs_waiting", "Jobs in the store that wait or run.", ["kind", "state"], registry=REGISTRY)
QUEUE_AGE_SECONDS = Gauge(
    "twin_queue_age_seconds", "How long the oldest job that is due has waited, from the store.", ["kind"],
    registry=REGISTRY,
)  # fmt: skip
CHUNKS = Counter("twin_chunks_embedded_total", "Chunks embedded.", registry=REGISTRY)
TOKENS = Counter("twin_tokens_total", "Tokens of prompts and completions.", ["kind", "model"], registry=REGISTRY)
KEY_TOKENS = Counter("twin_key_tokens_total", "Tokens by the key that paid for them.", ["kind", "key"],
                     registry=REGISTRY)  # fmt: skip
CACHE = Counter("twin_cache_total", "Looks into a cache.", ["cache", "result"], registry=REGISTRY)
ANSWERS = Counter("twin_answers_total", "Answers by how well the passages answered.", ["evidence"], registry=REGISTRY)
SUPPORT = Counter("twin_support_total", "Sentences of answers by verdict.", ["verdict"], registry=REGISTRY)
CONFIDENCE = Histogram(
    "twin_search_confidence", "Confidence that what a search found answers it.", registry=REGISTRY, buckets=_SHARES
)
SEARCH_STEP_SECONDS = Histogram(
    "twin_search_step_seconds", "Time of each step of a search.", ["step"], registry=REGISTRY, buckets=_BUCKETS
)
SEARCH_STEP_FAILURES = Counter(
    "twin_search_step_failures_total", "Steps that searches went on without.", ["step", "code"], registry=REGISTRY
)


# ── Metrics ─────────────────────────────────────────────────────────────────────────────────────────


def metrics(accept: str = "") -> tuple[bytes, str]:
    """All metrics, and their media type: with exemplars for who accepts OpenMetrics, else Prometheus' own text."""
    encode, media_type = choose_encoder(accept)
    return encode(REGISTRY), media_type


def serve_metrics(address: str) -> int | None:
    """Serve /metrics on `host:port` from a thread; the port (of port 0, the one found). None: `off`. Misconfigured."""
    if address == "off":
        return None
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise Misconfigured("The address of the metrics is HOST:PORT, such as localhost:9051, or off.")
    try:
        server, _ = start_http_server(int(port), host.strip("[]"), REGISTRY)
    except OSError as error:
        raise Misconfigured(
            f"Metrics cannot be served on {address} ({error.strerror}): choose another port, or `off`."
        ) from error
    return int(server.server_port)


def exemplar() -> dict[str, str] | None:
    """The trace that a measurement belongs to, where it is exported."""
    current = trace.get_current_span().get_span_context()
    return {"trace_id": trace.format_trace_id(current.trace_id)} if current.trace_flags.sampled else None


# ── Traces ──────────────────────────────────────────────────────────────────────────────────────────

_propagator = TraceContextTextMapPropagator()
_provider: TracerProvider | None = None
_tracer: trace.Tracer | None = None
_exporting = False


def configure_traces(service: str) -> None:
    """Export spans of this process, as `service` unless OTEL_SERVICE_NAME says otherwise, where a standard variable
    names an exporter: OTEL_EXPORTER_OTLP_ENDPOINT (HTTP), OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or
    OTEL_TRACES_EXPORTER=console. Sampling, headers and batches are OpenTelemetry's own variables. Misconfigured."""
    global _provider, _tracer, _exporting  # one a process, as OpenTelemetry has it
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or wanted == "none"
    if _exporting or disabled or not (endpoint or wanted):
        return
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    exporter: SpanExporter
    if wanted == "console":
        exporter = ConsoleSpanExporter(out=sys.stderr)
    elif wanted in ("", "otlp"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    else:
        raise Misconfigured("OTEL_TRACES_EXPORTER is otlp, console or none.")
    name = os.environ.get("OTEL_SERVICE_NAME") or service
    _provider = TracerProvider(
        resource=Resource.create({"service.name": name, "service.version": version("twin")}), shutdown_on_exit=True
    )
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("twin")
    _exporting = True


def flush_traces() -> None:
    """Send what waits to be exported: at the end of a process."""
    if _provider is not None:
        _provider.force_flush(5_000)


def exporting() -> bool:
    """Whether spans go anywhere: else it is not worth making more of them than a trace id needs."""
    return _exporting


def tracer() -> trace.Tracer:
    global _tracer
    if _tracer is None:
        # Spans that record nothing, with real ids.
        _tracer = TracerProvider(sampler=ALWAYS_OFF, resource=Resource.get_empty(), shutdown_on_exit=False).get_tracer(
            "twin"
        )
    return _tracer


@contextmanager
def span(
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, Any] | None = None,
    *,
    parent: Mapping[str, str] | None = None,
    links: Sequence[str] = (),
) -> Iterator[Span]:
    """A span around the block, the current one within it. `parent`: headers that a caller's trace is taken over from;
    `links`: traceparents of other traces that this work is for. An error that leaves the block is its status, by its
    code: messages may repeat what callers sent."""
    context = _propagator.extract(dict(parent)) if parent is not None else None
    linked = [Link(found) for each in links if (found := _context(each)) is not None]
    with tracer().start_as_current_span(
        name,
        context,
        kind,
        attributes,
        linked,
        record_exception=False,
        set_status_on_exception=False,
    ) as made:
        try:
            yield made
        except BaseException as error:
            failed(made, error)
            raise


def begin(
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, Any] | None = None,
    *,
    parent: Mapping[str, str] | None = None,
) -> Span:
    """A span that its maker ends, for what streams: it is not the current one for who reads the stream."""
    return tracer().start_span(
        name, _propagator.extract(dict(parent)) if parent is not None else None, kind, attributes
    )


def enter(made: Span) -> None:
    """Make a span the current one for the rest of this task: for tasks that do one thing, and may be closed from
    another context, where leaving it would fail."""
    contexts.attach(within(made))


def within(made: Span) -> contexts.Context:
    """The context in which this span is the current one."""
    return trace.set_span_in_context(made)


def failed(made: Span, error: BaseException) -> None:
    """Write an error into a span, without its message."""
    if isinstance(error, GeneratorExit):
        return
    code = error.code if isinstance(error, TwinError) else type(error).__name__
    made.set_attribute("error.type", code)
    made.set_status(Status(StatusCode.ERROR, code))


def headers(made: Span | None = None) -> dict[str, str]:
    """What a called service takes the trace over from (W3C Trace Context): of this span, or of the current one."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, within(made) if made is not None else None)
    return carrier


def traceparent() -> str:
    """The current trace as one text, for a job's row; empty where there is none."""
    return headers().get("traceparent", "")


def trace_id() -> str:
    """Of the current trace, 32 hexadecimal digits; empty where there is none."""
    current = trace.get_current_span().get_span_context()
    return trace.format_trace_id(current.trace_id) if current.is_valid else ""


def _context(traceparent: str) -> trace.SpanContext | None:
    found = trace.get_current_span(_propagator.extract({"traceparent": traceparent})).get_span_context()
    return found if found.is_valid else None


# ── Logs ────────────────────────────────────────────────────────────────────────────────────────────


def configure_logs(level: str = "info", *, human: bool = False) -> None:
    """Structured logs on stderr: JSON for machines, coloured lines for people at a terminal."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if human else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _with_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _with_trace(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if trace := trace_id():
        event["trace"] = trace
    return event
