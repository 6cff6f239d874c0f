"""The contract that all metrics keep, each in a network with real or seeded weights.

What is known of a metric beforehand, its record says. A metric that an installed plug-in registers
is tested like those that are built in: ``pytest tests/iqa_metrics/test_contract.py -k NAME``.
"""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from iqa_metrics import (
    METRICS,
    ImageError,
    Metric,
    all_metrics,
    create_metric,
    needs,
    resolve,
)

RECORDS = {record.name: record for record in all_metrics()}
ALL = list(RECORDS)


@pytest.fixture(scope="module")
def metrics(make):
    return {name: make(name) for name in ALL}


@pytest.fixture(scope="module")
def trusting(make):
    return {name: make(name, check="off") for name in ALL}


@pytest.fixture
def images(pair, name):
    """A photograph, and with it a noisy copy and a blurred one."""
    height, width = (96, 112) if RECORDS[name].smallest_input <= 96 else (176, 192)
    reference, noisy = (image[..., :height, :width] for image in pair)
    blurred = torch.nn.functional.avg_pool2d(reference, 3, stride=1, padding=1)
    return reference, torch.cat([noisy, blurred])


@pytest.mark.parametrize("name", ALL)
class TestContract:
    def test_it_declares_itself(self, name, metrics):
        metric, record = metrics[name], RECORDS[name]
        assert isinstance(metric, Metric)
        assert isinstance(metric.higher_is_better, bool)
        assert isinstance(metric.differentiable, bool)
        assert metric.range[0] < metric.range[1]
        assert metric.source
        assert metric.smallest_input >= 1
        assert metric.name in (name, str(resolve(name)))
        assert metric.name in str(metric)
        assert type(metric) is record.metric
        for fact in ("higher_is_better", "differentiable", "range", "source"):
            assert getattr(metric, fact) == getattr(record.metric, fact)
        for fact in ("has_map", "smallest_input"):
            assert getattr(metric, fact) == getattr(record, fact)
        assert metric.range[0] <= record.identity <= metric.range[1]

    def test_identity_symmetry_batch_and_order(self, name, metrics, images):
        metric, (reference, distorted) = metrics[name], images
        values = metric(reference, distorted)
        assert values.shape == (2,)
        assert values.dtype == torch.float32
        low, high = metric.range
        assert bool(((values >= low) & (values <= high)).all())
        assert metric(distorted, distorted).tolist() == [RECORDS[name].identity] * 2
        references = reference.expand_as(distorted)
        swapped = torch.allclose(metric(distorted, references), values, rtol=1e-5)
        assert swapped == RECORDS[name].symmetric
        assert torch.allclose(metric(references, distorted), values, rtol=1e-5)
        single = [metric(reference, d) for d in distorted.split(1)]
        assert torch.allclose(torch.cat(single), values, rtol=1e-5)
        backwards = metric(reference, distorted.flip(0))
        assert torch.allclose(backwards.flip(0), values, rtol=1e-5)

    def test_a_value_does_not_depend_on_its_batch(self, name, metrics, images):
        """Not even on an image in the batch that is all zeros, or far brighter."""
        metric, (reference, distorted) = metrics[name], images
        others = torch.cat([distorted[:1], torch.zeros_like(reference), torch.ones_like(reference)])
        among = metric(reference, others)[0]
        assert float(among) == pytest.approx(float(metric(reference, distorted)[0]), rel=1e-5)

    def test_gradients_reach_the_distorted_image_alone(self, name, metrics, images):
        metric, (reference, distorted) = metrics[name], images
        if not metric.differentiable:
            pytest.skip(f"{name} is no loss")
        batch = torch.cat([reference, distorted[:1]]).requires_grad_()
        values = metric(reference, batch)
        values[torch.isfinite(values)].sum().backward()
        assert bool(torch.isfinite(batch.grad).all())
        assert torch.allclose(batch.grad[0], torch.zeros_like(batch.grad[0]), atol=1e-6)
        assert float(batch.grad[1].abs().max()) > 0
        assert not any(p.requires_grad for p in metric.parameters())

    def test_the_smallest_input_works_and_a_smaller_one_is_refused(self, name, metrics):
        metric, n = metrics[name], metrics[name].smallest_input
        x = torch.rand(1, 3, n, n, generator=torch.Generator().manual_seed(0))
        assert torch.isfinite(metric(x, 1 - x)).all()
        if n > 1:
            with pytest.raises(ImageError, match=f"at least {n} pixels") as caught:
                metric(x[..., :-1], x[..., :-1])
            assert caught.value.code == "too_small"

    @pytest.mark.parametrize("wrong", ["reference", "distorted"])
    @pytest.mark.parametrize(
        ("change", "remedy"),
        [
            (lambda x: 2 * x - 1, r"\(x \+ 1\) / 2"),
            (lambda x: 255 * x, "divide by 255"),
            (lambda x: (x - 0.45) / 0.22, "undo the normalisation"),
            (lambda x: x.masked_fill(x == x.max(), torch.nan), "NaN"),
        ],
        ids=["signed", "bytes", "normalised", "nan"],
    )
    def test_values_out_of_range_are_refused(self, name, wrong, change, remedy, metrics, images):
        pair = {"reference": images[0], "distorted": images[1][:1].clone()}
        pair[wrong] = change(pair[wrong])
        with pytest.raises(ImageError, match=f"{wrong}.*{remedy}"):
            metrics[name](**pair)

    def test_unchecked_values_are_trusted(self, name, trusting, images):
        assert trusting[name](images[0] * 2 - 1, images[1] * 2 - 1).shape == (2,)

    @pytest.mark.parametrize("channels", [1, 2, 4])
    def test_grey_and_alpha_are_refused_with_the_way_out(self, name, channels, metrics):
        x = torch.rand(1, channels, 176, 176)
        with pytest.raises(ImageError, match=r"expected an RGB tensor.*read_image"):
            metrics[name](x, x)

    def test_an_enclosing_autocast_changes_nothing(self, name, metrics, images):
        plain = metrics[name](*images)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(metrics[name](*images), plain)

    def test_unlike_sizes_are_refused(self, name, metrics, images):
        with pytest.raises(ImageError, match=r"reference is \d+x\d+ and distorted is \d+x\d+"):
            metrics[name](images[0], images[1][..., :-1])

    def test_zero_and_constant_images_give_numbers(self, name, metrics):
        n = max(64, metrics[name].smallest_input)
        black, white = torch.zeros(1, 3, n, n), torch.ones(1, 3, n, n)
        for x, y in ((black, white), (white, black), (black, black), (white, white)):
            distorted = y.clone().requires_grad_()
            value = metrics[name](x, distorted)
            assert not torch.isnan(value).any()
            if metrics[name].differentiable:
                value.sum().backward()
                assert bool(torch.isfinite(distorted.grad).all())

    def test_the_network_is_built_once(self, name, metrics, images, monkeypatch):
        """Nothing is created, read or copied in a call."""
        monkeypatch.setattr(nn.Conv2d, "__init__", pytest.fail)
        monkeypatch.setattr(nn.Module, "load_state_dict", pytest.fail)
        monkeypatch.setattr(torch, "load", pytest.fail)
        monkeypatch.setattr(copy, "deepcopy", pytest.fail)
        assert metrics[name](*images).shape == (2,)

    def test_nan_is_not_swallowed(self, name, trusting, images):
        broken = images[1].clone()
        broken[1, 0, 10, 10] = torch.nan
        values = trusting[name](images[0], broken)
        assert bool(torch.isfinite(values[0]))
        assert bool(torch.isnan(values[1]))

    def test_wide_images_keep_their_precision_where_no_network_reads_them(
        self, name, metrics, images
    ):
        value = metrics[name](*(i.double() for i in images))
        wide = needs(name).backbone is None
        assert value.dtype == (torch.float64 if wide else torch.float32)
        assert torch.allclose(value.float(), metrics[name](*images), rtol=1e-4)

    def test_narrow_images_give_the_values_of_their_float32_copies(self, name, metrics, images):
        narrow = [image.half() for image in images]
        values = metrics[name](*narrow)
        assert values.dtype == torch.float32
        assert torch.equal(values, metrics[name](*(image.float() for image in narrow)))
        with metrics[name].reference(narrow[0]) as shared:
            assert torch.allclose(shared.score(narrow[1]), values, rtol=1e-5)

    def test_the_wider_type_decides(self, name, metrics, images):
        reference, distorted = images
        both = metrics[name](reference.double(), distorted.double())
        for pair in ((reference.double(), distorted), (reference, distorted.double())):
            values = metrics[name](*pair)
            assert values.dtype == both.dtype
            assert torch.allclose(values, both, rtol=1e-12 if both.dtype == torch.float64 else 1e-5)

    def test_a_copy_measures_the_same(self, name, metrics, images):
        expected, pickled = metrics[name](*images), pickle.dumps(metrics[name])
        for copied in (pickle.loads(pickled), copy.deepcopy(metrics[name])):  # noqa: S301
            assert torch.equal(copied(*images), expected)
            assert repr(copied) == repr(metrics[name])

    def test_a_map_covers_the_image(self, name, metrics, images):
        metric, (reference, distorted) = metrics[name], images
        if not RECORDS[name].has_map:
            with pytest.raises(ValueError, match="no map"):
                metric(reference, distorted, map=True)
            return
        values = metric(reference, distorted, map=True)
        assert values.shape == (2, 1, *reference.shape[-2:])
        assert not torch.isnan(values).any()
        changed = reference.clone()
        changed[..., 48:64, 64:80] = 0.5
        single = metric(reference, changed, map=True)[0, 0]
        strength = (single - metric(reference, reference, map=True)[0, 0]).abs()
        row, column = divmod(int(strength.argmax()), strength.shape[1])
        # Where the image was changed, give or take the stride of a deep layer.
        assert 32 <= row < 80
        assert 48 <= column < 96


