"""Luma, shaved borders, peaks and masks, as papers state them."""

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from material import coded
from seeded import trunk
from skimage import data
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from iqa_metrics import (
    Conventions,
    DeepDistance,
    FeatureReadouts,
    ImageError,
    backbone,
    create_metric,
    read_image,
)
from iqa_metrics.backbones.scaling import IMAGENET
from iqa_metrics.compute.conventions import compared
from iqa_metrics.io.tables import own_conventions
from iqa_metrics.metrics.together import share_network

OF_SKIMAGE = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


@pytest.fixture(scope="module")
def arrays():
    """A photograph and the same as JPEG of quality 10, uint8."""
    reference = data.astronaut()[:256, :320]
    return reference, coded(reference)


@pytest.fixture(scope="module")
def photographs(arrays):
    return tuple(read_image(array) for array in arrays)


@pytest.fixture(scope="module")
def metrics():
    return {name: create_metric(name) for name in ("mse", "psnr", "ssim", "default")}


def test_luma_without_a_border_is_what_scikit_image_computes(arrays, photographs):
    x, y = (rgb2ycbcr(array)[4:-4, 4:-4, 0] / 255 for array in arrays)
    psnr = create_metric("psnr", space="y", border=4)(*photographs)
    ssim = create_metric("ssim", space="y", border=4)(*photographs)
    assert float(psnr) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=1), rel=1e-5)
    expected = structural_similarity(x, y, data_range=1, **OF_SKIMAGE)
    assert float(ssim) == pytest.approx(expected, rel=1e-5)
    assert float(ssim) == pytest.approx(0.87081, abs=1e-5)


def test_luma_of_8_bits_is_rounded_as_matlab_does(arrays, photographs):
    x, y = (np.round(rgb2ycbcr(array)[4:-4, 4:-4, 0]).astype(np.uint8) for array in arrays)
    psnr = create_metric("psnr", space="y8", border=4)(*photographs)
    assert float(psnr) == pytest.approx(peak_signal_noise_ratio(x, y), rel=1e-5)
    assert float(psnr) == pytest.approx(30.333, abs=1e-3)


def test_the_range_of_luma(photographs):
    black, white = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    luma = partial(compared, conventions=Conventions(space="y"))
    assert float(luma(black)) == pytest.approx(16 / 255)
    assert float(luma(white)) == pytest.approx(235 / 255)
    steps = 255 * compared(photographs[0], Conventions(space="y8"))
    assert torch.equal(steps.round(), (255 * luma(photographs[0])).round())
    assert torch.allclose(steps, steps.round(), atol=1e-4)


def test_a_network_gets_luma_in_all_channels(photographs, metrics):
    luma = [compared(image, Conventions(space="y")) for image in photographs]
    grey = [image.expand(-1, 3, -1, -1) for image in luma]
    found = create_metric("default", space="y")(*photographs)
    assert float(found) == pytest.approx(float(metrics["default"](*grey)), rel=1e-5)


@pytest.mark.parametrize("name", ["psnr", "ssim", "default"])
def test_a_border_is_cut_off_both_images(name, photographs, metrics):
    inside = [image[..., 6:-6, 6:-6] for image in photographs]
    found = create_metric(name, border=6)(*photographs)
    assert float(found) == pytest.approx(float(metrics[name](*inside)), rel=1e-5)
    with create_metric(name, border=6).reference(photographs[0]) as shared:
        assert float(shared.score(photographs[1])) == pytest.approx(float(found), rel=1e-5)


@pytest.mark.parametrize("name", ["mse", "psnr", "ssim", "default"])
def test_a_peak_scales_both_images(name, photographs, metrics):
    found = create_metric(name, peak=255)(*(255 * image for image in photographs))
    assert float(found) == pytest.approx(float(metrics[name](*photographs)), rel=1e-5)


