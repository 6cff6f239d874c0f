"""PSNR and SSIM against scikit-image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from material import tensor
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from iqa_metrics import PSNR, SSIM

WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
OPTIONS = {"gaussian": WANG, "uniform": {}}


def degraded(image, kind):
    generator = torch.Generator().manual_seed(3)
    if kind == "noise":
        return (image + 0.1 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    if kind == "slight":
        return (image + 0.002 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    if kind == "contrast":
        return 0.5 + 0.4 * (image - 0.5)
    return torch.nn.functional.avg_pool2d(image, 5, stride=1, padding=2)


def array(image):
    return image[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("kind", ["noise", "slight", "contrast", "blur"])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "cat"])
class TestAgainstScikitImage:
    @pytest.mark.parametrize("window", ["gaussian", "uniform"])
    @pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["f32", "f64"]
    )
    def test_ssim(self, photographs, name, kind, window, dtype, tolerance):
        reference = tensor(photographs[name]).to(dtype)
        distorted = degraded(reference.float(), kind).to(dtype)
        expected = structural_similarity(
            array(reference).astype(np.float64),
            array(distorted).astype(np.float64),
            channel_axis=2,
            data_range=1.0,
            **OPTIONS[window],
        )
        assert float(SSIM(window)(reference, distorted)) == pytest.approx(expected, rel=tolerance)

    def test_psnr(self, photographs, name, kind):
        reference = tensor(photographs[name])
        distorted = degraded(reference, kind)
        expected = peak_signal_noise_ratio(
            *(array(i).astype(np.float64) for i in (reference, distorted)), data_range=1.0
        )
        assert float(PSNR()(reference, distorted)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("metric", [PSNR(), SSIM(), SSIM("uniform")], ids=lambda m: m.name)
class TestLaws:
    def test_identical_images_get_the_top(self, metric, pair):
        assert float(metric(pair[0], pair[0])) == metric.range[1]

    @settings(deadline=None, max_examples=20)
    @given(seed=st.integers(0, 2**31), count=st.integers(1, 4))
    def test_symmetry_batch_and_range(self, metric, seed, count):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.rand(count, 3, 15, 13, generator=generator) for _ in range(2))
        values = metric(x, y)
        assert values.shape == (count,)
        assert torch.allclose(metric(y, x), values, rtol=1e-5)
        single = torch.cat([metric(x[i : i + 1], y[i : i + 1]) for i in range(count)])
        assert torch.allclose(single, values, rtol=1e-6)
        assert torch.equal(metric(x[:1], y), metric(x[:1].expand_as(y), y))
        low, high = metric.range
        assert bool(((values >= low) & (values <= high)).all())

    def test_gradients_are_finite(self, metric, pair):
        reference = pair[0][..., :32, :32].repeat(2, 1, 1, 1)
        distorted = reference.clone()
        distorted[1] = pair[1][0, :, :32, :32]
        distorted.requires_grad_()
        value = metric(reference, distorted)
        value[torch.isfinite(value)].sum().backward()
        assert bool(torch.isfinite(distorted.grad).all())
        assert float(distorted.grad[1].abs().sum()) > 0

    def test_more_noise_is_worse(self, metric, pair):
        reference = pair[0]
        noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(5))
        values = [
            float(metric(reference, (reference + s * noise).clamp(0, 1))) for s in (0.02, 0.05, 0.1)
        ]
        assert values == sorted(values, reverse=metric.higher_is_better)


def test_an_unknown_window_is_refused():
    with pytest.raises(ValueError, match="expected 'gaussian' or 'uniform'"):
        SSIM("hann")
