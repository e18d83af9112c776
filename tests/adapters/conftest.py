"""Fixtures of the adapters' own tests."""

from tests.adapters.own_redis import own_redis

__all__ = ["own_redis"]