def test_twelve_bits_in_sixteen(arrays, photographs):
    deep = [array.astype(np.uint16) * 4095 // 255 for array in arrays]
    tensors = [torch.from_numpy(a.astype(np.float32)).permute(2, 0, 1)[None] for a in deep]
    expected = peak_signal_noise_ratio(*deep, data_range=4095)
    assert float(create_metric("psnr", peak=4095)(*tensors)) == pytest.approx(expected, rel=1e-5)


def test_values_are_checked_after_the_division(photographs):
    with pytest.raises(ImageError, match="values from 0 to 255"):
        create_metric("psnr", border=1)(*(255 * image for image in photographs))
    with pytest.raises(ImageError, match="Values were divided by the peak 100"):
        create_metric("psnr", peak=100)(*(255 * image for image in photographs))


def test_a_border_leaves_enough_for_the_metric():
    grey = torch.full((1, 3, 20, 20), 0.5)
    assert float(create_metric("ssim", border=4)(grey, grey)) == 1
    with pytest.raises(ImageError, match="10x10 without a border of 5 is too small"):
        create_metric("ssim", border=5)(grey, grey)
    with pytest.raises(ImageError, match="0x0 without a border of 12 is too small"):
        create_metric("psnr", border=12)(grey, grey)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"space": "lab"}, "expected one of rgb, y, y8"),
        ({"border": -1}, "expected a number of pixels"),
        ({"border": 1.5}, "expected a number of pixels"),
        ({"border": True}, "expected a number of pixels"),
        ({"peak": 0}, "expected the value of white"),
        ({"peak": float("inf")}, "expected the value of white"),
        ({"peak": float("nan")}, "expected the value of white"),
        ({"space": ""}, "expected one of rgb, y, y8"),
    ],
)
def test_other_values_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        Conventions(**option)
    with pytest.raises(ValueError, match=message):
        create_metric("psnr", **option)


