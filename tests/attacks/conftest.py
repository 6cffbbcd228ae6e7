"""The brokered world of `tests.client`, for the attacks on it."""

from tests.brokered.conftest import served, world

__all__ = ["served", "world"]
