"""Deep distances against plain hooks, and the contract that all metrics keep."""

import csv
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from material import REPOSITORY, tensor
from torch import nn

from iqa_metrics import METRICS, DeepDistance, ImageError, Metric, backbone, create_metric
from iqa_metrics.weights import read_state_dict

LITE0 = [layer.name for layer in backbone("efficientnet_lite0").layers]
MOBILE = [layer.name for layer in backbone("mobilenet_v2").layers]


class PlainHooks:
    """A network as its own package makes it, with a hook on every stage: no code of ours."""

    def __init__(self, network, stages, prepare):
        self.network, self.prepare, self.seen = network.eval(), prepare, {}
        for name, module, after in stages:
            module.register_forward_hook(
                lambda m, i, out, name=name, after=after: self.seen.__setitem__(name, after(out))
            )

    def responses(self, image):
        self.seen = {}
        with torch.no_grad():
            self.network(self.prepare(image))
        return dict(self.seen)


@pytest.fixture(scope="module")
def plain_lite0():
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(read_state_dict(backbone("efficientnet_lite0").weights.verified()))
    relu6 = nn.functional.relu6
    stages = [("stem", network._bn0, relu6)]
    stages += [(f"block{i}", b, torch.clone) for i, b in enumerate(network._blocks)]
    stages += [("head", network._bn1, relu6)]
    return PlainHooks(network, stages, lambda image: (image * 255 - 127) / 128)


@pytest.fixture(scope="module")
def plain_mobilenet(real_weights):
    from torchvision.models import mobilenet_v2

    network = mobilenet_v2()
    network.load_state_dict(
        torch.load(real_weights / "mobilenet_v2-b0353104.pth", weights_only=True)
    )
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    stages = [(MOBILE[i], network.features[i], torch.clone) for i in range(19)]
    return PlainHooks(network, stages, lambda image: (image - mean) / std)


@pytest.mark.parametrize("size", [(256, 320), (97, 131)])
@pytest.mark.parametrize("layer", LITE0)
def test_every_layer_of_efficientnet_lite0(layer, size, pair, plain_lite0):
    check_against_hooks("efficientnet_lite0", layer, size, pair, plain_lite0)


@pytest.mark.parametrize("size", [(256, 320), (97, 131)])
@pytest.mark.parametrize("layer", MOBILE)
def test_every_layer_of_mobilenet_v2(layer, size, pair, plain_mobilenet, real_weights, monkeypatch):
    monkeypatch.setenv("IQA_WEIGHTS", str(real_weights))
    check_against_hooks("mobilenet_v2", layer, size, pair, plain_mobilenet)


def check_against_hooks(name, layer, size, pair, plain):
    images = [image[..., : size[0], : size[1]] for image in pair]
    x, y = (plain.responses(image)[layer].double() for image in images)
    expected = float((x - y).square().sum().sqrt())
    found = float(DeepDistance(name, layer, "euclidean")(*images))
    assert found == pytest.approx(expected, rel=1e-5)


def test_joined_layers_are_one_long_response(pair, plain_lite0):
    layers = ["block9", "stem", "block3"]
    x, y = (plain_lite0.responses(image) for image in pair)
    long = [torch.cat([r[name].double().flatten() for name in layers]) for r in (x, y)]
    expected = float((long[0] - long[1]).norm())
    metric = DeepDistance("efficientnet_lite0", layers)
    assert metric.name == "efficientnet_lite0:stem+block3+block9:euclidean"
    assert float(metric(*pair)) == pytest.approx(expected, rel=1e-5)
    rmse = create_metric("efficientnet_lite0:stem+block3+block9:rmse")
    assert float(rmse(*pair)) == pytest.approx(expected / math.sqrt(long[0].numel()), rel=1e-5)


def golden_rows():
    with (REPOSITORY / "tests/golden/scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", golden_rows(), ids=lambda r: f"{r['metric']}-{r['photograph']}")
def test_golden_values(row, photographs):
    reference = tensor(photographs[row["photograph"]])
    distorted = torch.nn.functional.avg_pool2d(reference, 3, stride=1, padding=1)
    found = float(create_metric(row["metric"])(reference, distorted))
    assert found == pytest.approx(float(row["value"]), rel=float(row["tolerance"]))


ALL = [record.name for record in METRICS]


@pytest.fixture(scope="module")
def metrics():
    return {name: create_metric(name) for name in ALL}


