"""The shared fixtures of the media tests."""

from tests.media.clips import samples

__all__ = ["samples"]
