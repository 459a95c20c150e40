"""The shared fixtures of the processor tests."""

from tests.media.clips import samples

__all__ = ["samples"]
