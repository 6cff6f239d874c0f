"""Mistakes that are made on purpose with other people's code are found from the number alone."""

import copy
import io
import json
from types import SimpleNamespace

import lpips as official_lpips
import numpy as np
import pytest
import torch
from DISTS_pytorch import DISTS_pt
from material import encoded, tensor
from PIL import Image
from registering import own_catalogues
from seeded import trunk
from skimage.color import rgb2gray
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch.nn import functional as F
from typer.testing import CliRunner

from iqa_metrics import (
    DISTS,
    LPIPS,
    PSNR,
    ImageError,
    Metric,
    MetricRecord,
    UnknownNameError,
    create_metric,
    register_metric,
    score,
)
from iqa_metrics.cli import app
from iqa_metrics.doctor import Claim, diagnose
from iqa_metrics.doctor.diagnosis import explained, hypotheses
from iqa_metrics.doctor.measured_pair import MeasuredPair
from iqa_metrics.doctor.other_ssim import OtherSSIM
from iqa_metrics.metrics.dists import CALIBRATION

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def slow(*values):
    """A case that takes many passes through a network."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def arrays(photographs):
    """A photograph and its JPEG, uint8 [H, W, 3], small enough for many passes."""
    reference = photographs["astronaut"][20:116, 60:188]
    jpeg = Image.open(io.BytesIO(encoded(reference, "JPEG", quality=15)))
    return reference, np.asarray(jpeg)


@pytest.fixture(scope="module")
def tensors(arrays):
    return tuple(map(tensor, arrays))


def grey(x):
    return (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, True).expand_as(x)


def luma(array):
    return (16 + (array / 255.0) @ np.array([65.481, 128.553, 24.966])) / 255


def pillow(array, size):
    return tensor(np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BILINEAR)))


def first(found):
    assert not found.agrees
    assert found.findings, [(one.name, one.value) for one in found.nearest]
    return found.findings[0].name


# LPIPS, by the authors' package ------------------------------------------------------------------


@pytest.fixture(scope="module")
def authors():
    """Return the authors' modules with our trunks in place of downloaded ones."""

    def made(net, name, **options):
        features = SimpleNamespace(features=trunk(name))
        with pytest.MonkeyPatch.context() as patch:
            models = SimpleNamespace(**{name: lambda pretrained: features})
            patch.setattr(official_lpips.pretrained_networks, "tv", models)
            module = official_lpips.LPIPS(net=net, verbose=False, **options)
        return lambda x, y, **given: float(module(x, y, **given))

    with torch.no_grad():
        return {
            "alex": made("alex", "alexnet"),
            "squeeze": made("squeeze", "squeezenet1_1"),
            "baseline": made("alex", "alexnet", lpips=False),
        }


@pytest.fixture(scope="module")
def ours(arrays):
    """The pair in LPIPS, which remembers its values from one claim to the next."""
    squeeze = LPIPS("squeeze", trunk=trunk("squeezenet1_1"))
    alex = LPIPS("alex", trunk=trunk("alexnet"))
    return MeasuredPair.read(*arrays, alex, {"lpips_squeeze": squeeze})


