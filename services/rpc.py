"""gRPC as Twin uses it: serve, connect, deadlines, errors ⇄ status, health, reflection, drain.

Comes in: a servicer, an object with one coroutine (or asynchronous generator, where the answer is a stream) a method
of the service, named in snake_case, that takes and gives protobuf messages. Goes out: a running server, or a caller.
Does not know: what the messages say.

Requests are parsed here and not by the library, so that malformed bytes are INVALID_ARGUMENT without class names. An
error of services.errors crosses as its status, with code, param and retry_after in trailing metadata; anything else
is logged and crosses as Internal, saying nothing of the inside.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services import telemetry
from services.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidInput,
    MethodNotAllowed,
    Misconfigured,
    NotFound,
    Overloaded,
    TwinError,
    Unavailable,
    by_code,
)

log = structlog.get_logger()
M = TypeVar("M", bound=Message)
T = TypeVar("T")

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""gRPC's default; longer texts go in windows."""
DEFAULT_DEADLINE = 60.0
"""Seconds granted to a call that names no deadline (grpcurl, say)."""
MAX_CONCURRENT = 1000
"""Calls at once in a server; more are RESOURCE_EXHAUSTED."""
CONNECTION_AGE = 60
"""Seconds after which a connection is closed once its calls have ended: clients find a server that came later within
this time, such as a pod that an autoscaler adds."""
ATTEMPTS = 4
"""Of one call, where it may be repeated."""
ALIVE = "alive"
"""What health checks may ask for instead of a service: serving as long as the process answers, whether or not its
stores do. An orchestrator that restarted what waits for a store would only make it worse."""
PAUSE = 0.05
"""Seconds before the first retry; twice as long before each further one."""
PATIENCE = 4.0
"""Seconds that a call waits for a service none of whose servers can be reached: longer than reconnecting takes."""
WATCHES = "Watch"
"""What a method's name begins with whose stream lasts as long as somebody looks: a server that stops ends it at once,
and its caller goes on with another."""
_AWAY = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.CONNECTING)
_ERROR = "twin-error-bin"
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Both sides agree on pings every minute: a dead peer is noticed, and the server doesn't take them for abuse.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a service is, by files in PEM: its certificate and key, and the authority whose certificates it believes."""

    certificate: Path
    key: Path
    authority: Path

    def server(self) -> Any:
        """Server credentials; the files are read again for each new connection, so a renewed certificate is taken up
        by itself."""

        def read() -> Any:
            return grpc.ssl_server_certificate_configuration(
                [(self.key.read_bytes(), self.certificate.read_bytes())], self.authority.read_bytes()
            )

        def again() -> Any:
            try:
                return read()
            except OSError as error:  # being renewed just now: the last ones hold
                log.warning("certificate not read", error=error.strerror)
                return None

        return grpc.dynamic_ssl_server_credentials(read(), again, require_client_authentication=True)

    def channel(self) -> Any:
        return grpc.ssl_channel_credentials(
            self.authority.read_bytes(), self.key.read_bytes(), self.certificate.read_bytes()
        )


# ── Serving ─────────────────────────────────────────────────────────────────────────────────────────


