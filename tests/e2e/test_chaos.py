"""A short run of tests/chaos.py: `make chaos` is the long one."""

from __future__ import annotations

import os

import pytest

from tests import chaos


@pytest.mark.skipif(os.environ.get("TWIN_TEST_CHAOS") != "1", reason="takes minutes: TWIN_TEST_CHAOS=1, or make chaos")
@pytest.mark.timeout(1500)
async def test_under_fire(
    mongodb_server: str,
    weaviate_server: str,
    redis_server: str,
    toxiproxy_server: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fifteen faults of every kind during an ingest and under questions: nothing lost, nothing doubled, no answer cut
    without an error event, and answers flow again within seconds."""
    await chaos.run(faults=15, minutes=20, documents=60, seed=20, steps=6)