@pytest.mark.parametrize(
    "name", [r.name for r in METRICS if all(file.package for file in r.needs.files)]
)
@pytest.mark.parametrize("photograph", ["astronaut", "coffee", "cat"])
def test_more_noise_gives_a_worse_value(name, photograph, metrics, photographs):
    """Only for metrics that need no downloads; a network with random weights promises nothing."""
    from material import tensor

    reference = tensor(photographs[photograph])
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(1))
    values = [
        float(metrics[name](reference, (reference + s * noise).clamp(0, 1)))
        for s in (0.01, 0.03, 0.1, 0.3)
    ]
    assert values == sorted(values, reverse=metrics[name].higher_is_better)


@pytest.mark.parametrize("name", [n for n in ALL if needs(n).backbone])
def test_lower_precision_gives_similar_values(name, make, metrics, images):
    """What docs/metrics.md states about half-precision networks."""
    images = [image[..., :64, :64] for image in images]
    single = metrics[name](*images)
    metric = make(name)
    for dtype, bound in ((torch.float16, 0.02), (torch.bfloat16, 0.1)):
        values = metric.to(dtype)(*images)
        assert values.dtype == torch.float32
        assert torch.allclose(values, single, rtol=bound), (dtype, values, single)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ALL)
def test_the_gpu_agrees(name, make, metrics, images):
    found = make(name, device="cuda")(*(i.cuda() for i in images))
    assert torch.allclose(found.cpu(), metrics[name](*images), rtol=1e-3)
    assert math.isfinite(float(found.sum()))


def test_a_wrong_check_is_refused():
    with pytest.raises(ValueError, match="expected 'error' or 'off'"):
        create_metric("psnr", check="warn")
