"""The servers' own promises: they share a run, they end with it, and only they are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.servers import fixtures, obtain, run


@pytest.fixture
def servers(tmp_path: Path) -> run.Servers:
    if not obtain.cached("redis"):
        pytest.skip("needs redis: `make servers-up SERVERS=redis` fetches it")
    return run.Servers(tmp_path)


def test_started_once_and_ended_with_nothing_left(servers: run.Servers, tmp_path: Path) -> None:
    """A second start finds the first; after the end there is no process, no data and no file that tells of it."""
    first = servers.start("redis")
    try:
        assert servers.start("redis") == first
        assert set(run.Servers(tmp_path).running()) == {"redis"}
    finally:
        assert servers.stop() == ["redis"]
    assert first.process() is None
    assert not Path(first.directory).exists()
    assert servers.running() == {}
    assert not (tmp_path / "running.json").exists()
    assert servers.stop() == []


def killed(server: run.Running) -> None:
    os.kill(server.pid, signal.SIGKILL)
    end = time.monotonic() + 60
    while server.process() is not None:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_one_comes_back_where_it_was(servers: run.Servers) -> None:
    """On the same ports and data, as a restarted machine's would; a start after the kill makes a new one."""
    first = servers.start("redis")
    try:
        killed(first)
        assert servers.running() == {}
        again = servers.restart("redis")
        assert again.pid != first.pid
        assert (again.variables, again.directory) == (first.variables, first.directory)
        killed(again)
        assert servers.start("redis").directory != first.directory
        assert not Path(first.directory).exists()
    finally:
        servers.stop()


def test_another_process_under_the_same_id_is_left_alone(servers: run.Servers, tmp_path: Path) -> None:
    """Ids are given again: one that started at another moment is not ours, and is not ended."""
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            directory = tmp_path / "data"
            directory.mkdir()
            began = psutil.Process(other.pid).create_time()
            ours = run.Running("redis", other.pid, began - 5, [], {}, "", str(directory), {})
            servers._write([ours])
            assert servers.running() == {}
            assert servers.stop() == []
            assert other.poll() is None
            assert not directory.exists()
        finally:
            other.kill()


def test_a_killed_run_is_swept(servers: run.Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a run of the tests left that was killed is ended by the next; what a living one uses is not."""
    monkeypatch.setattr(run, "CACHE", tmp_path)
    with subprocess.Popen(["true"]) as gone:
        pass
    left, used = run.of_session(gone.pid).start("redis"), run.of_session(os.getpid()).start("redis")
    try:
        run.sweep()
        assert left.process() is None
        assert used.process() is not None
    finally:
        run.of_session(os.getpid()).stop()


def test_what_is_missing_skips_or_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable names a server; without one, and without its program, a test is skipped, or fails in one line where
    servers are required."""
    monkeypatch.setitem(obtain.PROGRAMS, "redis", obtain.Program("none", "redis", _cannot))
    monkeypatch.setattr(obtain, "CACHE", tmp_path)
    monkeypatch.setenv("TWIN_TEST_REDIS_URL", "redis://elsewhere:1")
    assert fixtures.server("redis", "TWIN_TEST_REDIS_URL") == "redis://elsewhere:1"
    monkeypatch.delenv("TWIN_TEST_REDIS_URL")
    monkeypatch.delenv("TWIN_REQUIRE_SERVERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make servers-up SERVERS=redis"):
        fixtures.server("redis", "TWIN_TEST_REDIS_URL")
    monkeypatch.setenv("TWIN_REQUIRE_SERVERS", "1")
    with pytest.raises(pytest.fail.Exception, match=r"^redis: there is no such tool$"):
        fixtures.server("redis", "TWIN_TEST_REDIS_URL")


def _cannot(directory: Path) -> None:
    raise obtain.Missing("there is no such tool")