@pytest.mark.parametrize(
    ("net", "change", "options", "name"),
    [
        ("alex", lambda x: x, {}, "zero_one_for_minus_one_one"),
        slow("alex", lambda x: 2 * x - 1, {"normalize": True}, "minus_one_one_for_zero_one"),
        ("alex", lambda x: (x - MEAN) / STD, {"normalize": True}, "normalised_twice"),
        slow("alex", lambda x: (x - MEAN) / STD, {}, "normalised_for_minus_one_one"),
        slow("alex", lambda x: 255 * x, {}, "unscaled_255_for_minus_one_one"),
        slow("alex", lambda x: 255 * x, {"normalize": True}, "unscaled_255"),
        ("squeeze", lambda x: 2 * x - 1, {}, "lpips_squeeze"),
        ("baseline", lambda x: 2 * x - 1, {}, "lpips_alex_baseline"),
        ("alex", lambda x: 2 * x.flip(1) - 1, {}, "bgr"),
        slow("alex", lambda x: 2 * grey(x) - 1, {}, "grey"),
        ("alex", lambda x: 2 * x[..., 4:-4, 4:-4] - 1, {}, "border_4"),
        slow("alex", lambda x: 2 * x.permute(0, 2, 3, 1).reshape(x.shape) - 1, {}, "reshaped"),
        slow(
            "alex",
            lambda x: 2 * F.interpolate(x, (224, 224), mode="bilinear", align_corners=False) - 1,
            {},
            "resized_224x224",
        ),
        slow("alex", lambda x: x.flip(1), {}, "bgr+zero_one_for_minus_one_one"),
    ],
)
def test_mistakes_with_the_package_lpips(net, change, options, name, tensors, authors, ours):
    with torch.no_grad():
        claimed = authors[net](*map(change, tensors), **options)
    found = explained(ours, Claim.read(f"{claimed:.6g}"))
    assert first(found).removesuffix("_not_antialiased") == name
    assert found.findings[0].value == pytest.approx(claimed, rel=1e-4)
    assert {"lpips_vgg", "lpips_vgg_baseline"} <= set(found.skipped)
    assert "iqa weights fetch lpips_vgg" in found.skipped["lpips_vgg"]


def test_the_right_value_agrees(tensors, arrays, authors, ours):
    with torch.no_grad():
        claimed = authors["alex"](*tensors, normalize=True)
    found = diagnose(*arrays, claimed, ours.metric)
    assert found.agrees
    assert (found.findings, found.nearest, found.tried) == ((), (), 0)
    assert ours.metric.check == "error"


@pytest.mark.slow
def test_images_that_pillow_resized_are_found(arrays, authors, ours):
    with torch.no_grad():
        claimed = authors["alex"](*(2 * pillow(a, (256, 256)) - 1 for a in arrays))
    found = explained(ours, Claim.read(f"{claimed:.6g}"))
    assert first(found) == "resized_256x256_8_bit"


# DISTS, by the authors' package -------------------------------------------------------------------


@pytest.mark.slow
def test_mistakes_with_the_package_dists(tensors, arrays, monkeypatch):
    network = trunk("vgg16")
    models = SimpleNamespace(
        vgg16=lambda pretrained: SimpleNamespace(features=copy.deepcopy(network))
    )
    monkeypatch.setattr(DISTS_pt, "models", models)
    theirs = DISTS_pt.DISTS(load_weights=False)
    weights = torch.load(CALIBRATION.verified(), map_location="cpu", weights_only=True)
    theirs.alpha.data, theirs.beta.data = weights["alpha"], weights["beta"]
    ours = MeasuredPair.read(*arrays, DISTS(trunk=network))
    for change, name in (
        (lambda x: 2 * x - 1, "minus_one_one_for_zero_one"),
        (lambda x: (x - MEAN) / STD, "normalised_twice"),
        (lambda x: x.flip(1), "bgr"),
        (grey, "grey"),
    ):
        with torch.no_grad():
            claimed = float(theirs(*map(change, tensors)))
        assert first(explained(ours, Claim.read(f"{claimed:.6g}"))) == name


# SSIM, PSNR and MSE, by scikit-image --------------------------------------------------------------

PAPER = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


@pytest.fixture(scope="module")
def measured(arrays):
    """Pairs by metric, which remember their values; a maximum of 255 would hide a mistaken one."""
    pair = tuple(np.minimum(array, 240) for array in arrays)
    names = ("ssim", "ssim_skimage", "psnr", "mse")
    return pair, {name: MeasuredPair.read(*pair, create_metric(name)) for name in names}


def ssim(x, y, **options):
    return structural_similarity(x, y, channel_axis=2 if x.ndim == 3 else None, **options)


