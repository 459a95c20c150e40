"""Raw frames in memory: their layout, a frame with its timestamp, and the pool of their buffers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from vidqueue.media.handoff import Handoff

# Not at run time: the daemon and every executor import this module, and few of them make pictures.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Samples: TypeAlias = "NDArray[Any]"
"""A flat array of 8- or 16-bit numbers."""


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """Planar 4:2:0 as it goes through the pipes; width and height in pixels, both even; depth 8 or 10 bits."""

    width: int
    height: int
    depth: int

    @property
    def pixel_format(self) -> str:
        """Ffmpeg's name."""
        return "yuv420p" if self.depth == 8 else "yuv420p10le"

    @property
    def dtype(self) -> np.dtype[Any]:
        """One byte a sample, or two in little-endian order."""
        import numpy as np

        return np.dtype(np.uint8 if self.depth == 8 else "<u2")

    @property
    def samples(self) -> int:
        """Samples of one picture, all planes together."""
        return self.width * self.height * 3 // 2

    @property
    def size(self) -> int:
        """Bytes of one picture."""
        return self.samples * (1 if self.depth == 8 else 2)

    def planes(self, samples: Any) -> tuple[Any, Any, Any]:
        """Luma (height, width) and both chroma planes (height / 2, width / 2) as views of a flat array or tensor."""
        width, height = self.width, self.height
        luma, chroma = width * height, width * height // 4
        half = (height // 2, width // 2)
        return (
            samples[:luma].reshape(height, width),
            samples[luma : luma + chroma].reshape(half),
            samples[luma + chroma :].reshape(half),
        )


@dataclass(slots=True)
class Frame:
    """One picture: flat samples in `PictureFormat` order, and its time in ticks of the track's time base.

    Whoever keeps a frame out of the encoder (a duplicate, a picture that was only looked at) releases it.
    """

    samples: Samples
    pts: int
    pool: FramePool

    @property
    def bytes(self) -> memoryview:
        """The samples as the bytes that go through a pipe."""
        return memoryview(self.samples.view("u1").data)

    def release(self) -> None:
        """Return the buffer to the pool; the samples must not be touched afterwards."""
        self.pool.give_back(self.samples)


@dataclass(slots=True)
class FramePool:
    """A fixed number of frame buffers, so that memory is bounded whichever stage is slow."""

    format: PictureFormat
    count: int
    _free: Handoff[Samples] = field(init=False)

    def __post_init__(self) -> None:
        import numpy as np

        self._free = Handoff(self.count)
        for _ in range(self.count):
            self._free.put(np.empty(self.format.samples, self.format.dtype))

    def take(self, pts: int = 0) -> Frame:
        """Take a frame with undefined samples; blocks until a buffer is free.

        Raises:
            ClosedError: the pipeline is ending.
        """
        return Frame(self._free.get(), pts, self)

    def give_back(self, samples: Samples) -> None:
        """Return a buffer to the pool."""
        self._free.put(samples, even_if_closed=True)

    def close(self) -> None:
        """Wake every thread that waits for a buffer."""
        self._free.close()
