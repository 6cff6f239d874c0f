"""Memory budgets and batches in chunks: what fits, what is halved, and equal values."""

import gc
import weakref

import pytest
import torch
from seeded import trunk
from torch import nn

from iqa_metrics import LPIPS, DeepDistance, FeatureReadouts, ImageError, create_metric
from iqa_metrics.compute.memory import CPU_BYTES, MemoryBudget, in_chunks, is_out_of_memory

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(1, 3, 72, 88, generator=generator)
    noise = torch.randn(7, 3, 72, 88, generator=generator)
    return reference, (reference + 0.1 * noise).clamp(0, 1)


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (None, MemoryBudget()),
        (2**31, MemoryBudget(bytes=2**31)),
        ("2GiB", MemoryBudget(bytes=2**31)),
        (" 1.5 MiB ", MemoryBudget(bytes=3 * 2**19)),
        ("500 MB", MemoryBudget(bytes=500_000_000)),
        ("4096", MemoryBudget(bytes=4096)),
        (0.25, MemoryBudget(share=0.25)),
        ("0.25", MemoryBudget(share=0.25)),
    ],
)
def test_a_budget_is_read(memory, expected):
    assert MemoryBudget.parse(memory) == expected


@pytest.mark.parametrize(
    "memory", [0, -1, 0.0, 1.5, float("nan"), "", "2 GiBs", "two", "-3", True, "0", [1], "1e9 MB"]
)
def test_invalid_budgets_are_refused(memory):
    with pytest.raises(ValueError, match="memory: expected bytes"):
        MemoryBudget.parse(memory)


def test_the_available_memory_of_a_cpu():
    assert MemoryBudget().available(CPU) == CPU_BYTES
    assert MemoryBudget(bytes=5).available(CPU) == 5
    assert MemoryBudget(share=0.5).available(CPU) > CPU_BYTES


class TestChunks:
    def test_chunks_cover_the_batch_in_order(self):
        seen = []

        def run(first, last):
            seen.append((first, last))
            return torch.arange(first, last)

        assert in_chunks(8, 5, run, CPU).tolist() == list(range(8))
        assert in_chunks(7, 3, run, CPU).tolist() == list(range(7))
        assert seen == [(0, 4), (4, 8), (0, 3), (3, 6), (6, 7)]

    def test_the_chunk_is_halved_until_it_fits_and_stays_small(self):
        seen = []

        def run(first, last):
            seen.append(last - first)
            if last - first > 2:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return torch.arange(first, last)

        assert in_chunks(9, 9, run, CPU).tolist() == list(range(9))
        assert seen == [9, 5, 3, 2, 2, 2, 2, 1]

    def test_an_image_that_does_not_fit_alone_is_an_error(self):
        def run(first, last):
            raise MemoryError("no")

        with pytest.raises(MemoryError):
            in_chunks(4, 4, run, CPU)

    def test_any_other_error_is_not_tried_again(self):
        calls = []

        def run(first, last):
            calls.append(first)
            raise RuntimeError("shapes do not match")

        with pytest.raises(RuntimeError, match="shapes"):
            in_chunks(4, 4, run, CPU)
        assert calls == [0]

    def test_torchs_out_of_memory_errors_are_recognised(self):
        with pytest.raises(RuntimeError) as caught:
            torch.empty(2**60)
        assert is_out_of_memory(caught.value)
        assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes"))


