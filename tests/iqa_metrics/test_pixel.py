"""PSNR, MSE, SSIM and MS-SSIM against scikit-image, pytorch-msssim and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from material import tensor
from scipy.ndimage import gaussian_filter
from skimage.metrics import (
    mean_squared_error,
    peak_signal_noise_ratio,
    structural_similarity,
)

from iqa_metrics import MSE, MSSSIM, PSNR, SSIM

WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
OPTIONS = {"gaussian": WANG, "uniform": {}}
# pytorch-msssim rounds its own window to float32.
WINDOW = torch.exp(-torch.arange(-5, 6, dtype=torch.float64).square() / 4.5)
WINDOW /= WINDOW.sum()
PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["f32", "f64"]
)


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
@pytest.mark.parametrize("name", ["coffee", "cat"])
class TestAgainstScikitImage:
    @pytest.mark.parametrize("window", ["gaussian", "uniform"])
    @PRECISIONS
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


def plain_terms(x, y, weights, covariance_factor):
    """SSIM's luminance term and its contrast-structure term, as written in the paper."""
    kernel = torch.tensor(weights, dtype=torch.float64)
    column, row = (kernel.view(shape).expand(3, 1, -1, -1) for shape in ((-1, 1), (1, -1)))

    def mean(images):
        for window in (column, row):  # together the square window, in a fraction of its time
            images = torch.nn.functional.conv2d(images, window, groups=3)
        return images

    mx, my = mean(x), mean(y)
    var_x, var_y, covariance = (
        covariance_factor * (mean(a * b) - mean(a) * mean(b)) for a, b in ((x, x), (y, y), (x, y))
    )
    luminance = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
    return luminance, (2 * covariance + 9e-4) / (var_x + var_y + 9e-4)


def plain_ssim(x, y):
    return torch.mul(*plain_terms(x, y, WINDOW.tolist(), 1.0)).mean(dim=(1, 2, 3))


def plain_uniform_ssim(x, y):
    return torch.mul(*plain_terms(x, y, [1 / 7] * 7, 49 / 48)).mean(dim=(1, 2, 3))


def plain_ms_ssim(x, y):
    product = 1.0
    for scale, weight in enumerate(MSSSIM.weights):
        if scale:
            x, y = (torch.nn.functional.avg_pool2d(i, 2, ceil_mode=True) for i in (x, y))
        luminance, contrast = plain_terms(x, y, WINDOW.tolist(), 1.0)
        last = scale == len(MSSSIM.weights) - 1
        term = (luminance * contrast if last else contrast).mean(dim=(2, 3))
        product = product * term.clamp(min=0) ** weight
    return product.mean(dim=1)


PLAIN = pytest.mark.parametrize(
    ("metric", "plain"),
    [(SSIM(), plain_ssim), (SSIM("uniform"), plain_uniform_ssim), (MSSSIM(), plain_ms_ssim)],
    ids=lambda value: getattr(value, "name", ""),
)
# Of one block and of several each way, that the tiles fill or don't; one row or column of windows.
SIZES = pytest.mark.parametrize("size", [(161, 161), (162, 535), (203, 571)])


def random_pair(size, count=2):
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(count, 3, *size, dtype=torch.float64, generator=generator)
    noise = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    return x, (x + 0.2 * noise).clamp(0, 1)