def test_conventions_are_read_from_cells():
    change = Conventions(border=2).with_changes
    assert change({"space": "y", "border": " 4 ", "peak": "4095"}) == Conventions("y", 4, 4095)
    assert change({"space": None, "border": None, "mask": "x"}) == Conventions(border=2)
    assert change({"border": 3.0, "peak": np.float32(255)}) == Conventions(border=3, peak=255)
    assert own_conventions({"space": " ", "border": "3", "peak": math.nan}) == {"border": "3"}
    for wrong in (
        *({"border": "-2"}, {"border": 1.5}, {"border": "nan"}),
        *({"peak": "white"}, {"peak": math.nan}, {"space": "lab"}, {"space": ""}),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            change(wrong)


def test_a_twin_under_other_conventions_shares_the_network(metrics, photographs):
    metric = metrics["default"]
    twin = metric.under(Conventions(border=6))
    assert twin.extractor is metric.extractor
    assert metric.conventions == Conventions()
    expected = create_metric("default", border=6)(*photographs)
    assert torch.equal(twin(*photographs), expected)


def test_a_shared_reference_keeps_the_conventions_it_was_made_under(photographs):
    metric = create_metric("default")
    expected = float(metric(*photographs))
    with metric.reference(photographs[0]) as shared:
        metric.configure(space="y", border=3)
        assert float(shared.score(photographs[1])) == pytest.approx(expected, rel=1e-5)


def test_sizes_in_messages_are_those_that_were_given(photographs):
    metric = create_metric("mse", border=4)
    with metric.reference(photographs[0]) as shared:
        for compare in (shared.score, lambda y: metric(photographs[0], y)):
            with pytest.raises(ImageError, match="320x256 and distorted is 312x256"):
                compare(photographs[1][..., :-8])


def test_named_readouts_follow_conventions(photographs):
    wanted = {"stem": ["rmse"]}
    plain = FeatureReadouts("efficientnet_lite0", wanted)
    cut = FeatureReadouts("efficientnet_lite0", wanted).configure(border=8)
    inside = [image[..., 8:-8, 8:-8] for image in photographs]
    assert torch.equal(cut(*photographs)["stem"]["rmse"], plain(*inside)["stem"]["rmse"])


# Masks --------------------------------------------------------------------------------------------

MASKED = [
    "mse",
    "psnr",
    "ssim",
    "ssim_skimage",
    "default",
    "efficientnet_lite0:stem+block3:euclidean",
    pytest.param("efficientnet_lite0:stem+block3:mean_absolute:sum", marks=pytest.mark.slow),
    pytest.param("efficientnet_lite0:stem+block3:lpips:sum", marks=pytest.mark.slow),
    "efficientnet_lite0:block3:position_cosine",
]


@pytest.mark.parametrize("name", MASKED)
def test_equal_weights_change_nothing(name, photographs):
    metric = create_metric(name)
    reference, distorted = photographs
    mask = torch.full((256, 320), 0.25)
    assert float(metric(reference, distorted, mask=mask)) == pytest.approx(
        float(metric(reference, distorted)), rel=1e-5
    )
    with metric.reference(reference) as shared:
        assert float(shared.score(distorted, mask=mask)) == pytest.approx(
            float(metric(reference, distorted)), rel=1e-5
        )


def test_a_box_is_a_crop_for_what_looks_at_pixels_alone(photographs, metrics):
    mask = torch.zeros(1, 1, 256, 320)
    mask[..., 40:200, 30:250] = 1
    inside = [image[..., 40:200, 30:250] for image in photographs]
    for name in ("mse", "psnr"):
        found = metrics[name](*photographs, mask=mask)
        assert float(found) == pytest.approx(float(metrics[name](*inside)), rel=1e-6)


def test_a_masked_ssim_is_a_weighted_mean_of_scikit_images_map(arrays, photographs, metrics):
    weights = np.random.default_rng(0).random((256, 320))
    _, per_pixel = structural_similarity(
        *(array / 255 for array in arrays), data_range=1, channel_axis=2, full=True, **OF_SKIMAGE
    )
    inside = (slice(5, -5), slice(5, -5))
    expected = np.average(per_pixel.mean(axis=2)[inside], weights=weights[inside])
    found = metrics["ssim"](*photographs, mask=torch.from_numpy(weights))
    assert float(found) == pytest.approx(expected, rel=1e-5)


@given(seed=st.integers(0, 2**31), factor=st.floats(1e-3, 1e3))
@settings(max_examples=10)
def test_weights_count_up_to_a_factor(seed, factor):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, 1, 3, 40, 44, generator=generator)
    mask = torch.rand(40, 44, generator=generator) + 0.01
    metric = create_metric("ssim")
    values = [float(metric(x, y, mask=weights)) for weights in (mask, factor * mask)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_each_image_has_its_mask_and_batches_are_single_pairs(photographs, metrics):
    reference, distorted = photographs
    batch = torch.cat([distorted, reference.flip(3), distorted.flip(2)])
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(3, 256, 320, generator=generator)
    for metric in metrics.values():
        together = metric(reference, batch, mask=masks)
        single = [metric(reference, y[None], mask=m) for y, m in zip(batch, masks, strict=True)]
        assert torch.allclose(together, torch.cat(single), rtol=1e-5)


def test_what_lies_outside_the_mask_gets_no_gradient(photographs, metrics):
    reference, distorted = photographs
    distorted = distorted.clone().requires_grad_()
    mask = torch.zeros(256, 320)
    mask[:64, :64] = 1
    metrics["mse"](reference, distorted, mask=mask).backward()
    assert distorted.grad[..., :64, :64].any()
    assert not distorted.grad[..., 64:, :].any()


def test_a_border_is_cut_off_the_mask_too(photographs):
    mask = torch.zeros(256, 320)
    mask[:4] = 1
    mask[100:140, 60:90] = 1
    inside = [image[..., 100:140, 60:90] for image in photographs]
    found = create_metric("mse", border=4)(*photographs, mask=mask)
    assert float(found) == pytest.approx(float(create_metric("mse")(*inside)), rel=1e-6)


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(256, 319),
        torch.ones(2, 1, 256, 320),
        torch.ones(1, 3, 256, 320),
        torch.zeros(256, 320),
        -torch.ones(256, 320),
        torch.full((256, 320), torch.nan),
        [[1.0]],
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, photographs, metrics):
    with pytest.raises(ImageError, match="mask") as caught:
        metrics["mse"](*photographs, mask=mask)
    assert caught.value.code == "bad_mask"