SPECS = [
    *("default", "psnr", "ssim", "mse"),
    "efficientnet_lite0:stem+block9:gram:joint",
    "efficientnet_lite0:stem+block9:lpips:sum",
]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("memory", [1, "3MiB"])
def test_chunks_change_no_value(spec, memory, images):
    reference, distorted = images
    whole = create_metric(spec, memory="4GiB")
    cut = create_metric(spec, memory=memory)
    with torch.no_grad():
        expected = whole(reference.expand_as(distorted), distorted)
        assert torch.allclose(cut(reference.expand_as(distorted), distorted), expected, rtol=1e-6)
        assert torch.allclose(cut(reference, distorted), expected, rtol=1e-6)
        if whole.has_map:
            maps = cut(reference, distorted, map=True)
            assert torch.allclose(maps, whole(reference, distorted, map=True), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("spec", [*SPECS, "ms_ssim"])
def test_a_shared_reference_gives_the_same_values(spec, images):
    size = 176 if spec == "ms_ssim" else 72
    reference, distorted = (torch.nn.functional.interpolate(i, size=(size, size)) for i in images)
    metric = create_metric(spec)
    with torch.no_grad():
        expected = metric(reference.expand_as(distorted), distorted)
        with metric.reference(reference) as shared:
            found = torch.cat([shared.score(distorted[:2]), shared.score(distorted[2:])])
    assert torch.allclose(found, expected, rtol=1e-6)


def counted(module):
    calls = []

    def hook(_, inputs, __):
        if not inputs[0].is_meta:  # the dry run computes nothing
            calls.append(len(inputs[0]))

    return calls, module.register_forward_hook(hook)


@pytest.mark.parametrize("through", ["call", "session"])
def test_the_reference_passes_through_the_network_once(through, images):
    reference, distorted = images
    metric = create_metric("default", memory=1)
    calls, handle = counted(metric.extractor.network.get_submodule("stem")[0])
    with torch.no_grad(), handle:
        if through == "call":
            metric(reference, distorted)
        else:
            with metric.reference(reference) as shared:
                for image in distorted.split(3):
                    shared.score(image)
    assert len(calls) == 1 + len(distorted)  # with memory for one, each is a pass


def test_the_memory_of_a_reference_is_freed(images):
    reference, distorted = images
    metric = create_metric("default")
    with metric.reference(reference) as shared:
        shared.score(distorted)
        kept = weakref.ref(shared._remembered[False].responses["block14"])
        gc.collect()
        assert kept() is not None
    gc.collect()
    assert kept() is None
    with pytest.raises(RuntimeError, match="closed; make a new one"):
        shared.score(distorted)


def test_only_the_requested_layers_are_kept(images):
    metric = create_metric("efficientnet_lite0:block3+block9:rmse")
    assert set(metric.remember(images[0]).responses) == {"block3", "block9"}


def test_gradients_flow_to_distorted_images_of_a_shared_reference(images):
    reference, distorted = images
    metric = create_metric("default", memory=1)
    y = distorted[:3].clone().requires_grad_()
    with torch.inference_mode(), metric.reference(reference) as shared:
        first = shared.score(distorted[:3])
        with torch.inference_mode(False), torch.enable_grad():
            values = shared.score(y)
            values.sum().backward()
    expected = distorted[:3].clone().requires_grad_()
    metric(reference, expected).sum().backward()
    assert torch.allclose(values.detach(), first.clone(), rtol=1e-6)
    near_zero = 1e-5 * float(expected.grad.abs().max())
    assert torch.allclose(y.grad, expected.grad, rtol=1e-4, atol=near_zero)


def test_a_reference_is_checked(images):
    reference, distorted = images
    metric = create_metric("default")
    with pytest.raises(ImageError, match="expected one image"):
        metric.reference(distorted)
    with pytest.raises(ImageError, match="looks like 0-255"):
        metric.reference(reference * 255)
    with metric.reference(reference) as shared, pytest.raises(ImageError, match="same size"):
        shared.score(distorted[..., :64])
    with (
        create_metric("psnr").reference(reference) as shared,
        pytest.raises(ValueError, match="no map"),
    ):
        shared.score(distorted, map=True)


class FillsUp(nn.Module):
    """A stem that runs out of memory if a batch is too large."""

    def __init__(self, stem, most):
        super().__init__()
        self.stem, self.most, self.seen = stem, most, []

    def forward(self, x):
        self.seen.append(len(x))
        if len(x) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self.stem(x)


def test_a_metric_halves_its_chunks_when_memory_runs_out(images):
    reference, distorted = images
    metric = create_metric("default", memory="4GiB")
    expected = metric(reference, distorted)
    metric.extractor.network.stem = FillsUp(metric.extractor.network.stem, most=4)
    found = metric(reference.expand_as(distorted), distorted)
    assert torch.allclose(found, expected, rtol=1e-6)
    assert metric.extractor.network.stem.seen == [14, 8, 4, 4, 4, 2]


def test_many_readouts_in_chunks(images):
    reference, distorted = images
    wanted = {"stem": ["rmse", "lpips", "channel_std"], "block9": ["gram", "pooled"]}
    whole = FeatureReadouts("efficientnet_lite0", wanted).configure(memory="4GiB")
    cut = FeatureReadouts("efficientnet_lite0", wanted).configure(memory=1)
    for layer, of_layer in cut(reference, distorted).items():
        for name, values in of_layer.items():
            expected = whole(reference.expand_as(distorted), distorted)[layer][name]
            assert torch.allclose(values, expected, rtol=1e-6), (layer, name)


def test_the_widest_place_is_found_without_computing():
    layers = ["relu1_1", "relu5_3"]
    extractor = DeepDistance("vgg16", layers, trunk=trunk("vgg16")).extractor
    at_first = extractor.widest(64, 96, ["relu1_1"])
    assert at_first == 4 * 64 * 96 * (64 + 64)  # the activation reads and writes 64 channels
    assert extractor.widest(64, 96, ["relu5_3"]) == at_first


def test_a_network_that_refuses_the_dry_run_still_works(images):
    class Picky(nn.Module):
        def forward(self, x):
            if x.is_meta:
                raise NotImplementedError
            return x

    metric = LPIPS("alex", calibrated=False, trunk=trunk("alexnet"))
    metric.extractor.network[1] = Picky()
    reference, distorted = images
    assert metric.extractor.widest(72, 88, ["relu5"]) == 0
    assert metric(reference, distorted).shape == (7,)


@pytest.mark.parametrize("options", [{"memory": "lots"}, {"precision": "float8"}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        create_metric("default", **options)
