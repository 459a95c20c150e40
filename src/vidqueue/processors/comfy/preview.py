"""Makes a preview of a picture that a ComfyUI server sends: these are often larger than a preview may be."""

from __future__ import annotations

from vidqueue.progress import is_preview

# Longer side in pixels and JPEG quality, best first.
SHAPES = ((512, 85), (512, 60), (256, 60), (128, 60))
# A picture that says it is larger is not decoded.
MOST_PIXELS = 4096 * 4096
MOST_BYTES = 1 << 20


def as_preview(picture: bytes) -> bytes | None:
    """A JPEG of at most 64 KiB; None if the picture cannot be made one."""
    if is_preview(picture):
        return picture
    if len(picture) > MOST_BYTES:
        return None
    import cv2
    import numpy as np

    try:
        decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None or decoded.shape[0] * decoded.shape[1] > MOST_PIXELS:
            return None
        for longest, quality in SHAPES:
            scale = min(1.0, longest / max(decoded.shape[:2]))
            small = (
                cv2.resize(decoded, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else decoded
            )
            made = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            if is_preview(made):
                return made
    except cv2.error:
        return None
    return None