@PLAIN
class TestAgainstThePlainFormula:
    """Blocks and tiles change only the time, not values, gradients and maps."""

    @SIZES
    def test_values_and_gradients(self, metric, plain, size):
        pair = random_pair(size)
        found, expected = ([i.clone().requires_grad_() for i in pair] for _ in range(2))
        values, wide = metric(*found), plain(*expected)
        assert torch.allclose(values, wide, rtol=1e-11, atol=0)
        weights = torch.tensor([1.0, -2.0], dtype=torch.float64)
        (values * weights).sum().backward()
        (wide * weights).sum().backward()
        for i, j in zip(found, expected, strict=True):
            assert torch.allclose(i.grad, j.grad, rtol=1e-9, atol=1e-9 * float(j.grad.abs().max()))

    def test_the_smallest_image(self, metric, plain):
        x, y = random_pair((metric.smallest_input,) * 2)
        assert torch.allclose(metric(x, y), plain(x, y), rtol=1e-11, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_narrow_images(self, metric, plain, dtype):
        x, y = (i.to(dtype) for i in random_pair((170, 190)))
        found = metric(x, y)
        assert found.dtype == torch.float32
        assert torch.allclose(found.double(), plain(x.double(), y.double()), rtol=1e-6)

    def test_other_memory_layouts(self, metric, plain):
        x, y = random_pair((170, 541))
        expected = metric(x, y)
        for layout in (
            lambda i: i.contiguous(memory_format=torch.channels_last),
            lambda i: i.transpose(2, 3).contiguous().transpose(2, 3),
            lambda i: torch.nn.functional.pad(i, (3, 5, 2, 1))[..., 2:-1, 3:-5],
        ):
            assert torch.equal(metric(layout(x), layout(y)), expected)

    def test_after_inference_mode(self, metric, plain):
        """What was cached in inference mode can be used by a call that records gradients."""
        x, y = random_pair((177, 187), count=1)
        with torch.inference_mode():
            expected = metric(x, y)
        y.requires_grad_()
        values = metric(x, y)
        values.sum().backward()
        assert torch.equal(values.detach(), expected)
        assert bool(torch.isfinite(y.grad).all())

    def test_an_image_gives_the_same_value_alone_and_in_a_batch(self, metric, plain):
        x, y = random_pair((170, 541), count=3)
        singles = torch.cat([metric(x[i : i + 1], y[i : i + 1]) for i in range(3)])
        assert torch.equal(metric(x, y), singles)


@pytest.mark.parametrize("metric", [SSIM(), SSIM("uniform")], ids=lambda m: m.name)
@SIZES
def test_a_map_is_the_same_in_blocks(metric, size):
    x, y = random_pair(size)
    rim = metric.smallest_input // 2
    weights = WINDOW.tolist() if rim == 5 else [1 / 7] * 7
    terms = plain_terms(x, y, weights, 1.0 if rim == 5 else 49 / 48)
    found = metric(x, y, map=True)[..., rim:-rim, rim:-rim]
    assert torch.allclose(found, torch.mul(*terms).mean(1, keepdim=True), rtol=0, atol=1e-12)


@pytest.mark.slow
class TestCompiled:
    """torch.compile blurs in another way, and processes one strip of a large image at a time."""

    @pytest.fixture(autouse=True)
    def uncached(self):
        torch.compiler.reset()
        yield
        torch.compiler.reset()

    # The C++ compiler takes a minute for MS-SSIM's five scales, which blur as SSIM does.
    @pytest.mark.parametrize(
        ("metric", "backend", "size"),
        [
            (SSIM(), "inductor", (400, 523)),
            (SSIM("uniform"), "aot_eager", (161, 170)),
            (MSSSIM(), "aot_eager", (400, 523)),
        ],
        ids=["ssim", "ssim_skimage", "ms_ssim"],
    )
    def test_values(self, metric, backend, size):
        x, y = random_pair(size)
        compiled = torch.compile(metric.compare, fullgraph=True, dynamic=False, backend=backend)
        with torch.no_grad():
            assert torch.allclose(compiled(x, y), metric(x, y), rtol=1e-12, atol=0)
            assert compiled(x, x).tolist() == [1, 1]
            assert torch.allclose(compiled(x, x.flip(0)), metric(x, x.flip(0)), rtol=1e-12, atol=0)
            film = torch.cat([x, y])
            assert torch.equal(compiled(film[:2], film[2:]), compiled(x, y))
            blot = y.clone()
            blot[1, 2, 100, 150] = torch.nan  # stays in its image
            assert torch.isnan(compiled(x, blot)).tolist() == [False, True]
        with torch.inference_mode():
            assert torch.allclose(compiled(x[:1], y), metric(x[:1], y), rtol=1e-12, atol=0)

    def test_gradients(self):
        x, y = random_pair((400, 523))
        found, expected = (y.clone().requires_grad_() for _ in range(2))
        torch.compile(SSIM().compare, fullgraph=True, dynamic=False)(x, found).sum().backward()
        SSIM()(x, expected).sum().backward()
        assert torch.allclose(found.grad, expected.grad, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (300, 341)])
def test_mse_and_psnr_in_blocks(size):
    pair = random_pair(size)
    found, expected = ([i.clone().requires_grad_() for i in pair] for _ in range(2))
    values = MSE()(*found)
    wide = (expected[0] - expected[1]).square().mean(dim=(1, 2, 3))
    assert torch.allclose(values, wide, rtol=1e-13, atol=0)
    assert torch.allclose(PSNR()(*pair), -10 * wide.log10(), rtol=1e-13, atol=0)
    values.sum().backward()
    wide.sum().backward()
    for i, j in zip(found, expected, strict=True):
        assert torch.allclose(i.grad, j.grad, rtol=1e-13, atol=0)
    turned = [i.contiguous(memory_format=torch.channels_last) for i in pair]
    assert torch.allclose(MSE()(pair[0], turned[1]), wide, rtol=1e-13, atol=0)


