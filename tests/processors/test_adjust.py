"""The picture operations themselves, on pictures small enough to reason about."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidqueue.media.picture import PictureFormat
from vidqueue.processors.parts.adjust import Adjustment, Settings, blurred, denoised

SMALL = PictureFormat(64, 48, 8)


def grey(level: int = 126, picture: PictureFormat = SMALL) -> np.ndarray:
    samples = np.full(picture.samples, 128 << (picture.depth - 8), picture.dtype)
    samples[: picture.width * picture.height] = level
    return samples


def adjusted(
    samples: np.ndarray, picture: PictureFormat = SMALL, *, full: bool = False, **settings: float
) -> np.ndarray:
    changed = samples.copy()
    Adjustment(Settings(**settings), picture, full_range=full, device="cpu").apply(changed)
    return changed


def noisy(sigma: float = 6) -> np.ndarray:
    samples = grey()
    luma = 126 + np.random.default_rng(1).normal(0, sigma, SMALL.width * SMALL.height)
    samples[: luma.size] = luma.round().clip(16, 235)
    return samples


def test_neutral_settings_change_no_bit() -> None:
    samples = noisy()
    assert (adjusted(samples) == samples).all()


def test_brightness_is_a_share_of_white() -> None:
    luma = adjusted(grey(126), brightness=0.1)[: 64 * 48]
    assert (luma == 126 + round(0.1 * 219)).all()


def test_full_range_has_a_larger_white() -> None:
    assert adjusted(grey(126), full=True, brightness=0.1)[0] == 126 + round(0.1 * 255)


def test_ten_bits_are_four_times_as_fine() -> None:
    deep = PictureFormat(64, 48, 10)
    assert adjusted(grey(504, deep), deep, brightness=0.1)[0] == 504 + round(0.1 * 876)


@pytest.mark.parametrize("picture", [PictureFormat(8, 4, 8), PictureFormat(6, 2, 8), PictureFormat(6, 2, 10)])
def test_each_sample_gets_its_own_answer_wherever_it_stands(picture: PictureFormat) -> None:
    # Samples are looked up two at once, except in planes with an odd number of them.
    samples = np.random.default_rng(3).integers(0, 256 << (picture.depth - 8), picture.samples).astype(picture.dtype)
    luma = picture.width * picture.height
    changed = adjusted(samples, picture, contrast=1.3, saturation=1.4)
    for place, sample in enumerate(samples):
        alone = np.full(SMALL.samples, sample, picture.dtype)
        expected = adjusted(alone, PictureFormat(64, 48, picture.depth), contrast=1.3, saturation=1.4)
        assert changed[place] == expected[0 if place < luma else -1]


def test_contrast_turns_around_middle_grey() -> None:
    middle = 16 + 219 / 2
    samples = grey(100)
    assert adjusted(samples, contrast=2.0)[0] == pytest.approx(middle + (100 - middle) * 2, abs=1)


def test_gamma_lifts_shadows_and_leaves_black_and_white() -> None:
    assert adjusted(grey(60), gamma=2.0)[0] > 60
    assert adjusted(grey(16), gamma=2.0)[0] == 16
    assert adjusted(grey(235), gamma=2.0)[0] == 235


def test_no_saturation_is_black_and_white() -> None:
    samples = grey()
    samples[64 * 48 :] = 200
    changed = adjusted(samples, saturation=0.0)
    assert (changed[64 * 48 :] == 128).all()
    assert (changed[: 64 * 48] == samples[: 64 * 48]).all()


def test_values_never_wrap_around() -> None:
    assert adjusted(grey(235), brightness=0.5, contrast=4.0)[0] == 255
    assert adjusted(grey(16), brightness=-0.5, contrast=4.0)[0] == 0


def test_denoise_takes_noise_and_keeps_an_edge() -> None:
    samples = noisy()
    samples[: 64 * 48].reshape(48, 64)[:, 32:] += 80
    changed = adjusted(samples, denoise=1.0)[: 64 * 48].reshape(48, 64).astype(float)
    before = samples[: 64 * 48].reshape(48, 64).astype(float)
    assert changed[:, :24].std() < before[:, :24].std() / 2
    assert changed[:, 36:].mean() - changed[:, :28].mean() == pytest.approx(80, abs=4)


def test_stronger_denoise_is_smoother() -> None:
    spread = [adjusted(noisy(), denoise=strength)[: 64 * 48].std() for strength in (0.0, 0.2, 1.0)]
    assert spread[0] > spread[1] > spread[2]


def test_sharpen_steepens_an_edge_and_leaves_flat_parts() -> None:
    samples = grey(100)
    samples[: 64 * 48].reshape(48, 64)[:, 32:] = 140
    row = adjusted(samples, sharpen=1.0)[: 64 * 48].reshape(48, 64)[20].astype(int)
    assert row[31] < 100
    assert row[32] > 140
    assert (row[:29] == 100).all()
    assert (row[35:] == 140).all()


def test_blur_keeps_the_mean() -> None:
    flat = torch.full((1, 1, 20, 20), 0.3)
    assert torch.allclose(blurred(flat), flat)


def test_denoise_of_a_flat_picture_is_the_picture() -> None:
    flat = torch.full((1, 1, 20, 20), 0.3)
    assert torch.allclose(denoised(flat, 1.0), flat, atol=1e-6)
