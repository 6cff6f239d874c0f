"""The scorer: a batch's requests do not disturb each other."""

import subprocess
import sys

import pytest
import torch
from material import encoded

from iqa_metrics import PSNR, create_metric, score
from iqa_torchserve.scorer import Scorer


@pytest.fixture(scope="module")
def scorer():
    return Scorer({name: create_metric(name) for name in ("default", "psnr", "ssim")})


@pytest.fixture(scope="module")
def requests_(photographs):
    return [
        {
            "reference": encoded(photograph),
            "distorted": encoded(photograph, "JPEG", quality=quality),
            **({"metric": metric} if metric else {}),
        }
        for photograph in photographs.values()
        for quality in (10, 40)
        for metric in (None, "psnr", "ssim")
    ]


def test_values_are_the_librarys_whatever_shares_the_batch(scorer, requests_):
    bad = [
        {},
        {"reference": b"", "distorted": b""},
        {**requests_[0], "metric": "nonsense"},
        {**requests_[0], "distorted": requests_[-1]["distorted"]},
    ]
    mixed = [*requests_[:5], bad[0], *requests_[5:9], *bad[1:], *requests_[9:]]
    replies = scorer.answer(mixed)
    codes = [reply.body.get("code") for reply in replies if reply.status == 400]
    assert codes == ["bad_request", "bad_image", "unknown_metric", "size_mismatch"]
    good = [reply.body for reply in replies if reply.status == 200]
    assert len(good) == len(requests_)
    for request, body in zip(requests_, good, strict=True):
        metric = request.get("metric", "default")
        expected = score(request["reference"], request["distorted"], metric)
        assert body["value"] == pytest.approx(expected, rel=1e-6)
        assert body["metric"] == metric
        assert body["higher_is_better"] == (metric != "default")
        assert set(body["versions"]) == {"iqa_metrics", "iqa_torchserve", "torch"}
    assert good[0]["sizes"]["distorted"] == {"width": 320, "height": 256}
    assert good[0]["resolved"] == "efficientnet_lite0:block14:rmse"


class Counting(PSNR):
    """Notes how many references and distorted images each comparison has."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def compare(self, reference, distorted):
        self.batches.append((len(reference), len(distorted)))
        return super().compare(reference, distorted)


def of_default(requests):
    return [{k: v for k, v in r.items() if k != "metric"} for r in requests]


def test_a_batch_takes_one_pass_for_a_metric_and_reference(requests_):
    metric = Counting().configure(memory="4GiB")
    assert all(r.status == 200 for r in Scorer({"psnr": metric}).answer(of_default(requests_)))
    assert metric.batches == [(1, 6)] * 3


def test_references_of_one_size_share_a_pass_too(photographs):
    images = [photograph[:200, :200] for photograph in photographs.values()]
    pairs = [
        {"reference": encoded(image), "distorted": encoded(image, "JPEG", quality=quality)}
        for image, quality in zip([*images, images[0]], (10, 20, 30, 40), strict=True)
    ]
    metric = Counting().configure(memory="4GiB")
    replies = Scorer({"psnr": metric}).answer(pairs)
    assert metric.batches == [(1, 2), (2, 2)]
    expected = [score(r["reference"], r["distorted"], "psnr") for r in pairs]
    assert [r.body["value"] for r in replies] == pytest.approx(expected, rel=1e-6)


def test_equal_references_are_decoded_once_and_pass_the_network_once(requests_, monkeypatch):
    from iqa_torchserve import scorer as module

    names, read = [], module.read_image
    monkeypatch.setattr(
        module,
        "read_image",
        lambda *a, **options: names.append(options["name"]) or read(*a, **options),
    )
    metric = create_metric("default", memory=1)
    passed = []
    stem = metric.extractor.network.get_submodule("stem")[0]
    stem.register_forward_hook(lambda _, x, __: x[0].is_meta or passed.append(len(x[0])))
    alike = of_default(requests_[:6])
    assert all(r.status == 200 for r in Scorer({"default": metric}).answer(alike))
    assert (names.count("reference"), names.count("distorted")) == (1, 6)
    assert sum(passed) == 1 + 6


def test_a_pass_stays_within_the_memory(requests_):
    metric = Counting().configure(memory=1)
    chosen = of_default(requests_[:6])
    replies = Scorer({"psnr": metric}).answer(chosen)
    assert metric.batches == [(1, 1)] * 6
    expected = [score(r["reference"], r["distorted"], "psnr") for r in chosen]
    assert [r.body["value"] for r in replies] == pytest.approx(expected, rel=1e-6)


def test_a_batch_that_fails_is_tried_one_by_one(requests_, caplog):
    class Fails(PSNR):
        def compare(self, reference, distorted):
            if len(distorted) > 1:
                raise MemoryError("too much at once")
            if distorted.shape[-1] == 320:
                raise RuntimeError("secret detail")
            return super().compare(reference, distorted)

    metric = Fails().configure(memory="4GiB")
    replies = Scorer({"psnr": metric}).answer(of_default(requests_))
    assert [r.status for r in replies] == [500] * 6 + [200] * 12
    assert replies[0].body["code"] == "internal"
    assert "secret" not in replies[0].body["message"]
    assert "secret detail" in caplog.text


def test_bounds(scorer, requests_):
    small = Scorer({"psnr": PSNR()}, max_pixels=1000)
    reply = small.answer([requests_[1]])[0]
    assert (reply.status, reply.body["code"]) == (400, "too_large")
    tiny = encoded(torch.zeros(20, 20, 3, dtype=torch.uint8).numpy())
    reply = scorer.answer([{"reference": tiny, "distorted": tiny}])[0]
    assert (reply.status, reply.body["code"]) == (400, "too_small")
    with pytest.raises(ValueError, match="at least one metric"):
        Scorer({})


def test_a_known_metric_that_is_not_packed_is_named(scorer, requests_):
    reply = scorer.answer([{**requests_[0], "metric": "efficientnet_lite0:block3:rmse"}])[0]
    assert (reply.status, reply.body["code"]) == (400, "unknown_metric")
    assert "not in this archive" in reply.body["message"]


def test_no_torchserve_is_imported():
    code = "import sys, iqa_torchserve.scorer; print([m for m in sys.modules if m == 'ts'])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr
