"""What every rate limit promises."""

from __future__ import annotations

from services.ports import Limits


async def test_room_is_used_up_a_key(limits: Limits) -> None:
    """So many a minute and no more; then the seconds to wait, at most a minute; other keys are not touched."""
    assert [await limits.hit("a", 3) for _ in range(3)] == [0, 0, 0]
    assert 0 < await limits.hit("a", 3) <= 60
    assert await limits.hit("b", 3) == 0


async def test_what_does_not_fit_takes_nothing(limits: Limits) -> None:
    """A hit that was refused is not counted; a limit that was lowered or raised holds at once, and none is no room."""
    assert [await limits.hit("a", 2) for _ in range(2)] == [0, 0]
    assert await limits.hit("a", 2) > 0
    assert await limits.hit("a", 1) > 0
    assert await limits.hit("a", 3) == 0
    assert await limits.hit("b", 0) == 60
