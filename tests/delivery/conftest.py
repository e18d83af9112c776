"""The chart as the tests beside it render it."""

from tests.chart.conftest import render

__all__ = ["render"]
