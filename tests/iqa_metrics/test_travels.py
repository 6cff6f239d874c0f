"""Everything that measures can be sent to another process, and measures the same there."""

import io
import multiprocessing
import pickle

import cloudpickle
import joblib
import pytest
import torch
from loading import Scored
from safetensors.torch import save_file
from seeded import trunk
from study_material import small_network, small_plan
from travelling import all_values_of

from iqa_metrics import (
    LPIPS,
    METRICS,
    Column,
    DeepDistance,
    FeatureReadouts,
    LayerTable,
    backbone,
    create_metric,
    needs,
    read_record,
)
from iqa_metrics.backbones import BACKBONES
from iqa_metrics.readouts.quantities import CHANNEL_SQUARES
from iqa_metrics.torchmetrics import ImageQuality
from iqa_metrics.weights.files import sha256_of

SMALL = [one.name for one in METRICS if needs(one.name).backbone in (None, "efficientnet_lite0")]


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, 3, 176, 176, generator=generator)
    return images[0], images[1]


@pytest.fixture(scope="module")
def things(tmp_path_factory, images):
    """Objects of all kinds by name, but the large networks."""
    folder = tmp_path_factory.mktemp("travelling")
    network = trunk("squeezenet1_1")
    weights = {"stem": [float(n % 5) for n in range(32)]}
    begun = folder / "alexnet-begun.safetensors"
    save_file({f"features.{k}": v for k, v in trunk("alexnet")[:3].state_dict().items()}, begun)
    (folder / "mine.toml").write_text(
        'name = "alexnet.begun"\nnetwork = "alexnet"\ngoal = "none"\nuntil = "relu1"\n'
        f'weights = {{file = "{begun.name}", sha256 = "{sha256_of(begun)}"}}\n'
        "scaling = {peak = 1, mean = [0.5, 0.5, 0.5], std = [1, 1, 1]}\n"
    )
    return {
        **{name: create_metric(name) for name in SMALL},
        "lpips": LPIPS("squeeze", trunk=network),
        "own trunk": DeepDistance("squeezenet1_1", ["relu1", "fire3"], "gram", trunk=network),
        "weighted": DeepDistance(
            "efficientnet_lite0", "stem", "weighted_euclidean", channel_weights=weights
        ),
        "bfloat16": create_metric("default", precision="bfloat16"),
        "readouts": FeatureReadouts("efficientnet_lite0", {"stem": ["rmse", "channel_std"]}),
        "table": LayerTable("efficientnet_lite0", [Column("stem", CHANNEL_SQUARES)]),
        "shared": create_metric("ssim").reference(images[0][..., :64, :64]),
        "own record": small_network(),
        "torchvision": backbone("squeezenet1_1.untrained"),
        "timm": backbone("timm:mobilenetv3_small_050.lamb_in1k").untrained(),
        "toml": read_record(folder / "mine.toml"),
        "plan": small_plan(folder),
        # Processes that are spawned are not sent these: torchmetrics takes long to import.
        "adapter": ImageQuality("ssim"),
        "each": ImageQuality("default", reduction="none"),
    }


@pytest.fixture(scope="module")
def large(make):
    """The metrics of networks that are large or missing, with seeded ones in their place."""
    return {record.name: make(record.name) for record in METRICS if record.name not in SMALL}


@pytest.fixture(scope="module")
def expected(things, images):
    return measured_by_copies(things, images)


@pytest.fixture(scope="module")
def expected_of_all(expected, large, images):
    return {**expected, **measured_by_copies(large, images)}


def measured_by_copies(things, images):
    """Return the values of copies: what accumulates is sent as it was."""
    return all_values_of(pickle.loads(pickle.dumps(things)), images)  # noqa: S301


def test_pickles(things, images, expected):
    assert all_values_of({"default": things["default"]}, images)["default"] == expected["default"]
    assert all_values_of(pickle.loads(cloudpickle.dumps(things)), images) == expected  # noqa: S301


def test_spawned(things, images, expected):
    """One process measures with everything that came in one parcel."""
    sent = {name: thing for name, thing in things.items() if not isinstance(thing, ImageQuality)}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(all_values_of, (sent, images, torch.get_num_threads()))
    assert found == {name: expected[name] for name in sent}


@pytest.mark.slow
def test_another_process_measures_with_all(things, large, images, expected_of_all):
    has_forkserver = "forkserver" in multiprocessing.get_all_start_methods()
    method = "forkserver" if has_forkserver else "spawn"
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.apply(all_values_of, (things | large, images, torch.get_num_threads()))
    assert found == expected_of_all


@pytest.mark.slow
def test_joblib(things, images, expected):
    run = joblib.delayed(all_values_of)
    names = list(things)
    halves = [{name: things[name] for name in part} for part in (names[::2], names[1::2])]
    parts = joblib.Parallel(n_jobs=2)(run(half, images, torch.get_num_threads()) for half in halves)
    assert {**parts[0], **parts[1]} == expected


@pytest.mark.slow
def test_workers_of_a_data_loader(things, images):
    several = torch.cat([images[1], images[1].flip(0), images[0]])
    metrics = [things["default"], things["ssim"]]
    loader = torch.utils.data.DataLoader(
        Scored(metrics, (images[0], several)),
        batch_size=None,
        num_workers=1,
        multiprocessing_context="spawn",
    )
    values = torch.stack(list(loader), dim=1)
    for of_metric, metric in zip(values, metrics, strict=True):
        alone = torch.cat([metric(images[0], one[None]) for one in several])
        # The worker computes in one thread, which may round otherwise than two.
        assert torch.allclose(of_metric, alone, rtol=1e-5, atol=1e-6)


def test_saved_whole(things, images, expected):
    """torch.load refuses objects, which could run any code, unless they are trusted."""
    for name in ("default", "ssim", "weighted", "adapter"):
        file = io.BytesIO()
        torch.save(things[name], file)
        file.seek(0)
        with pytest.raises(pickle.UnpicklingError):
            torch.load(file, weights_only=True)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        assert all_values_of({name: loaded}, images)[name] == expected[name]


def test_a_compiled_metric_travels_uncompiled():
    metric = create_metric("ssim", compile=True)
    metric.compiled.warm_ups["size"] = 1.0
    copy = pickle.loads(pickle.dumps(metric))  # noqa: S301
    assert copy.compiled is not None
    assert not copy.compiled.warm_ups


def test_a_used_metric_is_no_larger_than_a_new_one(images):
    """What convolutions have worked out for themselves stays at home."""
    metric = LPIPS("alex", calibrated=False, trunk=trunk("alexnet"))
    before = len(pickle.dumps(metric))
    value = metric(*images)
    used = pickle.dumps(metric)
    assert len(used) < 1.01 * before
    assert torch.equal(pickle.loads(used)(*images), value)  # noqa: S301


def test_a_shared_reference_keeps_what_it_remembers(images):
    metric = create_metric("default")
    with metric.reference(images[0]) as shared:
        value = shared.score(images[1])
        copy = pickle.loads(pickle.dumps(shared))  # noqa: S301
    assert torch.equal(copy.score(images[1]), value)
    closed = pickle.loads(pickle.dumps(shared))  # noqa: S301
    with pytest.raises(RuntimeError, match="closed"):
        closed.score(images[1])


def test_all_records_of_the_catalogue():
    for record in BACKBONES:
        copy = pickle.loads(pickle.dumps(record))  # noqa: S301
        assert (copy.name, copy.scaling, copy.weights) == (
            record.name,
            record.scaling,
            record.weights,
        )
