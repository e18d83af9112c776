"""What every rate limit promises."""

from __future__ import annotations

from services.ports import Limits


async def test_room_is_used_up_a_key(limits: Limits) -> None:
    """So many a minute and no more; then the seconds to wait, at most a minute; other keys are not touched."""
    assert [await limits.hit("a", 3) for _ in range(3)] == [0, 0, 0]
    assert 0 < await limits.hit("a", 3) <= 60
    assert await limits.hit("b", 3) == 0


async def test_cost_counts(limits: Limits) -> None:
    """A hit takes its cost of the room, and one that does not fit takes nothing."""
    assert await limits.hit("a", 10, cost=8) == 0
    assert await limits.hit("a", 10, cost=3) > 0
    assert await limits.hit("a", 10, cost=2) == 0
    assert await limits.hit("a", 10) > 0
