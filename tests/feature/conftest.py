from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.feature.world import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = await open_world(tmp_path)
    yield made
    await made.close()