@pytest.mark.parametrize(
    ("claimed", "metric", "name"),
    [
        (lambda x, y: ssim(x, y), "ssim", "ssim_skimage"),
        (lambda x, y: ssim(x, y, gaussian_weights=True, sigma=1.5), "ssim", "ssim_sample_covar"),
        (lambda x, y: ssim(x / 255, y / 255, data_range=255, **PAPER), "ssim", "peak_255"),
        (lambda x, y: ssim(x * 1.0, y * 1.0, data_range=1, **PAPER), "ssim", "peak_1"),
        (lambda x, y: ssim(x / 255, y / 255, data_range=2), "ssim_skimage", "peak_2"),
        (lambda x, y: ssim(x / 127.5 - 1, y / 127.5 - 1, data_range=1, **PAPER), "ssim", "minus_o"),
        (lambda x, y: ssim(luma(x), luma(y), data_range=1, **PAPER), "ssim", "luma_y"),
        (lambda x, y: ssim(rgb2gray(x), rgb2gray(y), data_range=1), "ssim_skimage", "grey_bt709"),
        (lambda x, y: 1 - ssim(x, y, **PAPER), "ssim", "value_one_minus"),
        (lambda x, y: (1 - ssim(x, y, **PAPER)) / 2, "ssim", "value_half_of_one_minus"),
        (lambda x, y: ssim(x[4:-4, 4:-4], y[4:-4, 4:-4], **PAPER), "ssim", "border_4"),
        (
            lambda x, y: ssim(luma(x)[4:-4, 4:-4], luma(y)[4:-4, 4:-4], data_range=1, **PAPER),
            "ssim",
            "luma_y+border_4",
        ),
        (
            lambda x, y: peak_signal_noise_ratio(x / 255, y / 255, data_range=255),
            "psnr",
            "peak_255",
        ),
        (lambda x, y: peak_signal_noise_ratio(luma(x), luma(y), data_range=1), "psnr", "luma_y"),
        (
            lambda x, y: peak_signal_noise_ratio(x[6:-6, 6:-6], y[6:-6, 6:-6]),
            "psnr",
            "border_6",
        ),
        (
            lambda x, y: peak_signal_noise_ratio(
                luma(x)[2:-2, 2:-2], luma(y)[2:-2, 2:-2], data_range=1
            ),
            "psnr",
            "luma_y+border_2",
        ),
        (
            lambda x, y: peak_signal_noise_ratio(x * 1.0, y * 1.0, data_range=int(x.max())),
            "psnr",
            "max_of_reference",
        ),
        (lambda x, y: 10 * np.log10(255**2 / np.mean((x - y) ** 2)), "psnr", "psnr_wrapped"),
        (lambda x, y: mean_squared_error(x, y), "mse", "scale_255"),
        (lambda x, y: np.sqrt(mean_squared_error(x, y)), "mse", "value_root_255"),
        (lambda x, y: np.sqrt(mean_squared_error(x / 255, y / 255)), "mse", "value_root"),
    ],
)
def test_mistakes_with_scikit_image(claimed, metric, name, measured):
    pair, of_metrics = measured
    value = claimed(*pair)
    found = explained(of_metrics[metric], Claim.read(f"{value:.7g}"))
    assert first(found).startswith(name)
    assert found.findings[0].value == pytest.approx(value, rel=1e-5)


def test_twelve_bits_in_sixteen(arrays):
    deep = [array.astype(np.uint16) * 16 for array in arrays]
    value = peak_signal_noise_ratio(*deep, data_range=4095)
    assert first(diagnose(*deep, f"{value:.4f}", "psnr")) == "peak_4095_of_16_bits"


def test_other_forms_of_ssim_are_scikit_images(arrays):
    x, y = arrays[0] / 255, arrays[1] / 255
    for ours, theirs in (
        (OtherSSIM(), PAPER),
        (OtherSSIM(sample=True), {"gaussian_weights": True}),
        (OtherSSIM(7, None, sample=True), {}),
        (OtherSSIM(11, None), {"win_size": 11, "use_sample_covariance": False}),
    ):
        found = float(ours(*(torch.from_numpy(i).permute(2, 0, 1)[None] for i in (x, y))))
        assert found == pytest.approx(ssim(x, y, data_range=1, **theirs), rel=1e-9)


