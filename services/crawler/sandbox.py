"""Child processes in which hostile bytes are parsed: what hangs, swells or crashes there takes no server with it.

Comes in: the name of a task, a header (JSON) and bytes. Goes out: the task's frames, header and bytes each, or an error
of services.errors. Does not know: what the tasks do (tasks.py).

The parent asks over the child's standard input and reads from its standard output; both speak frames: 4 bytes length of
the header, 8 bytes length of the payload, header, payload. Nothing is pickled. A child that exceeds its time is killed,
one that dies is replaced, its memory is limited by the kernel, and it is ended after so many requests or seconds of
rest, so that memory comes back. It sees none of Twin's settings.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any, BinaryIO

from services.errors import DeadlineExceeded, Internal, TwinError, Unavailable, Unprocessable, by_code

_LENGTHS = struct.Struct(">IQ")
_LARGEST_HEADER = 64 * 1024 * 1024
_LARGEST_PAYLOAD = 1024 * 1024 * 1024
_NO_CHILD = "The process that reads documents does not start: is memory short?"
STARTING_SECONDS = 30.0
"""For a child to start on a machine that is busy."""

Frame = tuple[dict[str, Any], bytes]


class Sandbox:
    """Up to `size` children, started when needed."""

    def __init__(
        self,
        *,
        size: int,
        memory: int,
        requests: int = 500,
        idle_seconds: float = 30.0,
    ) -> None:
        """`memory`: bytes of address space for one child. `requests`: after so many a child is replaced."""
        self._size = size
        self._memory = memory
        self._requests = requests
        self._idle = idle_seconds
        self._free: list[_Child] = []
        self._slots = asyncio.Semaphore(size)
        self._sweeping: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._closed = False

    def load(self, task: str) -> None:
        """Start a child beforehand, which does `task` first: the first request need not wait for what that imports.

        It is ended like any other that rests. Where it cannot be started, the first request says so.
        """
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(task))

    async def _load(self, task: str) -> None:
        with suppress(TwinError):
            await self.call(task, {}, seconds=STARTING_SECONDS)

    async def call(self, task: str, header: Mapping[str, Any], payload: bytes = b"", *, seconds: float) -> Frame:
        """The single frame of a task."""
        answer: Frame | None = None
        async with aclosing(self.stream(task, header, payload, seconds=seconds)) as frames:
            async for frame in frames:  # to its end: a child whose frames are read can be asked again
                answer = answer or frame
        if answer is None:
            raise Internal("A task of the sandbox gave nothing.")
        return answer

    async def stream(
        self, task: str, header: Mapping[str, Any], payload: bytes = b"", *, seconds: float
    ) -> AsyncGenerator[Frame, None]:
        """The frames of a task, each within `seconds` of the one before; DeadlineExceeded, or the task's own error.

        Unprocessable where the child died of it. Closing the iterator early ends the child.
        """
        async with self._slots:
            child = await self._take()
            whole = False
            try:
                await child.send({"task": task, **header}, payload)
                while True:
                    try:
                        async with asyncio.timeout(seconds):
                            answer, data = await child.receive()
                    except TimeoutError as error:
                        raise DeadlineExceeded(f"It took longer than {seconds:.0f} seconds to read this.") from error
                    if "error" in answer:
                        whole = True
                        raise by_code().get(answer["error"], Internal)(answer["message"], param=answer.get("param"))
                    if answer.get("end"):
                        whole = True
                        return
                    yield answer, data
            except (EOFError, ConnectionError) as error:
                raise Unprocessable(
                    "It cannot be read: reading it needs too much memory, or makes the reader crash."
                ) from error
            finally:
                child.served += 1
                if whole and child.served < self._requests and not self._closed:
                    child.rested_since = time.monotonic()
                    self._free.append(child)
                    self._sweep()
                else:
                    await child.end()

    async def _take(self) -> _Child:
        while self._free:
            child = self._free.pop()
            if child.alive:
                return child
            await child.end()
        return await _Child.start(self._memory)

    def _sweep(self) -> None:
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._end_idle())

    async def _end_idle(self) -> None:
        while self._free:
            await asyncio.sleep(self._idle / 4)
            now = time.monotonic()
            idle = [child for child in self._free if now - child.rested_since >= self._idle]
            self._free = [child for child in self._free if child not in idle]
            for child in idle:
                await child.end()

    async def close(self) -> None:
        self._closed = True
        for task in (self._loading, self._sweeping):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        free, self._free = self._free, []
        for child in free:
            await child.end()


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.served = 0
        self.rested_since = 0.0

    @classmethod
    async def start(cls, memory: int) -> _Child:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TWIN_")}
        environment["PYTHONPATH"] = os.pathsep.join(each for each in sys.path if each)
        # The parsers are native code with thread pools of their own: one document, one thread.
        environment["OMP_NUM_THREADS"] = environment["OPENBLAS_NUM_THREADS"] = "1"
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.crawler.sandbox",
                str(memory),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment,
                # Ctrl-C at the terminal is the server's to handle.
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(_NO_CHILD) from error
        child = cls(process)
        try:
            async with asyncio.timeout(STARTING_SECONDS):
                await child.receive()
        except (TimeoutError, EOFError) as error:
            await child.end()
            raise Unavailable(_NO_CHILD) from error
        except BaseException:
            await child.end()
            raise
        return child

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def send(self, header: Mapping[str, Any], payload: bytes) -> None:
        pipe = self._process.stdin
        if pipe is None:
            raise EOFError
        encoded = json.dumps(header).encode()
        pipe.write(_LENGTHS.pack(len(encoded), len(payload)))
        pipe.write(encoded)
        pipe.write(payload)
        await pipe.drain()

    async def receive(self) -> Frame:
        pipe = self._process.stdout
        if pipe is None:
            raise EOFError
        header, payload = _lengths(await pipe.readexactly(_LENGTHS.size))
        return json.loads(await pipe.readexactly(header)), await pipe.readexactly(payload)

    async def end(self) -> None:
        if self.alive:
            try:
                self._process.kill()
            except ProcessLookupError:
                pass
        # communicate() also closes the pipes; what is left in them is of no use.
        await asyncio.shield(self._process.communicate())


def _lengths(packed: bytes) -> tuple[int, int]:
    header, payload = _LENGTHS.unpack(packed)
    if header > _LARGEST_HEADER or payload > _LARGEST_PAYLOAD:
        raise EOFError("not a frame")
    return header, payload


# ── Inside the child ────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    """Serve requests until standard input ends."""
    _limit_memory(int(sys.argv[1]))
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    # A library that prints must not break the frames, one that reads must not eat them.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    from services.crawler.tasks import TASKS

    _write(answers, {}, b"")
    while True:
        packed = requests.read(_LENGTHS.size)
        if len(packed) < _LENGTHS.size:
            return
        length, size = _lengths(packed)
        header = json.loads(requests.read(length))
        payload = requests.read(size)
        try:
            for answer, data in TASKS[header.pop("task")](header, payload):
                _write(answers, answer, data)
            _write(answers, {"end": True}, b"")
        except TwinError as error:
            _write(answers, {"error": error.code, "message": error.message, "param": error.param}, b"")
        except (MemoryError, RecursionError):
            _write(answers, {"error": "too_large", "message": "It needs more memory to be read than is allowed."}, b"")
        except Exception as error:  # noqa: BLE001  any parser's error about any bytes; only its kind is told
            message = f"It cannot be read: it is malformed ({type(error).__name__})."
            _write(answers, {"error": "unprocessable", "message": message}, b"")
        del header, payload


def _limit_memory(memory: int) -> None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit: time and size are limited all the same
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _write(pipe: BinaryIO, header: Mapping[str, Any], payload: bytes) -> None:
    encoded = json.dumps(header).encode("utf-8", "surrogatepass")
    pipe.write(_LENGTHS.pack(len(encoded), len(payload)))
    pipe.write(encoded)
    pipe.write(payload)
    pipe.flush()


if __name__ == "__main__":
    main()