class Server:
    """A server of one or more services on one address (`unix:/path` or `host:port`)."""

    def __init__(
        self,
        address: str,
        services: Sequence[tuple[ServiceDescriptor, object]],
        *,
        concurrent: int = MAX_CONCURRENT,
        identity: Identity | None = None,
        health_address: str = "",
    ) -> None:
        """`concurrent`: calls at once; more are RESOURCE_EXHAUSTED. `identity`: only who proves one of the same
        authority is listened to. `health_address`: where health is told to anybody, for probes that have no
        certificate."""
        self.address = address
        self._health_address = health_address
        self._services = services
        self._concurrent = concurrent
        self._identity = identity
        self._health = health.aio.HealthServicer()
        self._stopping = asyncio.Event()
        self._server: Any = None
        self._probed: Any = None

    async def start(self) -> int:
        """Listen; returns the port (0 for a Unix socket). Unavailable when the address is taken."""
        ages = () if self.address.startswith("unix:") else (("grpc.max_connection_age_ms", CONNECTION_AGE * 1000),)
        server = grpc.aio.server(options=(*_OPTIONS, *ages), maximum_concurrent_rpcs=self._concurrent)
        for descriptor, servicer in self._services:
            server.add_generic_rpc_handlers((_handlers(descriptor, servicer, self._stopping),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [descriptor.full_name for descriptor, _ in self._services]
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        try:
            if self._identity is None or self.address.startswith("unix:"):
                port = server.add_insecure_port(self.address)
            else:
                port = server.add_secure_port(self.address, self._identity.server())
        except RuntimeError as error:
            raise Unavailable(f"Cannot listen on {self.address}: is it taken? Choose another address.") from error
        await server.start()
        self._server = server
        await self._health.set(ALIVE, health_pb2.HealthCheckResponse.SERVING)
        await self.set_serving(True)
        if self._health_address:
            self._probed = grpc.aio.server()
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probed)
            try:
                self._probed.add_insecure_port(self._health_address)
            except RuntimeError as error:
                raise Unavailable(
                    f"Cannot listen on {self._health_address}: is it taken? Choose another address."
                ) from error
            await self._probed.start()
        return int(port) if not self.address.startswith("unix:") else 0

    async def set_serving(self, serving: bool) -> None:
        """What health checks are told."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *(descriptor.full_name for descriptor, _ in self._services)):
            await self._health.set(name, status)

    async def stop(self, grace: float = 10.0) -> None:
        """Take no new calls, let running ones finish within `grace` seconds, then end them. Who only watches is told
        at once that the server is going away: the caller asks another."""
        self._stopping.set()
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(grace)
            self._server = None
        if self._probed is not None:
            await self._probed.stop(0)
            self._probed = None


def _handlers(service: ServiceDescriptor, servicer: object, stopping: asyncio.Event) -> Any:
    methods = {}
    for method in service.methods:
        implementation = getattr(servicer, _snake(method.name))
        make = {
            (False, False): (_unary, grpc.unary_unary_rpc_method_handler),
            (False, True): (_streaming, grpc.unary_stream_rpc_method_handler),
            (True, False): (_collecting, grpc.stream_unary_rpc_method_handler),
        }[method.client_streaming, method.server_streaming]
        wrap, handler = make
        if method.name.startswith(WATCHES):
            implementation = _watched(implementation, stopping)
        methods[method.name] = handler(
            wrap(method, implementation), request_deserializer=None, response_serializer=_serialize
        )
    return grpc.method_handlers_generic_handler(service.full_name, methods)


def _unary(method: MethodDescriptor, implementation: Any) -> Any:
    kind = message_factory.GetMessageClass(method.input_type)

    async def call(data: bytes, context: Any) -> Message:
        async with _Handling(method, context) as handling:
            request = _parse(kind, data)
            async with asyncio.timeout(handling.seconds):
                answer: Message = await implementation(request)
                return answer
        raise AssertionError("aborted")  # context.abort has raised

    return call


def _streaming(method: MethodDescriptor, implementation: Any) -> Any:
    kind = message_factory.GetMessageClass(method.input_type)

    async def call(data: bytes, context: Any) -> AsyncIterator[Message]:
        async with _Handling(method, context) as handling:
            events = implementation(_parse(kind, data))
            try:
                async with asyncio.timeout(handling.seconds):
                    async for event in events:
                        yield event
            finally:
                await events.aclose()

    return call


def _watched(implementation: Any, stopping: asyncio.Event) -> Any:
    async def watch(request: Message) -> AsyncGenerator[Message, None]:
        async with aclosing(until(implementation(request), stopping)) as events:
            async for event in events:
                yield event
        if stopping.is_set():
            raise Unavailable("This part of Twin is being restarted. Ask again: another one answers.")

    return watch


async def until(events: AsyncGenerator[T, None], over: asyncio.Event) -> AsyncGenerator[T, None]:
    """The events up to the moment when it is over; then they are closed."""
    ending = asyncio.create_task(over.wait())
    try:
        while True:
            coming = asyncio.ensure_future(anext(events))
            try:
                await asyncio.wait({coming, ending}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    return
                event = coming.result()
            except StopAsyncIteration:
                return
            finally:
                coming.cancel()
                await asyncio.wait({coming})
            yield event
    finally:
        ending.cancel()
        await events.aclose()


def _collecting(method: MethodDescriptor, implementation: Any) -> Any:
    kind = message_factory.GetMessageClass(method.input_type)

    async def parsed(pieces: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for data in pieces:
            yield _parse(kind, data)

    async def call(pieces: AsyncIterator[bytes], context: Any) -> Message:
        async with _Handling(method, context) as handling, asyncio.timeout(handling.seconds):
            answer: Message = await implementation(parsed(pieces))
            return answer
        raise AssertionError("aborted")

    return call


class _Handling:
    """Around one call: trace, deadline, metrics, and the one translation of errors into status."""

    def __init__(self, method: MethodDescriptor, context: Any) -> None:
        self.name = f"{method.containing_service.name}/{method.name}"
        self.context = context
        self.began = time.perf_counter()
        left = context.time_remaining()
        self.seconds = DEFAULT_DEADLINE if left is None or left > 1e8 else left

    async def __aenter__(self) -> _Handling:
        metadata = dict(self.context.invocation_metadata() or ())
        service, _, method = self.name.partition("/")
        self._span = telemetry.begin(
            f"twin.v1.{self.name}",
            telemetry.SpanKind.SERVER,
            {"rpc.system": "grpc", "rpc.service": f"twin.v1.{service}", "rpc.method": method},
            parent={"traceparent": str(metadata.get("traceparent", ""))},
        )
        telemetry.enter(self._span)
        telemetry.RPC_RUNNING.inc()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        code = "OK"
        try:
            if error is None or isinstance(error, GeneratorExit):
                return False
            if isinstance(error, asyncio.CancelledError):
                code = "CANCELLED"
                return False
            translated = _translate(error, self.name)
            code = translated.grpc
            await self.context.abort(
                grpc.StatusCode[translated.grpc], translated.message, ((_ERROR, _pack(translated)),)
            )
            return False
        finally:
            telemetry.RPC_RUNNING.dec()
            telemetry.RPC_SECONDS.labels(self.name, code).observe(
                time.perf_counter() - self.began, telemetry.exemplar()
            )
            self._span.set_attribute("rpc.grpc.status_code", grpc.StatusCode[code].value[0])
            if code != "OK":
                self._span.set_attribute("error.type", code)
            self._span.end()


def _translate(error: BaseException, name: str) -> TwinError:
    if isinstance(error, TwinError):
        return error
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("It took longer than the call's deadline. Ask for less, or allow more time.")
    log.error("call failed", method=name, exc_info=error)
    return Internal("Something went wrong inside Twin; the log has the cause under this trace.")


def _parse(kind: type[Message], data: bytes) -> Message:
    try:
        return kind.FromString(data)
    except (DecodeError, ValueError) as error:
        raise InvalidInput(
            "The request's bytes are not a message of this method: check the proto's version."
        ) from error


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _pack(error: TwinError) -> bytes:
    return json.dumps({"code": error.code, "param": error.param, "retry_after": error.retry_after}).encode()


# ── Calling ─────────────────────────────────────────────────────────────────────────────────────────


class Caller:
    """Calls one service's methods over a channel, and turns statuses back into errors."""

    def __init__(self, channel: Any, service: ServiceDescriptor) -> None:
        self._channel = channel
        self._calls: dict[str, Any] = {}
        self._service = service.full_name
        self._budget = RetryBudget()
        for method in service.methods:
            make = {
                (False, False): channel.unary_unary,
                (False, True): channel.unary_stream,
                (True, False): channel.stream_unary,
            }[method.client_streaming, method.server_streaming]
            self._calls[method.name] = make(
                f"/{service.full_name}/{method.name}",
                request_serializer=_serialize,
                response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
            )

    async def unary(
        self, method: str, request: Message, kind: type[M], *, timeout: float, idempotent: bool = False
    ) -> M:
        """One request, one answer of `kind`, within `timeout` seconds. Idempotent ones are tried again while the
        service is unavailable, time is left and the budget of retries allows."""
        until = time.monotonic() + timeout
        patient = min(until, time.monotonic() + PATIENCE)
        with telemetry.span(f"{self._service}/{method}", telemetry.SpanKind.CLIENT, self._attributes(method)):
            for attempt in range(ATTEMPTS):
                await self._reachable(patient)
                try:
                    answer = await self._calls[method](
                        request, timeout=max(0.001, until - time.monotonic()), metadata=_metadata()
                    )
                except grpc.aio.AioRpcError as error:
                    translated = _error(error)
                    if not (idempotent and await self._again(translated, attempt, until)):
                        raise translated from None
                else:
                    self._budget.give()
                    return _typed(answer, kind)
        raise AssertionError("the last attempt returns or raises")

    async def stream(
        self, method: str, request: Message, kind: type[M], *, timeout: float, resume: bool = False
    ) -> AsyncGenerator[M, None]:
        """One request, a stream of answers; closing the iterator cancels the call. Tried again as long as it has given
        nothing; with `resume` afterwards too, where asking again is as good as going on."""
        until = time.monotonic() + timeout
        made = telemetry.begin(f"{self._service}/{method}", telemetry.SpanKind.CLIENT, self._attributes(method))
        attempt = 0
        patient = min(until, time.monotonic() + PATIENCE)
        try:
            while True:
                await self._reachable(patient)
                call = self._calls[method](
                    request, timeout=max(0.001, until - time.monotonic()), metadata=_metadata(made)
                )
                begun = False
                try:
                    async for message in call:
                        begun = True
                        yield _typed(message, kind)
                except grpc.aio.AioRpcError as error:
                    translated = _error(error)
                    if begun and resume:
                        attempt, patient = 0, min(until, time.monotonic() + PATIENCE)
                    elif begun:
                        raise translated from None
                    if not await self._again(translated, attempt, until):
                        raise translated from None
                    attempt += 1
                else:
                    self._budget.give()
                    return
                finally:
                    call.cancel()
        except BaseException as error:
            telemetry.failed(made, error)
            raise
        finally:
            made.end()

    async def _again(self, error: TwinError, attempt: int, until: float) -> bool:
        """Whether to call once more, after a pause: the service was not there, and will be; or it was stopped just when
        it was asked, which gRPC tells as cancelled (what the caller itself cancels does not come here)."""
        if not isinstance(error, Unavailable | Cancelled) or error.retry_after is not None or attempt + 1 >= ATTEMPTS:
            return False
        # Where nobody could be reached, nobody was burdened: the first retry is free.
        if attempt and not self._budget.take():
            return False
        pause = PAUSE * 2**attempt
        if time.monotonic() + pause >= until:
            return False
        await asyncio.sleep(pause)
        return True

    async def _reachable(self, until: float) -> None:
        """Wait until then at most while no server of this service can be reached: one may be starting just now."""
        if self._channel.get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            return
        try:
            async with asyncio.timeout(until - time.monotonic()):
                while (state := self._channel.get_state(try_to_connect=True)) in _AWAY:
                    await self._channel.wait_for_state_change(state)
        except TimeoutError:
            pass  # the call itself says that it is away

    async def collect(self, method: str, requests: AsyncIterator[Message], kind: type[M], *, timeout: float) -> M:
        """A stream of requests, one answer."""
        with telemetry.span(f"{self._service}/{method}", telemetry.SpanKind.CLIENT, self._attributes(method)):
            await self._reachable(time.monotonic() + min(timeout, PATIENCE))
            try:
                answer = await self._calls[method](requests, timeout=timeout, metadata=_metadata())
            except grpc.aio.AioRpcError as error:
                raise _error(error) from None
            return _typed(answer, kind)

    def _attributes(self, method: str) -> dict[str, str]:
        return {"rpc.system": "grpc", "rpc.service": self._service, "rpc.method": method}


class RetryBudget:
    """Retries are for single failures: where most calls fail, more calls make it worse. Each retry takes one of ten
    tokens, each success gives a tenth back (the numbers of gRPC's retryThrottling, proposal A6)."""

    MOST = 10.0
    A_SUCCESS = 0.1

    def __init__(self) -> None:
        self._tokens = self.MOST

    def take(self) -> bool:
        """Whether one more retry is within the budget: while more than half of it is left."""
        allowed = self._tokens > self.MOST / 2
        self._tokens = max(0.0, self._tokens - 1)
        return allowed

    def give(self) -> None:
        self._tokens = min(self.MOST, self._tokens + self.A_SUCCESS)


def connect(address: str, identity: Identity | None = None) -> Any:
    """A channel to a service; every address that a name resolves to is used in turn, those left out whose health says
    that they don't serve. With an identity both sides prove theirs."""
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    options: list[tuple[str, Any]] = list(_OPTIONS)
    if address.startswith("unix:"):
        # Unix sockets have no host name; without an authority of our own the path would become one.
        options.append(("grpc.default_authority", "twin"))
    else:
        config["healthCheckConfig"] = {"serviceName": ""}
        # A service that comes back is found within a second or two, and not only after gRPC's two minutes.
        options += [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2_000)]
        options.append(("grpc.dns_min_time_between_resolutions_ms", 1_000))
    options.append(("grpc.service_config", json.dumps(config)))
    if identity is None or address.startswith("unix:"):
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, identity.channel(), options=options)


