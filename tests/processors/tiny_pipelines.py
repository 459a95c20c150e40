"""Pipelines of diffusers small enough for tests: random weights of some hundred kilobytes, saved as real ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def make_all(folder: Path) -> dict[str, dict[str, str]]:
    """Save the pipelines, and return what `[generate.models]` says of them."""
    import torch

    from vidqueue.processors.diffusion import pipelines

    pipelines.libraries()
    torch.manual_seed(0)
    _save_stable_diffusion(folder / "mini-sd")
    _save_wan(folder)
    _save_lora(folder / "loras" / "other.safetensors", folder / "mini-sd")
    tasks = {"mini-sd": "text-to-image", "tiny-wan-t2v": "text-to-video", "tiny-wan-i2v": "image-to-video"}
    models = {name: {"path": str(folder / name), "task": task} for name, task in tasks.items()}
    models["mini-sd"]["loras"] = str(folder / "loras")
    return models


def _save_stable_diffusion(path: Path) -> None:
    import diffusers
    import transformers

    text = transformers.CLIPTextConfig(
        vocab_size=514, hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1,
        max_position_embeddings=77, bos_token_id=512, eos_token_id=513, projection_dim=16,
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16,
        attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=[4, 8], norm_num_groups=4, down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2, latent_channels=4,
    )  # fmt: skip
    diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=transformers.CLIPTextModel(text), tokenizer=_letters_as_clip(path / "vocabulary"),
        unet=unet, scheduler=diffusers.DDIMScheduler(clip_sample=False, steps_offset=1), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(path)  # fmt: skip


def _letters_as_clip(folder: Path) -> Any:
    """A tokenizer of single bytes."""
    import transformers

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in [*printable, *range(256, 512 - len(printable))]]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer.from_pretrained(str(folder), model_max_length=77)


def _save_wan(folder: Path) -> None:
    import diffusers
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {chr(code): code - 29 for code in range(32, 127)}
    letters = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=letters, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    text = transformers.UMT5Config(
        vocab_size=128, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, relative_attention_num_buckets=8,
        relative_attention_max_distance=32, pad_token_id=0, eos_token_id=1, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    shared = {
        "vae": diffusers.AutoencoderKLWan(
            base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
        ),
        "text_encoder": transformers.UMT5EncoderModel(text), "tokenizer": tokenizer, "transformer_2": None,
    }  # fmt: skip
    for name, kind, channels, more in (
        ("tiny-wan-t2v", diffusers.WanPipeline, 16, {}),
        ("tiny-wan-i2v", diffusers.WanImageToVideoPipeline, 36, {"image_encoder": None, "image_processor": None}),
    ):
        transformer = diffusers.WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=channels, out_channels=16,
            text_dim=32, freq_dim=256, ffn_dim=32, num_layers=2, cross_attn_norm=True,
            qk_norm="rms_norm_across_heads", rope_max_seq_len=32,
        )  # fmt: skip
        _amplify(transformer.patch_embedding, transformer.proj_out, shared["vae"].decoder.conv_out)
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0)
        kind(transformer=transformer, scheduler=scheduler, **shared, **more).save_pretrained(folder / name)


def _amplify(*layers: Any) -> None:
    """Let what goes in be seen in what comes out, which random weights do not."""
    import torch

    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(10)


def _save_lora(path: Path, model: Path) -> None:
    """A LoRA of one attention of Stable Diffusion."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "unet" / "diffusion_pytorch_model.safetensors")
    name = next(key for key in weights if key.endswith("attn1.to_q.weight")).removesuffix(".weight")
    rows, columns = weights[f"{name}.weight"].shape
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"unet.{name}.lora_A.weight": torch.randn(4, columns), f"unet.{name}.lora_B.weight": torch.randn(rows, 4)},
        path,
    )
