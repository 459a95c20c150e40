"""Names that ComfyUI imports and that tests do not use."""

from typing import Any


def _absent(*given: Any, **named: Any) -> Any:
    raise NotImplementedError("torchvision is not installed here")


Compose = Normalize = Resize = CenterCrop = ToTensor = _absent
