"""Batches: a reference passes once, sizes are kept apart, and pairs fail independently."""

import numpy as np
import pytest
import torch
from material import encoded, tensor

from iqa_metrics import MSE, DeepDistance, Pair, create_metric, score, score_pairs
from iqa_metrics.io import readahead
from iqa_metrics.io.readahead import WINDOW, LoadedPair, Part
from iqa_metrics.metrics.contract import Metric
from iqa_metrics.scoring.batches import BatchScorer

SIZES = [(32, 48), (48, 32), (64, 64)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photographs):
    """Cut-outs of photographs, as PNG and as JPEG, of three sizes in turn."""
    folder = tmp_path_factory.mktemp("cutouts")
    for number in range(30):
        source = photographs[["astronaut", "coffee", "cat"][number % 2]]
        height, width = SIZES[number % 3]
        pixels = source[4 * number :][:height, 3 * number :][:, :width]
        (folder / f"{number}.png").write_bytes(encoded(pixels))
        (folder / f"{number}.jpg").write_bytes(encoded(pixels, "JPEG", quality=20))
    return folder


class Counting(MSE):
    """Counts its passes and its cached references."""

    def __init__(self):
        super().__init__()
        self.passes, self.remembered = [], []

    def compare(self, reference, distorted):
        self.passes.append((len(reference), len(distorted), tuple(distorted.shape[-2:])))
        return super().compare(reference, distorted)

    def remember(self, reference):
        self.remembered.append(tuple(reference.shape[-2:]))
        return super().remember(reference)


def test_a_reference_passes_once_through_all_windows(folder):
    count = 2 * WINDOW + 7
    metric = Counting()
    pairs = [Pair("0.png", f"{3 * (n % 10)}.jpg", folder) for n in range(count)]
    rows = list(score_pairs(pairs, {"mse": metric}))
    assert metric.remembered == [SIZES[0]]
    assert [passed[:2] for passed in metric.passes] == [(1, WINDOW), (1, WINDOW), (1, 7)]
    expected = [score(folder / "0.png", folder / p.distorted, "mse") for p in pairs[:10]]
    assert [row.value for row in rows[:10]] == pytest.approx(expected, rel=1e-6)
    assert [row.value for row in rows[10:20]] == pytest.approx(expected, rel=1e-6)


def test_a_reference_is_freed_when_another_comes(folder, monkeypatch):
    alive, most = set(), 0
    opened, closed = Metric.reference, type(create_metric("mse").reference(torch.zeros(1, 3, 8, 8)))
    close = closed.close

    def reference(self, image):
        nonlocal most
        shared = opened(self, image)
        alive.add(id(shared))
        most = max(most, len(alive))
        return shared

    def forget(self):
        alive.discard(id(self))
        close(self)

    monkeypatch.setattr(Metric, "reference", reference)
    monkeypatch.setattr(closed, "close", forget)
    pairs = [Pair(f"{n // 30}.png", f"{n // 30}.jpg", folder) for n in range(300)]
    rows = list(score_pairs(pairs, {"mse": create_metric("mse")}))
    assert not any(row.error for row in rows)
    assert (most, len(alive)) == (1, 0)


def test_only_pairs_of_the_same_size_share_a_batch(folder):
    metric = Counting()
    pairs = [Pair(f"{n}.png", f"{n}.jpg", folder) for n in range(30)]
    # Two share a reference, and stay out of the batches.
    pairs += [Pair("0.png", "3.jpg", folder), Pair("0.png", "6.jpg", folder)]
    rows = list(score_pairs(pairs, {"mse": metric}))
    assert sorted(metric.passes) == [
        *((1, 3, SIZES[0]), (9, 9, SIZES[0]), (10, 10, SIZES[1]), (10, 10, SIZES[2]))
    ]
    expected = [score(folder / p.reference, folder / p.distorted, "mse") for p in pairs]
    assert [row.value for row in rows] == pytest.approx(expected, rel=1e-6)


def test_networks_give_the_values_of_single_pairs(folder):
    names = [(n, n) for n in range(9)] + [(0, 3), (0, 6), (4, 1), (4, 7), (5, 5)]
    pairs = [Pair(f"{r}.png", f"{d}.jpg", folder) for r, d in names]
    metrics = {"default": create_metric("default"), "ssim": create_metric("ssim")}
    rows = list(score_pairs(pairs, metrics))
    expected = [
        score(folder / p.reference, folder / p.distorted, metrics[name])
        for p in pairs
        for name in metrics
    ]
    assert [row.metric for row in rows] == ["default", "ssim"] * len(pairs)
    assert [row.value for row in rows] == pytest.approx(expected, rel=1e-4)


