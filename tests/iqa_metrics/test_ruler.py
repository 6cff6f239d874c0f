"""A metric inside a model measures the same, whatever happens to the model."""

import copy
import itertools

import pytest
import torch
from processes import WRAPPINGS, sharded, train_sharded
from seeded import trunk
from torch import distributed, multiprocessing, nn
from torch.ao.quantization import quantize_dynamic
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import weight_norm
from torch.optim.swa_utils import AveragedModel

from iqa_metrics import LPIPS, DeepDistance, FeatureReadouts, create_metric
from iqa_metrics.torchmetrics import ImageQuality

WEIGHTS = {"stem": [float(n % 5) for n in range(32)]}
MADE = {
    "default": lambda: create_metric("default"),
    "ssim": lambda: create_metric("ssim"),
    "lpips": lambda: LPIPS("alex", calibrated=False, trunk=trunk("alexnet")),
    "weighted": lambda: DeepDistance(
        "efficientnet_lite0", "stem", "weighted_euclidean", channel_weights=WEIGHTS
    ),
    "readouts": lambda: FeatureReadouts("efficientnet_lite0", {"block3": ["rmse"]}),
    "adapter": lambda: ImageQuality("default"),
}


class Model(nn.Module):
    """What people train: a layer of their own, and a metric as its loss."""

    def __init__(self, metric=None):
        super().__init__()
        self.own = nn.Conv2d(3, 3, 3, padding=1)
        if metric is not None:
            self.loss = metric

    def forward(self, x):
        return self.own(x)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, 3, 64, 64, generator=generator)


@pytest.fixture(scope="module")
def made():
    return {kind: make() for kind, make in MADE.items()}


def measured(metric, images):
    """The value as a number that is equal only to the bit."""
    if isinstance(metric, ImageQuality):
        return float(metric.metric(*images))
    value = metric(*images)
    return float(value["block3"]["rmse"] if isinstance(value, dict) else value)


def trained(model):
    model.requires_grad_(True).train()
    step = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        step.zero_grad()
        model(torch.rand(1, 3, 8, 8)).sum().backward()
        step.step()
    return model


def initialised(model):
    def init(module):
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            nn.init.constant_(tensor, 0.5)

    return model.apply(init)


def averaged(model):
    average = AveragedModel(model, use_buffers=True)
    average.update_parameters(initialised(copy.deepcopy(model)))
    return average.module


def in_a_group(wrapped):
    """Train a model that is wrapped for several processes, in a group of this one."""

    def happening(model):
        store = distributed.HashStore()
        distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        try:
            # Its layer is replaced by a shard, and may be gone after the group is.
            return trained(wrapped(model)) and model
        finally:
            distributed.destroy_process_group()

    return happening


def parametrized(model):
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    for module in list(model.modules()):
        if isinstance(getattr(module, "weight", None), nn.Parameter):
            weight_norm(module)
            parametrize.register_parametrization(module, "bias", Doubled())
    return model


def pruned(model):
    parts = [(m, "weight") for m in model.modules() if "weight" in m._parameters]
    prune.global_unstructured(parts, prune.L1Unstructured, amount=0.5)
    return model


def compiled(model):
    model.compile(backend="eager")
    model(torch.rand(1, 3, 8, 8))
    return model


HAPPENINGS = {
    "trained": trained,
    "initialised": initialised,
    "half": lambda model: model.half(),
    "bfloat16": lambda model: model.to(torch.bfloat16),
    "double": lambda model: model.double(),
    "channels last": lambda model: model.to(memory_format=torch.channels_last),
    "empty": lambda model: model.to_empty(device="cpu"),
    "shared": lambda model: model.share_memory(),
    "copied": copy.deepcopy,
    "averaged": averaged,
    "data parallel": lambda model: DataParallel(model).module,
    "distributed": in_a_group(DistributedDataParallel),
    "sharded": in_a_group(sharded("fsdp")),
    "fully sharded": in_a_group(sharded("fully_shard")),
    "parametrized": parametrized,
    "pruned": pruned,
    "quantised": lambda model: quantize_dynamic(model, {nn.Linear, nn.Conv2d}),
    "compiled": compiled,
    "reloaded": lambda model: model.load_state_dict(initialised(Model()).state_dict()) and model,
    "assigned": lambda model: (
        model.load_state_dict(initialised(Model()).state_dict(), assign=True) and model
    ),
}