@pytest.mark.parametrize("name", ["ms_ssim", "efficientnet_lite0:block3:gram"])
def test_metrics_that_are_no_mean_take_none(name, photographs):
    metric = create_metric(name)
    assert not metric.takes_mask
    with pytest.raises(ValueError, match="takes no mask"):
        metric(*photographs, mask=torch.ones(256, 320))


def test_a_mask_of_the_edge_reaches_no_window(photographs, metrics):
    mask = torch.zeros(256, 320)
    mask[:3] = 1
    with pytest.raises(ImageError, match="at the centre of a window") as caught:
        metrics["ssim"](*photographs, mask=mask)
    assert caught.value.code == "bad_mask"


def _masked(metric, x, y, mask):
    return metric(x, y, mask=mask)


def test_a_mask_can_be_learned():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 1, 3, 24, 26, generator=generator).double()
    mask = (torch.rand(24, 26, generator=generator).double() + 0.1).requires_grad_()
    for name in ("mse", "ssim"):
        metric = create_metric(name)
        assert torch.autograd.gradcheck(partial(_masked, metric, x, y), (mask,), fast_mode=True)


def test_a_map_and_a_mask_are_not_asked_for_together(photographs, metrics):
    with pytest.raises(ValueError, match="either map or mask"):
        metrics["ssim"](*photographs, map=True, mask=torch.ones(256, 320))


# Signatures ---------------------------------------------------------------------------------------


def test_a_signature_says_what_decides_the_value(metrics):
    terms = create_metric("psnr", space="y", border=4, peak=255).signature.split("|")
    assert terms[:4] == ["psnr", "space:y", "border:4", "peak:255"]
    assert [term.split(":")[0] for term in terms[4:]] == [
        "weights",
        "precision",
        "iqa-metrics",
        "torch",
    ]
    assert "weights:none" in terms
    assert "weights:none" not in metrics["default"].signature


def test_signatures_are_equal_where_values_are():
    assert create_metric("default").signature == create_metric("default").signature
    names = ["psnr", "efficientnet_lite0:block3:rmse"]
    options = [{}, {"space": "y"}, {"border": 2}, {"peak": 255}, {"precision": "bfloat16"}]
    options += [{"peak": 1}, {"peak": 1048575}, {"peak": 1048580}]
    made = [create_metric(name, **option).signature for name in names for option in options]
    made.append(create_metric("default").signature)
    # Metrics without a network have one precision.
    assert len(set(made)) == len(made) - 1


def test_other_weights_have_another_signature():
    network = trunk("alexnet")
    first = DeepDistance("alexnet", "relu2", "rmse", trunk=network).signature
    with torch.no_grad():
        network.get_parameter("0.weight")[0, 0, 0, 0] += 1e-3
    assert DeepDistance("alexnet", "relu2", "rmse", trunk=network).signature != first


def test_a_network_shared_with_earlier_layers_leaves_a_signature_as_it_is(metrics):
    names = ["efficientnet_lite0:block3:rmse", "default"]
    together = [create_metric(name) for name in names]
    share_network(together, backbone("efficientnet_lite0"))
    assert together[0].extractor is together[1].extractor
    assert together[1].signature == metrics["default"].signature
    assert together[0].signature != together[1].signature.replace("block14", "block3")


def test_another_input_scaling_has_another_signature(metrics):
    record = dataclasses.replace(backbone("efficientnet_lite0"), scaling=IMAGENET)
    other = DeepDistance(record, "block14", "rmse")
    assert other.name == metrics["default"].name
    assert other.signature != metrics["default"].signature
