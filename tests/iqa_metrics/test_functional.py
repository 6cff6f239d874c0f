"""Metrics as functions: they return the classes' values, and build networks once."""

import doctest
import inspect

import pytest
import torch
from seeded import save_trunk

import iqa_metrics.functional
from iqa_metrics import (
    METRICS,
    Conventions,
    ImageError,
    UnknownNameError,
    WeightsError,
    create_metric,
    metric_record,
    needs,
)
from iqa_metrics.functional import (
    clear_cache,
    deep_distance,
    dists,
    lpips,
    ms_ssim,
    mse,
    perceptnet,
    psnr,
    ssim,
)

FUNCTIONS = {
    "default": (deep_distance, {}),
    "mse": (mse, {}),
    "psnr": (psnr, {}),
    "ssim": (ssim, {}),
    "ssim_skimage": (ssim, {"window": "uniform"}),
    "ms_ssim": (ms_ssim, {}),
    **{f"lpips_{net}": (lpips, {"net": net}) for net in ("alex", "vgg", "squeeze")},
    **{
        f"lpips_{net}_baseline": (lpips, {"net": net, "calibrated": False})
        for net in ("alex", "vgg", "squeeze")
    },
    "dists": (dists, {}),
    "dists_resized": (dists, {"resize": True}),
    "perceptnet": (perceptnet, {}),
}


@pytest.fixture(autouse=True)
def nothing_kept():
    clear_cache()
    yield
    clear_cache()


@pytest.fixture(scope="module")
def seeded_weights(tmp_path_factory):
    """Seeded networks instead of published ones, for classes that look for these."""
    folder = tmp_path_factory.mktemp("trunks")
    return {
        trunk: save_trunk(trunk, folder)
        for trunk in {needs(record.name).backbone for record in METRICS}
        if trunk not in (None, "efficientnet_lite0")
    }


def test_every_named_metric_has_a_function():
    assert set(FUNCTIONS) == {record.name for record in METRICS}
    public = {name for name in iqa_metrics.functional.__all__ if name != "clear_cache"}
    assert public == {function.__name__ for function, _ in FUNCTIONS.values()}


@pytest.mark.parametrize("function", [mse, psnr, ssim, deep_distance])
def test_conventions_are_those_of_the_metrics(function, pair):
    conventions = Conventions(space="y", border=4, peak=255)
    name = {deep_distance: "default"}.get(function, function.__name__)
    images = [255 * image[..., :72, :72] for image in pair]
    expected = create_metric(name, space="y", border=4, peak=255)(*images)
    assert torch.equal(function(*images, conventions=conventions), expected)
    mask = torch.rand(72, 72, generator=torch.Generator().manual_seed(0))
    expected = create_metric(name, space="y", border=4, peak=255)(*images, mask=mask)
    assert torch.equal(function(*images, conventions=conventions, mask=mask), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_return_the_values_of_the_metrics(name, pair, seeded_weights, monkeypatch):
    from iqa_metrics import Backbone

    function, options = FUNCTIONS[name]
    weights = seeded_weights.get(needs(name).backbone)
    side = max(64, metric_record(name).smallest_input)
    images = [image[..., :side, : side + 8] for image in pair]
    if weights is not None:
        with pytest.raises(WeightsError):
            function(*images, **options)
        build = Backbone.network
        monkeypatch.setattr(
            Backbone, "network", lambda record, given=None: build(record, given or weights)
        )
    metric = create_metric(name, weights=weights)
    assert torch.equal(function(*images, **options), metric(*images))
    with_map = "map" in inspect.signature(function).parameters
    assert with_map == metric.has_map
    if with_map:
        found = function(*images, **options, map=True)
        assert torch.equal(found, metric(*images, map=True))


def test_networks_are_built_once_and_follow_the_options(pair, monkeypatch):
    from iqa_metrics import Backbone

    built, build = [], Backbone.network
    monkeypatch.setattr(
        Backbone, "network", lambda *given: built.append(given[0].name) or build(*given)
    )
    for _ in range(3):
        first = deep_distance(*pair)
        other = deep_distance(*pair, layers=["stem"], readout="gram")
    assert built == ["efficientnet_lite0"] * 2
    assert float(first) != float(other)
    both = deep_distance(
        *pair,
        layers=["stem", "block3"],
        readout="cosine",
        concatenation="sum",
        layer_weights=[0.5, 2],
    )
    spec = "efficientnet_lite0:0.5*stem+2*block3:cosine:sum"
    assert torch.equal(both, create_metric(spec)(*pair))
    clear_cache()
    deep_distance(*pair)
    assert len(built) == 5


def test_what_was_built_in_inference_mode_is_a_loss_later(pair):
    images = [image[..., :64, :64] for image in pair]
    with torch.inference_mode():
        expected = deep_distance(*images).clone()
    distorted = images[1].clone().requires_grad_()
    value = deep_distance(images[0], distorted)
    value.sum().backward()
    assert float(value.detach()) == pytest.approx(float(expected), rel=1e-6)
    assert float(distorted.grad.abs().max()) > 0


def test_wrong_use_gives_the_errors_of_the_metrics(pair):
    with pytest.raises(ImageError, match="divide by 255"):
        psnr(pair[0] * 255, pair[1])
    assert psnr(pair[0] * 255, pair[1], check="off").shape == (1,)
    for wrong in (None, "a.png", [1]):
        with pytest.raises(ImageError):
            deep_distance(pair[0], wrong)
    with pytest.raises(ValueError, match="expected 'gaussian' or 'uniform'"):
        ssim(*pair, window="hann")
    with pytest.raises(UnknownNameError, match="did you mean 'rmse'"):
        deep_distance(*pair, readout="rsme")
    with pytest.raises(ValueError, match="no map"):
        deep_distance(*pair, readout="gram", map=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_device_follows_the_images(pair):
    for home in ("cuda", "cpu", "cuda"):
        images = [image.to(home) for image in pair]
        for function in (deep_distance, psnr):
            assert function(*images).device.type == home


def test_the_examples_of_the_docstrings():
    from registering import own_catalogues

    from iqa_metrics import plugins
    from iqa_metrics.metrics import record
    from iqa_metrics.readouts import catalogue

    with own_catalogues():
        for module in (iqa_metrics.functional, plugins, record, catalogue):
            result = doctest.testmod(module)
            assert result.attempted
            assert result.failed == 0
