"""Metrics as losses: what is recorded, compiled and transformed, with the values of plain calls."""

import math
import shutil
from functools import partial

import pytest
import torch
from seeded import trunk
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap
from torch.utils.checkpoint import checkpoint

from iqa_metrics import (
    LPIPS,
    DeepDistance,
    FeatureExtractor,
    FeatureReadouts,
    all_metrics,
    create_metric,
)

RECORDS = {record.name: record for record in all_metrics() if record.metric.differentiable}
ALL = list(RECORDS)


def each(*quick):
    """Return all metrics, of which the quick tests try some."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in ALL]


needs_a_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler"
)
COMPILES_WHOLE = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6)
"""Earlier compilers do not follow all that metrics are written with."""


@pytest.fixture(scope="module")
def metrics(make):
    made = {}

    def metric(name):
        if name not in made:
            made[name] = make(name)
        return made[name]

    return metric


@pytest.fixture
def images(name):
    """Two pairs, away from the ends of the range."""
    side = 176 if name in RECORDS and RECORDS[name].smallest_input > 64 else 64
    generator = torch.Generator().manual_seed(0)
    reference = 0.1 + 0.8 * torch.rand(2, 3, side, side + 16, generator=generator)
    noise = torch.randn(reference.shape, generator=generator)
    return reference, (reference + 0.05 * noise).clamp(0.05, 0.95)


def with_gradient(metric, reference, distorted):
    distorted = distorted.clone().requires_grad_()
    values = metric(reference, distorted)
    return values.detach(), torch.autograd.grad(values.sum(), distorted)[0]


def assert_close(found, expected, rtol=1e-4):
    """Compare gradients by their largest value: single ones may be sums that cancel."""
    scale = float(expected.abs().max())
    assert torch.allclose(found, expected, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("name", each("psnr", "ssim", "default"))
class TestEachMetric:
    def test_the_values_are_those_without_a_gradient(self, name, metrics, images):
        values, _ = with_gradient(metrics(name), *images)
        assert torch.allclose(values, metrics(name)(*images), rtol=2e-5)

    def test_both_sides_get_the_gradients_that_each_gets_alone(self, name, metrics, images):
        x, y = (image.clone().requires_grad_() for image in images)
        of_x, of_y = torch.autograd.grad(metrics(name)(x, y).sum(), (x, y))
        assert_close(of_y, with_gradient(metrics(name), *images)[1])
        x = images[0].clone().requires_grad_()
        assert_close(of_x, torch.autograd.grad(metrics(name)(x, images[1]).sum(), x)[0])

    def test_an_identical_image_has_the_best_value_and_no_gradient(self, name, metrics, images):
        metric, x = metrics(name), images[0][:1]
        values, gradient = with_gradient(metric, x, x)
        assert float(values) == RECORDS[name].identity
        assert float(gradient.abs().max()) < 1e-9
        y = x.clone().requires_grad_()
        with metric.reference(x) as shared:
            assert float(shared.score(x)) == RECORDS[name].identity
            value = shared.score(y)
            assert value.tolist() == [RECORDS[name].identity]
            value.backward()
        assert float(y.grad.abs().max()) < 1e-9

    def test_vmap_grad_and_jvp(self, name, metrics, images):
        metric, (x, y) = metrics(name), images
        values, gradient = with_gradient(metric, x, y)

        def single(y, x):
            return metric(x[None], y[None])[0]

        assert torch.allclose(vmap(single)(y, x), values, rtol=2e-5)
        assert_close(vmap(grad(single))(y, x), gradient)
        assert torch.allclose(vmap(single, in_dims=(0, None))(y, x[0])[:1], values[:1], rtol=2e-5)
        direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        slope = float((gradient * direction).sum())
        found, tangent = jvp(lambda y: metric(x, y), (y,), (direction,))
        assert torch.allclose(found, values, rtol=2e-5)
        assert float(tangent.sum()) == pytest.approx(slope, rel=1e-3)
        with forward_ad.dual_level():
            dual = metric(x, forward_ad.make_dual(y, direction))
            tangent = forward_ad.unpack_dual(dual).tangent
        assert float(tangent.sum()) == pytest.approx(slope, rel=1e-3)

    def test_checkpointing_gives_the_same_gradient(self, name, metrics, images):
        metric, (x, y) = metrics(name), images
        expected = with_gradient(metric, x, y)
        for reentrant in (False, True):
            distorted = y.clone().requires_grad_()
            values = checkpoint(metric, x, distorted, use_reentrant=reentrant)
            values.sum().backward()
            assert torch.allclose(values, expected[0], rtol=2e-5)
            assert_close(distorted.grad, expected[1])

    def test_built_in_inference_mode_it_is_a_loss_later(self, name, make, images):
        with torch.inference_mode():
            metric = make(name)
            metric(*images)
            metric.to("cpu", torch.float32)
        expected = with_gradient(make(name), *images)
        found = with_gradient(metric, *images)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])

    def test_a_loss_is_lower_for_the_better_image(self, name, metrics, images):
        metric, (x, y) = metrics(name), images
        worse = (y + 2 * (y - x)).clamp(0, 1)
        assert float(metric.loss(x, y)) < float(metric.loss(x, worse))
        single = metric.loss(x, y, reduction="none")
        assert single.shape == (2,)
        assert float(metric.loss(x, y)) == pytest.approx(float(single.mean()))
        assert float(metric.loss(x, y, reduction="sum")) == pytest.approx(float(single.sum()))
        if math.isfinite(metric.range[1] if metric.higher_is_better else metric.range[0]):
            assert float(metric.loss(x, x)) == 0


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("psnr", "eager"),
        *(pytest.param(name, "aot_eager", marks=pytest.mark.slow) for name in ALL),
    ],
)
@pytest.mark.skipif(not COMPILES_WHOLE, reason="torch before 2.6 breaks the graph")
def test_a_step_compiles_whole(name, backend, make, images):
    metric = make(name, check="off")
    expected = with_gradient(metric, *images)
    torch._dynamo.reset()
    step = torch.compile(metric, fullgraph=True, backend=backend)
    values, gradient = with_gradient(step, *images)
    assert torch.allclose(values, expected[0], rtol=1e-5)
    assert_close(gradient, expected[1])


@pytest.mark.parametrize("name", each("ssim", "lpips_alex"))
def test_the_gradient_can_be_differentiated(name, make, images):
    metric = make(name).double()
    least = RECORDS[name].smallest_input
    x, y = (image[:1, ..., : least + 2, : least + 2].double() for image in images)
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).double()

    def slope(y, **options):
        y = y.clone().requires_grad_()
        return torch.autograd.grad(metric(x, y).sum(), y, **options)[0], y

    gradient, at = slope(y, create_graph=True)
    (second,) = torch.autograd.grad((gradient * direction).sum(), at)
    # So small a step that next to no activation of a network changes sides.
    step = 1e-9
    ahead, behind = (slope(y + sign * step * direction)[0] for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    assert float((second - expected).norm() / expected.norm()) < 1e-3


def kept(metric, reference, distorted):
    """Return how many bytes a pass keeps for the gradient, and the values."""
    held = {tensor.untyped_storage().data_ptr() for tensor in metric.held()}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        values = metric(reference, distorted.clone().requires_grad_())
    return sum(found.values()), values


def test_what_is_kept_is_the_distorted_side_and_the_layers_read_of_the_other():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 2, 3, 64, 64, generator=generator)
    network = trunk("vgg16")
    metric = LPIPS("vgg", calibrated=False, trunk=network)
    size, _ = kept(metric, x, y)
    activations, read = 0, 0
    response = y
    for number, module in enumerate(network):
        response = module(response)
        if isinstance(module, torch.nn.ReLU | torch.nn.MaxPool2d):
            activations += response.nbytes
        if isinstance(module, torch.nn.MaxPool2d):
            activations += 2 * response.nbytes  # its indices, of 8 bytes each
        if str(number) in ("3", "8", "15", "22", "29"):
            read += response.nbytes
    # All activations of the distorted images, and of the references the layers that are read.
    assert size <= 1.05 * (activations + read + y.nbytes)


def test_several_gradients_at_once(make):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 2, 3, 32, 32, generator=generator)
    y.requires_grad_()
    for name in ("default", "efficientnet_lite0:stem:gram"):
        values = make(name)(x, y)
        together = torch.autograd.grad(
            values, y, torch.eye(2), is_grads_batched=True, retain_graph=True
        )[0]
        for number in range(2):
            (single,) = torch.autograd.grad(values[number], y, retain_graph=True)
            assert_close(together[number], single)


def test_many_images_have_the_kernels_of_their_reference_in_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        y = x.expand(16, -1, -1, -1).clone().requires_grad_()
        assert not create_metric("default")(x, y).any()
    finally:
        torch.set_num_threads(threads)


def test_the_other_side_is_not_recorded():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 2, 3, 64, 64, generator=generator)
    metric = create_metric("default")
    both, _ = kept(metric, x.clone().requires_grad_(), y)
    assert kept(metric, x, y)[0] < 0.55 * both


def test_no_image_passes_twice(monkeypatch):
    passed = []
    prepare = FeatureExtractor._prepare

    def counting(self, batches):
        passed.append(sum(map(len, batches)))
        return prepare(self, batches)

    monkeypatch.setattr(FeatureExtractor, "_prepare", counting)
    x, y = torch.rand(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    metric = create_metric("default")
    metric(x, y.clone().requires_grad_())
    metric(x[:1], y[:1].clone().requires_grad_())  # one image by itself would pass as two
    assert passed == [3, 3, 2]


def test_weights_of_channels_get_a_gradient_too():
    from iqa_metrics import readout

    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 2, 5, 9, 7, generator=generator)
    weights = torch.rand(5, generator=generator, dtype=torch.float64).requires_grad_()
    for name in ("weighted_euclidean", "weighted_lpips"):
        function = partial(readout(name).function, x.double(), y.double())
        assert torch.autograd.gradcheck(function, (weights,), fast_mode=True)


@pytest.mark.parametrize(
    "name", ["euclidean", "mean_absolute", "position_cosine", "lpips", "gram", "channel_std"]
)
@pytest.mark.parametrize("shape", [(1, 5, 9, 7), (3, 5, 9, 7), (3, 5), (3, 5, 11)])
def test_blocks_are_differentiated_as_one(name, shape, monkeypatch):
    from iqa_metrics import readout
    from iqa_metrics.readouts import blocks

    monkeypatch.setattr(blocks, "BLOCK", 40)
    generator = torch.Generator().manual_seed(0)
    # One reference for all, and features whose layout is not that of their blocks.
    x = torch.rand(1, *shape[1:], generator=generator, dtype=torch.float64).requires_grad_()
    y = torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
    function = readout(name).function
    assert torch.autograd.gradcheck(function, (x, y), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, y), fast_mode=True)


def test_tables_of_readouts_compile_and_are_transformed():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 2, 3, 64, 64, generator=generator)
    readouts = FeatureReadouts(
        "efficientnet_lite0", {"stem": ["rmse", "gram"], "block3": ["cosine"]}, check="off"
    )
    expected = readouts(x, y)
    found = vmap(lambda x, y: readouts(x[None], y[None]))(x, y)
    for layer, of_layer in expected.items():
        for name, values in of_layer.items():
            assert torch.allclose(found[layer][name][:, 0], values, rtol=2e-5)


@pytest.mark.slow
@needs_a_compiler
@pytest.mark.parametrize("name", ["ssim", "efficientnet_lite0:block3:rmse"])
def test_a_step_compiled_by_inductor_gives_the_same(name, make, images):
    metric = make(name, check="off")
    expected = with_gradient(metric, *images)
    torch._dynamo.reset()
    found = with_gradient(torch.compile(metric, fullgraph=COMPILES_WHOLE), *images)
    assert torch.allclose(found[0], expected[0], rtol=1e-4)
    assert_close(found[1], expected[1], rtol=1e-3)


@pytest.mark.slow
@needs_a_compiler
def test_the_default_compiles_as_one_graph():
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    metric = create_metric("default", compile=True)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 2, 3, 96, 112, generator=generator)
    with torch.no_grad():
        values = metric(x, y)
        assert torch.allclose(values, create_metric("default")(x, y), rtol=1e-4)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_a_loss_of_another_reduction_is_refused():
    grey = torch.full((1, 3, 16, 16), 0.5)
    with pytest.raises(ValueError, match="reduction: expected one of mean, sum, none"):
        create_metric("ssim").loss(grey, grey, reduction="max")


def test_values_are_not_looked_at_inside_vmap():
    # Nothing could be raised there that depends on them.
    wrong = torch.full((2, 3, 16, 16), 2.0)
    values = vmap(lambda y: create_metric("mse")(torch.zeros(1, 3, 16, 16), y[None])[0])(wrong)
    assert values.tolist() == [4.0, 4.0]


def test_several_layers_of_one_network_as_hooks_see_them():
    """A network that is no chain is visited by hooks, where another layer may be overwritten."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 1, 3, 64, 64, generator=generator)
    name, layers = "squeezenet1_1", ["relu1", "fire3", "fire9"]
    metric = DeepDistance(name, layers, "lpips", concatenation="sum", trunk=trunk(name))
    values, gradient = with_gradient(metric, x, y)
    assert torch.allclose(values, metric(x, y), rtol=2e-5)
    both = y.clone().requires_grad_()
    metric(x.clone().requires_grad_(), both).sum().backward()
    assert_close(both.grad, gradient)
