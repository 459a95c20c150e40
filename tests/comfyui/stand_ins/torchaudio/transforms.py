"""Names that ComfyUI imports and that tests do not use."""

from typing import Any


class MelScale:
    """Not used by tests."""

    def __init__(self, *given: Any, **named: Any) -> None:
        raise NotImplementedError("torchaudio is not installed here")


MelSpectrogram = MelScale