def test_the_authors_averaging_of_large_images(photographs):
    """ssim.m takes every f-th pixel of f x f averages; here that is done with whole blocks."""
    x = torch.rand(1, 3, 512, 600, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    y = (x + 0.1 * x.flip(3)).clamp(0, 1)
    blocks = [i.view(1, 3, 256, 2, 300, 2).mean(dim=(3, 5)) for i in (x, y)]
    assert float(OtherSSIM(halved=True)(x, y)) == pytest.approx(float(OtherSSIM()(*blocks)))


# The default metric -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_the_default(arrays):
    return MeasuredPair.read(*arrays, create_metric("default"))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda x: x.flip(1), "bgr"),
        (lambda x: (x - MEAN) / STD, "normalised_twice"),
        (lambda x: 2 * x - 1, "minus_one_one_for_zero_one"),
        slow(grey, "grey"),
    ],
)
def test_mistakes_with_the_default(change, name, tensors, in_the_default):
    with torch.no_grad():
        claimed = float(create_metric("default", check="off")(*map(change, tensors)))
    assert first(explained(in_the_default, Claim.read(f"{claimed:.6g}"))) == name


@pytest.mark.parametrize(
    ("spec", "name"),
    [("block14:cosine", "readout_cosine"), slow("block11:rmse", "layer_block11")],
)
def test_another_layer_or_readout_is_found(spec, name, arrays, in_the_default):
    claimed = score(*arrays, f"efficientnet_lite0:{spec}")
    assert first(explained(in_the_default, Claim.read(f"{claimed:.6g}"))) == name


# What is no mistake that is known -----------------------------------------------------------------


def test_an_unrelated_value_is_explained_by_nothing(measured):
    found = explained(measured[1]["ssim"], Claim.read("0.4142136"))
    assert not found.agrees
    assert (found.findings, len(found.nearest)) == ((), 3)
    assert found.combined > 0
    gaps = [abs(one.difference) for one in found.nearest]
    assert gaps == sorted(gaps)


def test_few_digits_get_a_caution(measured):
    pair, of_metrics = measured
    value = ssim(*pair)
    few, many = (explained(of_metrics["ssim"], Claim.read(f"{value:.{n}f}")) for n in (2, 7))
    assert few.agrees or few.expected_by_chance > 0.1
    found = explained(of_metrics["ssim"], Claim.read("0.8"))
    if not found.agrees:
        assert any("too few digits" in said for said in found.cautions)
    assert many.expected_by_chance < 0.1
    assert not any("digits for certainty" in said for said in many.cautions)


@pytest.mark.parametrize(
    ("text", "value", "half"),
    [
        ("0.123", 0.123, 0.0005),
        ("0.120", 0.12, 0.0005),
        (" 27.1 dB", 27.1, 0.05),
        ("27", 27.0, 0.5),
        ("1.5e-3", 0.0015, 5e-5),
        (-0.25, -0.25, 0.005),
    ],
)
def test_the_digits_of_a_claim_are_its_precision(text, value, half):
    claim = Claim.read(text, relative=0.0)
    assert (claim.value, claim.tolerance) == (value, pytest.approx(half))
    assert claim.fits(value + 0.99 * half)
    assert not claim.fits(value + 1.01 * half)
    assert Claim.read(text, relative=0.1).tolerance == pytest.approx(half + 0.1 * abs(value))


@pytest.mark.parametrize(
    "text", ["", "abc", "0,123", "nan", "inf", float("nan"), "1e400", "-1e400", "0e400"]
)
def test_what_is_no_claim_is_refused(text):
    with pytest.raises(ValueError, match="claims: expected a"):
        Claim.read(text)
    with pytest.raises(ValueError, match="tolerance: expected"):
        Claim.read("1", relative=-1)


def test_the_check_of_the_callers_metric_is_left_alone(arrays):
    seen = []

    class Watched(PSNR):
        def compare(self, reference, distorted):
            seen.append(metric.check)
            return super().compare(reference, distorted)

    metric = Watched()
    assert diagnose(*arrays, f"{score(*arrays, 'psnr'):.7g}", metric).agrees
    assert set(seen) == {"error"}