@pytest.mark.parametrize("name", ALL)
class TestContract:
    def test_it_declares_itself(self, name, metrics):
        metric = metrics[name]
        assert isinstance(metric, Metric)
        assert isinstance(metric.higher_is_better, bool)
        assert metric.range[0] < metric.range[1]
        assert metric.source
        assert metric.smallest_input >= 1

    def test_the_smallest_input_works_and_a_smaller_one_is_refused(self, name, metrics):
        metric, n = metrics[name], metrics[name].smallest_input
        x = torch.rand(1, 3, n, n, generator=torch.Generator().manual_seed(0))
        assert torch.isfinite(metric(x, 1 - x)).all()
        if n > 1:
            with pytest.raises(ImageError, match=f"at least {n} pixels") as caught:
                metric(x[..., :-1], x[..., :-1])
            assert caught.value.code == "too_small"

    @pytest.mark.parametrize("wrong", ["reference", "distorted"])
    def test_values_out_of_range_are_refused_unless_trusted(self, name, wrong, metrics, pair):
        images = dict(zip(("reference", "distorted"), pair, strict=True))
        images[wrong] = images[wrong] * 2 - 1
        with pytest.raises(ImageError, match=rf"{wrong}.*\(x \+ 1\) / 2"):
            metrics[name](**images)
        trusting = create_metric(name, check="off")
        assert trusting(**images).shape == (1,)

    def test_an_enclosing_autocast_changes_nothing(self, name, metrics, pair):
        plain = metrics[name](*pair)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(metrics[name](*pair), plain)

    def test_unlike_sizes_are_refused(self, name, metrics, pair):
        with pytest.raises(ImageError, match=r"320x256 .* 319x256"):
            metrics[name](pair[0], pair[1][..., :-1])

    def test_zero_and_constant_images_give_numbers(self, name, metrics):
        black, white = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
        for x, y in ((black, white), (black, black), (white, white)):
            assert not torch.isnan(metrics[name](x, y)).any()


def test_a_wrong_check_is_refused():
    with pytest.raises(ValueError, match="expected 'error' or 'off'"):
        create_metric("psnr", check="warn")


@settings(deadline=None, max_examples=12)
@given(st.data())
def test_identity_symmetry_batch_and_order(data):
    metric = shared_default()
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    count = data.draw(st.integers(1, 4))
    size = (count, 3, data.draw(st.integers(32, 80)), data.draw(st.integers(32, 80)))
    x, y = (torch.rand(size, generator=generator) for _ in range(2))
    values = metric(x, y)
    assert torch.equal(metric(x, x), torch.zeros(count))
    assert torch.allclose(metric(y, x), values, rtol=1e-5)
    single = torch.cat([metric(x[i : i + 1], y[i : i + 1]) for i in range(count)])
    assert torch.allclose(single, values, rtol=1e-6)
    order = torch.randperm(count, generator=generator)
    assert torch.allclose(metric(x[order], y[order]), values[order], rtol=1e-6)
    assert torch.allclose(metric(x[:1], y), metric(x[:1].expand_as(y), y), rtol=1e-6)


_default = None


def shared_default():
    global _default
    _default = _default or create_metric("default")
    return _default


def test_gradients_reach_the_distorted_image_alone(pair):
    metric = shared_default()
    reference = pair[0][..., :64, :64].repeat(2, 1, 1, 1)
    distorted = torch.cat([reference[:1], pair[1][..., :64, :64]]).requires_grad_()
    values = metric(reference, distorted)
    values.sum().backward()
    assert values[0] == 0
    assert bool(torch.isfinite(distorted.grad).all())
    assert torch.equal(distorted.grad[0], torch.zeros_like(distorted.grad[0]))
    assert float(distorted.grad[1].abs().max()) > 0
    # A step against the gradient comes nearer.
    closer = (distorted - 0.01 * distorted.grad / distorted.grad.abs().max()).clamp(0, 1).detach()
    assert metric(reference, closer)[1] < values[1]


def test_more_noise_is_worse(photographs):
    for photograph in photographs.values():
        reference = tensor(photograph)
        noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(1))
        values = [
            float(shared_default()(reference, (reference + s * noise).clamp(0, 1)))
            for s in (0.01, 0.03, 0.1, 0.3)
        ]
        assert values == sorted(values)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_lower_precision_stays_near(pair, dtype, bound):
    single = float(shared_default()(*pair))
    value = create_metric("default").to(dtype)(*pair)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(single, rel=bound)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_agrees(pair):
    metric = create_metric("default", device="cuda")
    value = float(metric(*(image.cuda() for image in pair)))
    assert value == pytest.approx(float(shared_default()(*pair)), rel=1e-3)
    with pytest.raises(ImageError, match="different devices"):
        metric(*pair)


def test_no_layer_is_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        DeepDistance("efficientnet_lite0", [])
