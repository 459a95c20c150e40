"""Picture operations in torch on one planar 4:2:0 picture: guided denoise, unsharp mask, tone, saturation.

Everything happens in luma and chroma as decoded, on whatever device the tensors live: no trip to RGB, no resampling
of chroma, and half the memory. Loaded by the executor only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as nn

from vidqueue.media.picture import PictureFormat, Samples

# How much variance counts as noise at full strength, as a share of white squared.
_NOISE_VARIANCE = 0.004
_DENOISE_RADIUS = 2
_SHARPEN_GAIN = 1.5
_BLUR = (0.0625, 0.25, 0.375, 0.25, 0.0625)

PlaneChange = Callable[[torch.Tensor], object]
"""Changes a (height, width) plane of stored numbers in place."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The strengths of all operations; the defaults change nothing. `EnhanceParams` has their bounds."""

    denoise: float = 0.0
    sharpen: float = 0.0
    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    gamma: float = 1.0

    @property
    def changes_tone(self) -> bool:
        """True if brightness, contrast or gamma change luma."""
        return (self.brightness, self.contrast, self.gamma) != (0.0, 1.0, 1.0)

    @property
    def changes_only_luma_tone(self) -> bool:
        """True if a new luma sample depends on the old one only and not on its neighbours."""
        return self.denoise == 0 and self.sharpen == 0

    @property
    def changes_luma(self) -> bool:
        """True if any luma sample may change."""
        return self.changes_tone or self.denoise > 0 or self.sharpen > 0

    @property
    def changes_chroma(self) -> bool:
        """True if any chroma sample may change."""
        return self.saturation != 1.0 or self.denoise > 0


class Adjustment:
    """The operations with given settings, prepared once for a frame layout and a device."""

    def __init__(self, settings: Settings, picture: PictureFormat, *, full_range: bool, device: str) -> None:
        self._settings, self._picture = settings, picture
        self._device = torch.device(device)
        step = 1 << (picture.depth - 8)
        self._most = 256 * step - 1
        self._dtype = torch.uint8 if picture.depth == 8 else torch.int16
        luma_scale = (0, 256 * step - 1) if full_range else (16 * step, 219 * step)
        chroma_scale = (128 * step, (256 if full_range else 224) * step)
        self._change_luma = self._prepared(luma_scale, self._luma, by_table=settings.changes_only_luma_tone)
        self._change_chroma = self._prepared(chroma_scale, self._chroma, by_table=settings.denoise == 0)

    @torch.inference_mode()
    def apply(self, samples: Samples) -> None:
        """Change one picture in place; `samples` is flat, in the order of `PictureFormat`."""
        # torch computes with int16 but hardly with uint16; ten bits fit in either.
        host = torch.from_numpy(samples if self._picture.depth == 8 else samples.view("<i2"))
        # Small numbers travel to the card and back; they become floats there. On a CPU both names are one tensor.
        picture = host.to(self._device)
        luma, blue, red = self._picture.planes(picture)
        if self._settings.changes_luma:
            self._change_luma(luma)
        if self._settings.changes_chroma:
            self._change_chroma(blue)
            self._change_chroma(red)
        if picture is not host:
            host.copy_(picture)

    def _prepared(
        self, scale: tuple[int, int], change: Callable[[torch.Tensor], torch.Tensor], *, by_table: bool
    ) -> PlaneChange:
        """The change of a plane in place, from stored numbers to stored numbers.

        Args:
            scale: the number for zero and the span of one.
            change: the same change on numbers about 0..1.
            by_table: whether a sample's neighbours do not matter; then all answers are worked out once.
        """
        zero, span = scale

        def changed(plane: torch.Tensor) -> torch.Tensor:
            numbers = plane.to(torch.float32).sub_(zero).div_(span)
            result = change(numbers[None, None])[0, 0]
            return result.mul_(span).add_(zero + 0.5).clamp_(0, self._most).to(self._dtype)

        if not by_table:
            return lambda plane: plane.copy_(changed(plane))
        table = changed(torch.arange(self._most + 1, device=self._device)[None])[0]
        if self._device.type == "cpu":
            return _looked_up(table, self._picture)
        return lambda plane: plane.copy_(table.index_select(0, plane.flatten().int()).view_as(plane))

    def _luma(self, luma: torch.Tensor) -> torch.Tensor:
        settings = self._settings
        if settings.denoise > 0:
            luma = denoised(luma, settings.denoise)
        if settings.sharpen > 0:
            luma = luma + (luma - blurred(luma)) * (settings.sharpen * _SHARPEN_GAIN)
        if settings.changes_tone:
            luma = (luma - 0.5) * settings.contrast + 0.5 + settings.brightness
            if settings.gamma != 1.0:
                luma = luma.clamp_(min=0).pow_(1 / settings.gamma)
        return luma

    def _chroma(self, chroma: torch.Tensor) -> torch.Tensor:
        if self._settings.denoise > 0:
            chroma = denoised(chroma, self._settings.denoise)
        return chroma * self._settings.saturation


def _looked_up(table: torch.Tensor, picture: PictureFormat) -> PlaneChange:
    """A lookup on the CPU: cv2 does it in an eighth of the time that torch needs, and in place."""
    # Its threads would spin between pictures on the cores that the encoder needs.
    cv2.setNumThreads(1)
    answers = table.numpy().view(picture.dtype)
    if picture.depth > 8:
        # cv2 asks for an answer to each number of sixteen bits; none above the table ever comes from a decoder.
        answers = np.pad(answers, (0, 65_536 - answers.size), mode="edge")
    elif picture.width * picture.height % 8 == 0:
        # Every plane has an even number of samples: two at once take half the time, and the table fits in the cache.
        answers = np.stack([np.tile(answers, 256), np.repeat(answers, 256)], axis=1).view("<u2").ravel()

    def change(plane: torch.Tensor) -> None:
        samples = plane.numpy().ravel().view(answers.dtype)
        cv2.LUT(samples, answers, dst=samples)

    return change


def denoised(plane: torch.Tensor, strength: float) -> torch.Tensor:
    """Smooth where there is no structure (He, Sun, Tang: "Guided Image Filtering", 2013, with itself as guide).

    Args:
        plane: (1, 1, height, width), values about 0..1.
        strength: 0..1.
    """
    noise = _NOISE_VARIANCE * strength
    mean = _box(plane)
    variance = (_box(plane * plane) - mean * mean).clamp_(min=0)
    keep = variance / (variance + noise)
    return _box(keep) * plane + _box((1 - keep) * mean)


def blurred(plane: torch.Tensor) -> torch.Tensor:
    """A small Gaussian blur of a (1, 1, height, width) plane, edges repeated."""
    weights = torch.tensor(_BLUR, device=plane.device, dtype=plane.dtype)
    across = nn.conv2d(nn.pad(plane, (2, 2, 0, 0), mode="replicate"), weights.view(1, 1, 1, 5))
    return nn.conv2d(nn.pad(across, (0, 0, 2, 2), mode="replicate"), weights.view(1, 1, 5, 1))


def _box(plane: torch.Tensor) -> torch.Tensor:
    size = 2 * _DENOISE_RADIUS + 1
    return nn.avg_pool2d(plane, size, stride=1, padding=_DENOISE_RADIUS, count_include_pad=False)