class FromTheReference(Metric):
    """An asymmetric metric: the error relative to the reference."""

    name = "relative_error"
    higher_is_better = False
    range = (0.0, float("inf"))
    smallest_input = 1
    source = "none"

    def compare(self, reference, distorted):
        return (reference - distorted).square().mean((1, 2, 3)) / reference.square().mean((1, 2, 3))


@own_catalogues()
def test_swapped_images_of_an_asymmetric_metric(arrays):
    register_metric(
        MetricRecord(name="relative_error", metric=FromTheReference, summary="x", symmetric=False)
    )
    claimed = score(*reversed(arrays), "relative_error")
    assert first(diagnose(*arrays, f"{claimed:.7g}", "relative_error")) == "swapped"
    assert "swapped" not in [one.name for one in hypotheses(PSNR())]


def test_hypotheses_have_names_of_their_own(ours):
    for metric in (*map(create_metric, ("default", "ssim", "psnr", "mse", "ms_ssim")), ours.metric):
        names = [one.name for one in hypotheses(metric)]
        assert len(set(names)) == len(names) > 30


def test_wrong_use_is_refused(arrays):
    with pytest.raises(UnknownNameError, match="did you mean 'ssim'"):
        diagnose(*arrays, "0.5", "SSIM")
    with pytest.raises(ImageError, match="both must have the same size"):
        diagnose(arrays[0], arrays[1][:50], "0.5", "ssim")


# The command --------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, arrays):
    paths = tmp_path / "reference.png", tmp_path / "distorted.png"
    for path, array in zip(paths, arrays, strict=True):
        path.write_bytes(encoded(array))
    return paths


def iqa(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command(files, arrays):
    claimed = f"{peak_signal_noise_ratio(luma(arrays[0]), luma(arrays[1]), data_range=1):.3f}"
    result = iqa("doctor", *files, "--claims", claimed, "-m", "psnr")
    assert result.exit_code == 0, result.output
    right, _, finding, explanation, remedy, *_ = result.stdout.splitlines()
    assert right.startswith(f"psnr: {score(*files, 'psnr'):.7g} is right")
    assert finding.split() == ["1.", "luma_y:", f"{float(finding.split()[-1]):.7g}"]
    assert "only the luma Y" in explanation
    assert remedy.startswith("    To fix it: compare RGB")
    found = json.loads(iqa("doctor", *files, "--claims", claimed, "-m", "psnr", "--json").stdout)
    assert found["findings"][0]["name"] == "luma_y"
    assert (found["claimed"], found["agrees"], found["nearest"]) == (claimed, False, [])


def test_the_command_says_when_a_value_is_right_or_unexplained(files):
    right = f"{score(*files, 'ssim'):.5f}"
    result = iqa("doctor", *files, "--claims", right, "-m", "ssim")
    assert (result.exit_code, "They agree" in result.stdout) == (0, True)
    result = iqa("doctor", *files, "--claims", "51.2345", "-m", "psnr")
    assert result.exit_code == 1
    assert "No known mistake gives the claimed value" in result.stdout
    found = json.loads(iqa("doctor", *files, "--claims", "51.2345", "-m", "psnr", "--json").stdout)
    assert (found["findings"], len(found["nearest"])) == ([], 3)
    identical = json.loads(
        iqa("doctor", files[0], files[0], "--claims", "51.2", "-m", "psnr", "--json").stdout
    )
    assert identical["value"] == "Infinity"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--claims", "abc"], "expected a number such as"),
        (["--claims", "1", "-m", "SSIM"], "did you mean 'ssim'"),
        (["--claims", "1", "-m", "lpips"], "iqa weights fetch lpips_alex"),
        (["--claims", "1", "--tolerance", "-1"], "tolerance: expected"),
        ([], "Missing option '--claims'"),
    ],
)
def test_wrong_use_of_the_command(options, words, files):
    result = iqa("doctor", *files, *options)
    assert result.exit_code == 2
    assert words in result.stderr