def _metadata(made: telemetry.Span | None = None) -> tuple[tuple[str, str], ...]:
    return tuple(telemetry.headers(made).items())


def _typed(message: Any, kind: type[M]) -> M:
    if not isinstance(message, kind):
        raise Internal(f"A {kind.__name__} was expected.")
    return message


_BY_STATUS: dict[str, type[TwinError]] = {
    "INVALID_ARGUMENT": InvalidInput,
    "NOT_FOUND": NotFound,
    "UNIMPLEMENTED": MethodNotAllowed,
    "RESOURCE_EXHAUSTED": Overloaded,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
    "FAILED_PRECONDITION": Misconfigured,
}
_SAYS = {
    "UNAVAILABLE": "A part of Twin cannot be reached. Try again in a moment; `twin doctor` says which one.",
    "DEADLINE_EXCEEDED": "It took longer than the call's deadline. Ask for less, or allow more time.",
    "RESOURCE_EXHAUSTED": "Too much at once, or a message too large. Try again in a moment.",
    "CANCELLED": "The call was cancelled.",
}


def _error(error: Any) -> TwinError:
    """The error of a status: as our server packed it, or by the status alone for one that gRPC itself made."""
    packed = (error.trailing_metadata() or {}).get(_ERROR)
    if packed is not None:
        known = json.loads(packed)
        kind = by_code().get(known["code"], Internal)
        return kind(error.details() or "", param=known["param"], retry_after=known["retry_after"])
    status = error.code().name
    return _BY_STATUS.get(status, Internal)(_SAYS.get(status, "A part of Twin answered with a fault; see the log."))