def test_a_run_from_a_later_window_gives_the_same_bits(folder, monkeypatch):
    window, count = 16, 48
    monkeypatch.setattr(readahead, "WINDOW", window)
    # Each window begins with a reference that goes on from the one before it.
    names = [(n // 12 % 3 * 3 + n % 5 % 2, n % 10 * 3 + n % 5 % 2) for n in range(count)]
    pairs = [Pair(f"{r}.png", f"{d}.jpg", folder) for r, d in names]
    assert all(pairs[n].reference in {p.reference for p in pairs[n - 4 : n]} for n in (16, 32))
    metrics = {"default": create_metric("default")}
    whole = [row.value for row in score_pairs(pairs, metrics, workers=1)]
    for start in (window, 2 * window):
        assert [row.value for row in score_pairs(pairs[start:], metrics)] == whole[start:]


class Moody(MSE):
    """Fails on bright images, and on any batch that contains one."""

    def compare(self, reference, distorted):
        if bool((distorted.mean(dim=(1, 2, 3)) > 0.9).any()):
            raise RuntimeError(f"out of patience with {len(distorted)}")
        return super().compare(reference, distorted)


@pytest.mark.parametrize("shared", [True, False])
def test_each_pair_of_a_failed_batch_has_its_own_reason(shared):
    dark, bright = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    rows = [
        LoadedPair(Pair("r", str(n)), "r" if shared else str(n), (dark, bright if n == 2 else dark))
        for n in range(5)
    ]
    scores = BatchScorer({"moody": Moody(), "mse": MSE()}).score(Part(rows, None))
    assert [row.distorted for row in scores[::2]] == list("01234")
    assert [row.value for row in scores] == [0, 0, 0, 0, None, 1, 0, 0, 0, 0]
    assert [row.error for row in scores if row.error] == [
        "failed: RuntimeError: out of patience with 1"
    ]


def test_images_too_small_for_one_metric_are_scored_by_the_other(folder, tmp_path):
    tiny = np.zeros((8, 8, 3), np.uint8)
    (tmp_path / "tiny.png").write_bytes(encoded(tiny))
    small = Pair("tiny.png", "tiny.png", tmp_path)
    pairs = [small, Pair("0.png", "0.jpg", folder), small]
    rows = list(score_pairs(pairs, {"ssim": create_metric("ssim"), "mse": create_metric("mse")}))
    assert [row.error.split(":")[0] for row in rows] == ["too_small", "", "", "", "too_small", ""]
    assert "8x8 is too small for ssim" in rows[0].error


def test_no_metrics_give_no_rows(folder):
    assert list(score_pairs([Pair("0.png", "0.jpg", folder)], {})) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_metrics_on_a_gpu_and_on_the_cpu_share_a_table(folder):
    pairs = [Pair(f"{n % 3}.png", f"{n % 6}.jpg", folder) for n in range(100)]
    metrics = {name: create_metric("default", device=name) for name in ("cpu", "cuda")}
    rows = list(score_pairs(pairs, metrics))
    on_cpu, on_gpu = rows[::2], rows[1::2]
    assert [row.value for row in on_gpu] == pytest.approx([r.value for r in on_cpu], rel=1e-3)
    assert [row.error[:10] for row in on_gpu] == [row.error[:10] for row in on_cpu]


def test_grad_mode_is_the_callers_own(folder):
    rows = score_pairs([Pair("0.png", "0.jpg", folder)] * 3, {"mse": create_metric("mse")})
    next(rows)
    assert torch.is_grad_enabled()
    rows.close()


def test_caches_of_networks_are_freed(folder, photographs):
    metric = create_metric("default")
    assert isinstance(metric, DeepDistance)
    image = tensor(photographs["cat"])
    scorer = BatchScorer({"default": metric})
    rows = [LoadedPair(Pair("r", "d"), "r", (image, image)) for _ in range(2)]
    scorer.score(Part(rows, "r"))
    assert scorer._kept is not None
    scorer.score(Part(rows, "other"))
    assert scorer._kept is None
    scorer.score(Part(rows, "r"))
    scorer.close()
    assert scorer._kept is None
