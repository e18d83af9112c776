"""The doorbell inside one process: Celery over its in-memory broker, answered in a thread.

Comes in: `memory://`. Goes out: the port Queue. Does not know: what is done on a ring.

All openers in a process share one Celery worker; its task only looks up who listens and hands the answer to the
listener's own event loop. Celery takes most of a second to start, so the first ring starts it beside the work, and
rings are answered without it until it runs. A queue of its own name for each start: no backlog of an earlier one.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from services.adapters.listener import Listener, wake
from services.errors import Misconfigured
from services.ports import Queue

POLLING = 0.02
"""Seconds between looks of the worker at its broker: the default of 1 s would delay every job by that."""
STOPPING = 5.0
"""Seconds that the worker may take to stop; its thread does not keep the process from ending."""


async def open(url: str, data_dir: Path) -> Queue:
    if url != "memory://":
        raise Misconfigured("TWIN_QUEUE_URL: memory:// takes nothing more.")
    return MemoryQueue()


class MemoryQueue:
    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._closed = False
        _bell.join()

    async def ring(self, topic: str) -> None:
        await _bell.ring(topic)

    async def listen(self, topic: str, answer: Callable[[], Awaitable[None]]) -> None:
        listener = Listener(topic, answer, asyncio.get_running_loop())
        self._listeners.append(listener)
        _bell.add(listener)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            for listener in self._listeners:
                _bell.remove(listener)
                listener.stop()
            await asyncio.to_thread(_bell.leave)


class _Bell:
    """What the openers of one process share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._openers = 0
        self._listeners: list[Listener] = []
        self._on_their_way: set[str] = set()
        self._app: Any = None
        self._thread: threading.Thread | None = None

    def join(self) -> None:
        with self._lock:
            self._openers += 1

    def add(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.remove(listener)

    async def ring(self, topic: str) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="celery", daemon=True)
                self._thread.start()
            app = self._app
            if app is not None:
                if topic in self._on_their_way:
                    return
                self._on_their_way.add(topic)
        if app is None:
            self.answer(topic)
        else:
            await asyncio.to_thread(app.send_task, "twin.ring", args=[topic], ignore_result=True)

    def answer(self, topic: str) -> None:
        """Have everyone who listens to the topic answer, each in their own loop."""
        with self._lock:
            self._on_their_way.discard(topic)
            asked = [listener for listener in self._listeners if listener.topic == topic]
        wake(asked)

    def leave(self) -> None:
        """The last to leave stops the worker."""
        with self._lock:
            self._openers -= 1
            thread, self._thread = (None, self._thread) if self._openers else (self._thread, None)
        if thread is not None:
            self._stop(thread)

    def _work(self) -> None:
        """The worker's thread, from making the worker to its end."""
        from celery import Celery

        app = Celery("twin", broker="memory://localhost", set_as_current=False)
        # The pool's threads look a task up in the process's default application.
        app.set_default()
        app.conf.update(
            broker_transport_options={"polling_interval": POLLING},
            task_default_queue=f"twin-{secrets.token_hex(8)}",
            task_ignore_result=True,
            worker_hijack_root_logger=False,
        )
        app.task(self.answer, name="twin.ring", shared=False)
        worker = app.WorkController(
            hostname=f"{secrets.token_hex(4)}@twin",
            pool="threads",
            concurrency=1,
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
            quiet=True,
        )
        with self._lock:
            self._app = app
        worker.start()

    def _stop(self, thread: threading.Thread) -> None:
        from celery.worker import state

        while thread.is_alive() and self._app is None:
            thread.join(POLLING)
        if not thread.is_alive():
            return
        app, self._app = self._app, None
        # Celery's own way to end a worker, and two rings: it waits for one more message after it has seen the flag.
        state.should_stop = 0
        for _ in range(2):
            app.send_task("twin.ring", args=[""], ignore_result=True)
        thread.join(STOPPING)
        state.should_stop = None
        app.close()
        self._on_their_way.clear()


_bell = _Bell()
