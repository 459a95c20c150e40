"""Nodes for tests in a real ComfyUI: one that is slow, and stand-ins for those of Sonic, which need no weights."""

import time
from typing import Any, ClassVar

import comfy.model_management
import comfy.utils
import torch


class OutOfMemoryError(RuntimeError):
    """torch's, by name."""


class VQSlow:
    """Passes pictures on, slowly, with progress and previews, and stops when it is interrupted."""

    CATEGORY, FUNCTION = "vidqueue", "run"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs."""
        number = ("FLOAT", {"default": 0.1, "min": 0.0, "max": 60.0})
        return {"required": {
            "images": ("IMAGE",), "steps": ("INT", {"default": 5, "min": 1, "max": 1000}), "seconds": number,
            "fails": (["no", "memory", "error", "face"],),
        }}  # fmt: skip

    def run(self, images: Any, steps: int, seconds: float, fails: str) -> tuple[Any]:
        """Wait, step by step."""
        from PIL import Image

        bar = comfy.utils.ProgressBar(steps)
        picture = Image.new("RGB", (64, 48), (255, 0, 0))
        for step in range(steps):
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(seconds)
            bar.update_absolute(step + 1, steps, ("JPEG", picture, 512))
        if fails == "memory":
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
        if fails == "face":
            raise ValueError("no face was detected in the image")
        if fails == "error":
            raise ValueError("the node gave up")
        return (images,)


class VQCheckpoint:
    """Loads nothing."""

    CATEGORY, FUNCTION = "vidqueue", "run"
    RETURN_TYPES = ("MODEL", "CLIP_VISION", "VAE")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs."""
        return {"required": {"ckpt_name": (["svd_xt_1_1.safetensors"],)}}

    def run(self, ckpt_name: str) -> tuple[Any, ...]:
        """Three names."""
        return ("model", "vision", "vae")


class SONICTLoader:
    """Loads nothing."""

    CATEGORY, FUNCTION = "vidqueue", "run"
    RETURN_TYPES = ("MODEL_SONIC", "DTYPE")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs."""
        return {"required": {
            "model": ("MODEL",), "sonic_unet": (["none", "unet.pth"],),
            "ip_audio_scale": ("FLOAT", {"default": 1.0, "min": 0.5, "max": 2.0}),
            "use_interframe": ("BOOLEAN", {"default": True}), "dtype": (["fp16", "fp32", "bf16"],),
        }}  # fmt: skip

    def run(self, **given: Any) -> tuple[Any, ...]:
        """Two names."""
        return ("sonic", "fp16")


class SONIC_PreData:
    """Remembers size and duration."""

    CATEGORY, FUNCTION = "vidqueue", "run"
    RETURN_TYPES = ("SONIC_PREDATA",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs."""
        return {"required": {
            "clip_vision": ("CLIP_VISION",), "vae": ("VAE",), "audio": ("AUDIO",), "image": ("IMAGE",),
            "weight_dtype": ("DTYPE",), "min_resolution": ("INT", {"default": 512, "min": 128, "max": 2048, "step": 64}),
            "duration": ("FLOAT", {"default": 10.0, "min": 1.0, "max": 1e11}),
            "expand_ratio": ("FLOAT", {"default": 0.5, "min": 0.1, "max": 1.0}),
        }}  # fmt: skip

    def run(self, audio: Any, min_resolution: int, duration: float, **given: Any) -> tuple[Any]:
        """What the sampler needs; the real node cuts the duration to that of the audio too."""
        audio_s = audio["waveform"].shape[-1] / audio["sample_rate"]
        return ({"size": min_resolution, "seconds": min(duration, audio_s)},)


class SONICSampler:
    """Makes grey pictures, and has memory for small ones only."""

    CATEGORY, FUNCTION = "vidqueue", "run"
    RETURN_TYPES = ("IMAGE", "FLOAT")
    largest: ClassVar[int] = 512

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs."""
        return {"required": {
            "model": ("MODEL_SONIC",), "data_dict": ("SONIC_PREDATA",),
            "seed": ("INT", {"default": 0, "min": 0, "max": 2**63}),
            "inference_steps": ("INT", {"default": 25, "min": 1, "max": 1024}),
            "dynamic_scale": ("FLOAT", {"default": 1.0, "min": 0.5, "max": 2.0}),
            "fps": ("FLOAT", {"default": 25.0, "min": 5.0, "max": 120.0}),
        }}  # fmt: skip

    def run(self, data_dict: Any, inference_steps: int, fps: float, **given: Any) -> tuple[Any, float]:
        """Pictures of the duration."""
        if data_dict["size"] > self.largest:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
        bar = comfy.utils.ProgressBar(inference_steps)
        for _ in range(inference_steps):
            bar.update(1)
        count = max(1, round(data_dict["seconds"] * fps))
        return (torch.full((count, 64, 64, 3), 0.5), fps)


NODE_CLASS_MAPPINGS = {
    kind.__name__: kind for kind in (VQSlow, VQCheckpoint, SONICTLoader, SONIC_PreData, SONICSampler)
}
