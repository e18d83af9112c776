"""The doorbell between processes: Celery over Redis, answered in a thread of each process that listens.

Comes in: `redis://[:PASSWORD@]HOST:6379/0`, or `rediss://` for TLS (redis_url.py), with `?prefix=` (what keys begin
with) and `?visibility_timeout=` (seconds). Goes out: the port Queue. Does not know: what is done on a ring.

A topic is a Celery queue; a ring is a task in it, which one process takes that listens to the topic. Its task only
hands the answer to the listener's own event loop and is over at once: work is claimed in the store, by lease, so it
does no harm that Redis is emptied, gives a task twice or loses it. Rings are sent by a thread, so that a dead Redis
holds nobody up; what could not be sent is answered in this process and sent when Redis is back.

Celery workers have gone deaf after a reconnect while their process went on. So each worker has a queue of its own, into
which it gets a beat every BEAT seconds: when DEAF of them were sent and none came back, another worker takes its place.
One that found no Redis ends by itself, and another starts when Redis is back.

All openers of one URL in a process share one worker.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from services.adapters import redis_url
from services.adapters.listener import Listener, wake
from services.errors import Misconfigured
from services.ports import Queue

GATHERING = 0.02
"""Seconds between two tasks of one topic: rings that come meanwhile are one."""
WAITING = 16
"""Rings that may wait in Redis for a topic: each is answered after what it tells of, so more tell nothing new."""
EXPIRES = 60
"""Seconds after which a ring that nobody took is dropped: workers have looked at the store by then."""
BEAT = 2.0
DEAF = 3
AGAIN = 1.0
"""Seconds after which sending is tried again."""
SOCKET = 2.0
"""Seconds that Redis has to answer."""
STOPPING = 5.0
"""Seconds that a worker may take to stop; its thread does not keep the process from ending."""
TASK = "twin.ring"

log = structlog.get_logger(__name__)


async def open(url: str, data_dir: Path) -> Queue:
    with _lock:
        bell = _bells.get(url)
        if bell is None:
            bell = _bells[url] = _Bell(url)
        bell.openers += 1
    return RedisQueue(bell)


class RedisQueue:
    def __init__(self, bell: _Bell) -> None:
        self._bell = bell
        self._listeners: list[Listener] = []
        self._closed = False

    async def ring(self, topic: str) -> None:
        self._bell.ring(topic)

    async def listen(self, topic: str, answer: Callable[[], Awaitable[None]]) -> None:
        listener = Listener(topic, answer, asyncio.get_running_loop())
        self._listeners.append(listener)
        self._bell.add(listener)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            for listener in self._listeners:
                self._bell.remove(listener)
                listener.stop()
            await asyncio.to_thread(_leave, self._bell)


class _Bell:
    """What the openers of one URL share: the thread that sends, and the worker that is sent to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.openers = 0
        self._broker, self._options, self._tls = _settings(url)
        self._changed = threading.Condition()
        self._listeners: list[Listener] = []
        self._pending: set[str] = set()
        self._closing = False
        self._worker: _Worker | None = None
        self._thread: threading.Thread | None = None

    def ring(self, topic: str) -> None:
        with self._changed:
            self._pending.add(topic)
            self._wake()

    def add(self, listener: Listener) -> None:
        with self._changed:
            self._listeners.append(listener)
            self._wake()

    def remove(self, listener: Listener) -> None:
        with self._changed:
            self._listeners.remove(listener)
            self._wake()

    def answer(self, topic: str) -> None:
        """Have everyone in this process who listens to the topic answer."""
        with self._changed:
            asked = [listener for listener in self._listeners if listener.topic == topic]
        wake(asked)

    def stop(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(STOPPING + SOCKET)

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="queue-redis", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        """Send what is to be sent, and see to it that a worker listens, until the last opener has left."""
        sender = _Sender(self._app())
        beat_at = again_at = 0.0
        while True:
            with self._changed:
                now = time.monotonic()
                due = [again_at] if self._pending else []
                due += [max(beat_at, again_at)] if self._worker is not None else []
                closing, wanted = self._closing, self._topics()
                if not closing and wanted == self._heard() and (not due or min(due) > now):
                    self._changed.wait(min(due) - now if due else None)
                    continue
                rings = set(self._pending) if closing or now >= again_at else set()
                self._pending -= rings
            if wanted != self._heard():
                self._replace(wanted)
                beat_at = time.monotonic()
            try:
                again_at = time.monotonic() + (GATHERING if rings else 0)
                for topic in sorted(rings):
                    sender.ring(topic)
                    rings = rings - {topic}
                if self._worker is not None and time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + BEAT
                    self._beat(sender, self._worker)
            except Exception as error:  # noqa: BLE001  whatever it is, it is tried again; the store holds the work
                if sender.works:
                    log.warning("queue.redis: rings wait", error=type(error).__name__)
                sender.broke()
                again_at = time.monotonic() + AGAIN
                for topic in rings:
                    self.answer(topic)
                with self._changed:
                    self._pending |= rings
            if closing:
                break
        sender.broke()
        if self._worker is not None:
            self._worker.stop()

    def _replace(self, topics: frozenset[str]) -> None:
        """Another worker for these topics. The one before may take some rings more: they are answered all the same."""
        if self._worker is not None:
            threading.Thread(target=self._worker.stop, name="queue-redis-stop", daemon=True).start()
        self._worker = _Worker(self._app(), topics, self.answer) if topics else None

    def _beat(self, sender: _Sender, worker: _Worker) -> None:
        if worker.unanswered >= DEAF or worker.ended:
            sender.forget(worker.own)
            log.warning("queue.redis: the worker does not hear, another takes its place")
            self._replace(worker.topics)
            return
        sender.send(worker.own, worker.own)
        worker.unanswered += 1

    def _topics(self) -> frozenset[str]:
        return frozenset(listener.topic for listener in self._listeners)

    def _heard(self) -> frozenset[str]:
        return self._worker.topics if self._worker is not None else frozenset()

    def _app(self) -> Any:
        from celery import Celery

        app = Celery("twin", broker=self._broker, set_as_current=False)
        app.conf.update(
            broker_transport_options=self._options,
            broker_use_ssl=self._tls,
            broker_connection_retry_on_startup=True,
            # After that the worker ends: who sees that Redis is back starts another, which does not wait for long.
            broker_connection_max_retries=1,
            worker_cancel_long_running_tasks_on_connection_loss=True,
            task_ignore_result=True,
            task_create_missing_queues=True,
            worker_hijack_root_logger=False,
            worker_enable_remote_control=False,
            worker_prefetch_multiplier=1,
        )
        return app


class _Sender:
    """One connection to Redis, made again after it broke."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._connection: Any = None
        self.works = True

    def ring(self, topic: str) -> None:
        queue = _queue(topic)
        if self._client().llen(queue) < WAITING:
            self.send(queue, topic)

    def send(self, queue: str, topic: str) -> None:
        self._client()
        self._app.send_task(TASK, args=[topic], queue=queue, connection=self._connection, retry=False, expires=EXPIRES)
        self.works = True

    def forget(self, queue: str) -> None:
        self._client().delete(queue)

    def broke(self) -> None:
        self.works = False
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    def _client(self) -> Any:
        if self._connection is None:
            connection = self._app.connection_for_write()
            # One try: the thread comes back by itself.
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=SOCKET)
            self._connection = connection
        return self._connection.default_channel.client


class _Worker:
    """A Celery worker in a thread of its own. `own` names the queue of its beats."""

    def __init__(self, app: Any, topics: frozenset[str], answer: Callable[[str], None]) -> None:
        from kombu.entity import Queue as Taken

        self.topics = topics
        self.own = f"twin.beat.{secrets.token_hex(8)}"
        self.unanswered = 0
        self._answer = answer
        taken: Any = Taken  # kombu is not typed
        app.conf.task_queues = [*(taken(_queue(topic)) for topic in sorted(topics)), taken(self.own, expires=EXPIRES)]
        app.task(self._rung, name=TASK, shared=False)
        self._app = app
        self._worker = app.WorkController(
            hostname=f"{secrets.token_hex(4)}@twin",
            pool="solo",
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
            quiet=True,
        )
        self._thread = threading.Thread(target=self._run, name="celery", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        # It waits for its connection, and that may be gone.
        threading.Thread(target=self._worker.stop, name="celery-stop", daemon=True).start()
        self._thread.join(STOPPING)

    def _run(self) -> None:
        # Tasks are looked up in the thread's current application.
        self._app.set_current()
        try:
            self._worker.start()
        except Exception:
            log.exception("queue.redis: the worker ended")

    def _rung(self, topic: str) -> None:
        if topic == self.own:
            self.unanswered = 0
        else:
            self._answer(topic)


def _queue(topic: str) -> str:
    return f"twin.ring.{topic}"


def _settings(url: str) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    """(broker, its options, TLS) of the URL. Misconfigured."""
    bare, given, tls = redis_url.read(url, "TWIN_QUEUE", ("prefix", "visibility_timeout"))
    visibility = given.get("visibility_timeout", str(EXPIRES))
    if not re.fullmatch(r"[0-9]{1,6}", visibility) or not int(visibility):
        raise Misconfigured("TWIN_QUEUE_URL: ?visibility_timeout= is a whole number of seconds, 1 or more.")
    options: dict[str, Any] = {
        "global_keyprefix": given.get("prefix", ""),
        "visibility_timeout": int(visibility),
        "socket_timeout": SOCKET,
        "socket_connect_timeout": SOCKET,
        "socket_keepalive": True,
        "health_check_interval": 5,
    }
    return bare, options, tls


def _leave(bell: _Bell) -> None:
    """The last to leave stops the threads."""
    with _lock:
        bell.openers -= 1
        last = bell.openers == 0
        if last:
            _bells.pop(bell.url, None)
    if last:
        bell.stop()


_lock = threading.Lock()
_bells: dict[str, _Bell] = {}