METRICS = [MSE(), PSNR(), SSIM(), SSIM("uniform"), MSSSIM()]


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
class TestLaws:
    @settings(deadline=None, max_examples=8)
    @given(seed=st.integers(0, 2**31), count=st.integers(1, 4))
    def test_symmetry_batch_and_range(self, metric, seed, count):
        generator = torch.Generator().manual_seed(seed)
        size = max(13, metric.smallest_input)
        x, y = (torch.rand(count, 3, size + 2, size, generator=generator) for _ in range(2))
        values = metric(x, y)
        assert values.shape == (count,)
        assert torch.allclose(metric(y, x), values, rtol=1e-5)
        single = torch.cat([metric(x[i : i + 1], y[i : i + 1]) for i in range(count)])
        assert torch.allclose(single, values, rtol=1e-6)
        assert torch.equal(metric(x[:1], y), metric(x[:1].expand_as(y), y))
        low, high = metric.range
        assert bool(((values >= low) & (values <= high)).all())


def test_an_unknown_window_is_refused():
    with pytest.raises(ValueError, match="expected 'gaussian' or 'uniform'"):
        SSIM("hann")


@pytest.mark.parametrize("level", [0.02, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("noise", [1e-4, 1e-3, 1e-1])
class TestFlatImages:
    """A dark square on a flat background, where variances are almost lost to rounding."""

    def images(self, level, noise):
        generator = torch.Generator().manual_seed(0)
        reference = torch.full((1, 3, 176, 180), level)
        reference[..., 20:40, 30:60] = 0.3
        distorted = reference + noise * torch.randn(reference.shape, generator=generator)
        return reference, distorted.clamp(0, 1)

    @pytest.mark.parametrize("window", ["gaussian", "uniform"])
    def test_ssim(self, level, noise, window):
        reference, distorted = self.images(level, noise)
        expected = structural_similarity(
            *(array(i).astype(np.float64) for i in (reference, distorted)),
            channel_axis=2,
            data_range=1.0,
            **OPTIONS[window],
        )
        found = float(SSIM(window)(reference, distorted))
        assert found == pytest.approx(expected, rel=1e-6)
        assert found <= 1

    def test_ms_ssim(self, level, noise):
        reference, distorted = self.images(level, noise)
        found = MSSSIM()(reference, distorted)
        wide = MSSSIM()(reference.double(), distorted.double())
        assert float(found) == pytest.approx(float(wide), rel=1e-6)
        assert float(wide) <= 1


@pytest.mark.parametrize("error", [1e-10, 1e-18, 1e-20, 1e-25])
def test_the_gradient_of_psnr_near_identity_is_finite(error):
    reference = torch.zeros(1, 3, 8, 8)
    distorted = reference.clone()
    distorted[0, 1, 2, 3] = error
    distorted.requires_grad_()
    value = PSNR()(reference, distorted)
    value.sum().backward()
    assert float(value.detach()) == pytest.approx(-10 * np.log10(error**2 / 192), rel=1e-5)
    assert bool(torch.isfinite(distorted.grad).all())


class TestMultiscale:
    """Against packages where these agree with each other, and otherwise against the paper."""

    def plain(self, x, y):
        """The authors' computation for one channel, in float64."""
        product = 1.0
        for scale, weight in enumerate(MSSSIM.weights):
            if scale:
                x, y = (halved(i) for i in (x, y))
            _, full = structural_similarity(x, y, data_range=1.0, full=True, **WANG)
            luminance = self.luminance(x, y)
            inside = np.s_[5:-5, 5:-5]
            last = scale == len(MSSSIM.weights) - 1
            term = (full if last else full / luminance)[inside].mean()
            product *= term**weight
        return product

    @staticmethod
    def luminance(x, y):
        a, b = (gaussian_filter(i, 1.5, truncate=3.5) for i in (x, y))
        return (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)

    @pytest.mark.parametrize("kind", ["noise", "slight", "contrast", "blur"])
    @pytest.mark.parametrize("size", [(192, 208), (193, 211), (161, 176)])
    def test_the_authors_way(self, photographs, kind, size):
        reference = tensor(photographs["astronaut"])[..., : size[0], : size[1]]
        distorted = degraded(reference, kind)
        expected = np.mean(
            [self.plain(*(i[0, c].double().numpy() for i in (reference, distorted)))
             for c in range(3)]
        )  # fmt: skip
        assert float(MSSSIM()(reference, distorted)) == pytest.approx(expected, rel=1e-5)
        wide = MSSSIM()(reference.double(), distorted.double())
        assert float(wide) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("kind", ["noise", "slight", "contrast", "blur"])
    @PRECISIONS
    def test_pytorch_msssim(self, photographs, kind, dtype, tolerance):
        """For sizes that can be halved at every scale."""
        from pytorch_msssim import ms_ssim

        reference = tensor(photographs["coffee"])[..., :192, :208]
        distorted = degraded(reference, kind)
        theirs = ms_ssim(
            *(reference.double(), distorted.double()),
            data_range=1.0,
            size_average=False,
            win=WINDOW.expand(3, 1, 1, -1),
        )
        found = MSSSIM()(reference.to(dtype), distorted.to(dtype))
        assert float(found) == pytest.approx(float(theirs), rel=tolerance)

    @pytest.mark.parametrize("kind", ["noise", "slight", "contrast", "blur"])
    @PRECISIONS
    def test_torchmetrics(self, photographs, kind, dtype, tolerance):
        """By its parts: in whole it averages the last scale over the padded border too.

        Of grey images, since it averages over the channels before it multiplies the scales.
        """
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim

        reference = tensor(photographs["astronaut"])[..., :192, :208].mean(1, keepdim=True)
        distorted = degraded(reference, kind)
        found = MSSSIM()(*(i.to(dtype).expand(-1, 3, -1, -1) for i in (reference, distorted)))
        x, y = reference.double(), distorted.double()
        product = 1.0
        for weight in MSSSIM.weights[:-1]:
            _, contrast = ssim(y, x, data_range=1.0, return_contrast_sensitivity=True)
            product *= float(contrast) ** weight
            x, y = (torch.nn.functional.avg_pool2d(i, 2) for i in (x, y))
        _, full = ssim(y, x, data_range=1.0, return_full_image=True)
        product *= float(full[..., 5:-5, 5:-5].mean()) ** MSSSIM.weights[-1]
        assert float(found) == pytest.approx(product, rel=tolerance)

    def test_a_negative_term_is_0_and_has_a_gradient(self, pair):
        reference = pair[0][..., :176, :176]
        distorted = (1 - reference).requires_grad_()
        value = MSSSIM()(reference, distorted)
        assert float(value.detach()) == 0
        value.sum().backward()
        assert bool(torch.isfinite(distorted.grad).all())


def halved(image):
    """Means of 2x2 pixels, or of fewer at the end of an odd side."""
    rows, columns = (-(-n // 2) for n in image.shape)
    return np.array(
        [[image[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean() for c in range(columns)]
         for r in range(rows)]
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["noise", "slight", "contrast", "blur"])
class TestAgainstOtherPackages:
    @PRECISIONS
    def test_ssim(self, photographs, kind, dtype, tolerance):
        from pytorch_msssim import ssim
        from torchmetrics.functional.image import structural_similarity_index_measure

        reference = tensor(photographs["cat"])
        distorted = degraded(reference, kind)
        found = float(SSIM()(reference.to(dtype), distorted.to(dtype)))
        x, y = reference.double(), distorted.double()
        window = WINDOW.expand(3, 1, 1, -1)
        theirs = ssim(x, y, data_range=1.0, size_average=False, win=window)
        assert found == pytest.approx(float(theirs), rel=tolerance)
        # In whole it averages over the padded border too.
        _, full = structural_similarity_index_measure(y, x, data_range=1.0, return_full_image=True)
        assert found == pytest.approx(float(full[..., 5:-5, 5:-5].mean()), rel=tolerance)

    def test_mse(self, photographs, kind):
        reference = tensor(photographs["cat"])
        distorted = degraded(reference, kind)
        expected = mean_squared_error(
            *(array(i).astype(np.float64) for i in (reference, distorted))
        )
        assert float(MSE()(reference, distorted)) == pytest.approx(expected, rel=1e-6)
        mean = MSE()(reference, distorted, map=True).mean()
        assert float(mean) == pytest.approx(expected, rel=1e-6)

    def test_the_map_of_ssim(self, photographs, kind):
        reference = tensor(photographs["cat"])
        distorted = degraded(reference, kind)
        for window, options in OPTIONS.items():
            _, full = structural_similarity(
                *(array(i).astype(np.float64) for i in (reference, distorted)),
                channel_axis=2,
                data_range=1.0,
                full=True,
                **options,
            )
            found = SSIM(window)(reference, distorted, map=True)[0, 0].numpy()
            rim = 5 if window == "gaussian" else 3
            inside = np.s_[rim:-rim, rim:-rim]
            assert np.allclose(found[inside], full.mean(2)[inside], rtol=1e-4, atol=1e-5)
            assert np.array_equal(found[0, rim:-rim], found[rim, rim:-rim])