@pytest.mark.parametrize(
    ("kind", "happening"),
    [
        *itertools.product(("default", "weighted"), HAPPENINGS),
        *itertools.product(
            ("ssim", "lpips", "readouts", "adapter"), ("trained", "initialised", "half")
        ),
    ],
)
def test_a_value_stays_to_the_bit(kind, happening, made, images):
    expected = measured(made[kind], images)
    model = HAPPENINGS[happening](Model(copy.deepcopy(made[kind])))
    assert measured(model.loss, images) == expected
    if kind == "default":
        y = images[1].clone().requires_grad_()
        model.loss(images[0], y).sum().backward()
        assert float(y.grad.abs().sum()) > 0


@pytest.mark.parametrize("kind", MADE)
def test_checkpoints_do_not_know_of_it(kind, made):
    plain, with_it = Model(), Model(made[kind])
    other = Model(made["ssim" if kind == "default" else "default"])
    states = [one.state_dict() for one in (plain, with_it, other)]
    assert all(set(state) == {"own.weight", "own.bias"} for state in states)
    assert len(list(with_it.parameters())) == 2
    for model in (plain, with_it, other):
        for state in states:
            model.load_state_dict(state)


def test_learned_weights_are_saved_if_asked_for(images):
    def make(values):
        return DeepDistance(
            *("efficientnet_lite0", "stem", "weighted_euclidean"),
            channel_weights={"stem": values},
            persistent=True,
        )

    first, second = make(WEIGHTS["stem"]), make([1.0] * 32)
    state = first.state_dict()
    assert [tuple(tensor.shape) for tensor in state.values()] == [(32,)]
    assert float(second(*images)) != float(first(*images))
    second.load_state_dict(state)
    assert float(second(*images)) == float(first(*images))
    Model(second).half()
    assert float(second(*images)) == float(first(*images))


def test_precision_is_changed_by_asking_the_metric_itself(images):
    metric = create_metric("default")
    expected = float(metric(*images))
    wide = metric.double()(*(image.double() for image in images))
    assert wide.dtype == torch.float64
    assert {tensor.dtype for tensor in metric.held() if tensor.is_floating_point()} == {
        torch.float64
    }
    assert float(wide) == pytest.approx(expected, rel=1e-5)
    assert float(metric.to(torch.bfloat16)(*images)) == pytest.approx(expected, rel=0.1)
    assert float(metric.float()(*images)) == pytest.approx(expected, rel=0.02)  # rounded before


def test_calibrations_keep_their_precision():
    generator = torch.Generator().manual_seed(0)
    weighted = DeepDistance(
        *("efficientnet_lite0", "stem", "weighted_euclidean"),
        channel_weights={"stem": torch.rand(32, generator=generator)},
    )
    before = weighted.channel_weights["stem"].clone()
    assert torch.equal(weighted.half().channel_weights["stem"], before)


@pytest.mark.slow
def test_two_processes_measure_as_one(made, images, tmp_path):
    """A step of training shards a model's own layer, but not its metrics."""
    model = Model()
    model.losses = nn.ModuleList(made[kind] for kind in ("default", "weighted", "ssim", "adapter"))
    expected = [measured(metric, images) for metric in model.losses]
    arguments = (str(tmp_path / "store"), torch.get_num_threads(), model, measured, images)
    with multiprocessing.Manager() as manager:
        found = manager.dict()
        multiprocessing.spawn(train_sharded, args=(*arguments, found), nprocs=2)
        results = dict(found)
    assert len(results) == 2 * len(WRAPPINGS)
    for values, keys in results.values():
        assert values == expected
        assert keys == ["own.bias", "own.weight"]
