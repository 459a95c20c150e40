"""Previews of a diffusion run: a rough picture of the latents, without the cost of decoding them."""

from __future__ import annotations

from typing import Any

from vidqueue.progress import is_preview

# The factors from four latent channels to red, green and blue, for the autoencoder of Stable Diffusion 1.
_FOUR = ((0.35, 0.23, 0.32), (0.33, 0.50, 0.24), (-0.28, 0.18, 0.27), (-0.21, -0.26, -0.72))
_LONGER_SIDE = 256
_QUALITY = 80


def preview_of(latents: Any, channels: int) -> bytes | None:
    """A JPEG of the first picture, or of the one in the middle of a video; None where the layout is not known.

    Args:
        latents: batch, channels, maybe frames, height, width; or frames before channels.
        channels: the number of latent channels.
    """
    import cv2
    import numpy as np
    import torch

    one = latents[0].detach().to("cpu", torch.float32)
    if one.ndim == 4:
        axis = 1 if one.shape[0] == channels else 0
        one = one.select(axis, one.shape[axis] // 2)
    if one.ndim != 3 or one.shape[0] != channels or channels < 3:
        return None
    colours = torch.tensor(_FOUR) if channels == len(_FOUR) else torch.eye(channels, 3)
    picture = torch.einsum("chw,cr->hwr", one, colours)
    low, high = torch.quantile(picture, 0.01), torch.quantile(picture, 0.99)
    picture = ((picture - low) / (high - low).clamp(min=1e-6)).nan_to_num().clamp(0, 1)
    pixels = (picture.numpy() * 255).astype(np.uint8)[:, :, ::-1]
    scale = _LONGER_SIDE / max(pixels.shape[:2])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    shown = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)
    made = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    return made if is_preview(made) else None
