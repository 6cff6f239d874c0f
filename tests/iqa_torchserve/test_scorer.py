"""The scorer: the requests of a batch do not affect each other."""

import base64
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from material import encoded, scan_bomb
from PIL import Image
from profiles import P3, cicp, iccp, png

from iqa_metrics import PSNR, create_metric, read_image, score
from iqa_torchserve.archive import build_archive, unpack_archive
from iqa_torchserve.container import pack
from iqa_torchserve.limits import Limits
from iqa_torchserve.maps import map_values
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


def values(replies):
    """Return the values in replies to single pairs with one metric."""
    return [reply.body["results"][0]["scores"][0]["value"] for reply in replies]


def test_values_equal_the_librarys_in_any_batch(scorer, requests_):
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
        (result,) = body["results"]
        (found,) = result["scores"]
        assert found["value"] == pytest.approx(expected, rel=1e-6)
        assert found["metric"] == metric
        assert found["higher_is_better"] == (metric != "default")
        assert set(body["versions"]) == {"iqa_metrics", "iqa_torchserve", "torch"}
    assert (good[0]["results"][0]["width"], good[0]["results"][0]["height"]) == (320, 256)
    assert good[0]["results"][0]["scores"][0]["resolved"] == "efficientnet_lite0:block14:rmse"


def test_colours_are_converted_and_pairs_judged_as_in_the_library(scorer):
    array = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    plain, wide, hdr = png(array), png(array, iccp(P3)), png(array, cicp(9, 16, 0, 1))
    body = {"body": pack([plain, plain, wide, hdr], ["psnr"])}
    both = {"body": pack([hdr, png(255 - array, cicp(9, 16, 0, 1))], ["psnr"])}
    replies = scorer.answer([body, both])
    first, second, third = replies[0].body["results"]
    assert "colour" not in first
    assert second["colour"] == "distorted: Display P3 to sRGB"
    expected = score(plain, wide, "psnr")
    assert second["scores"][0]["value"] == pytest.approx(expected, rel=1e-6)
    assert expected < 40
    assert (third["status"], third["code"]) == (400, "bad_colour")
    assert "PQ" in third["message"]
    (alike,) = replies[1].body["results"]
    assert alike["colour"].startswith("both: not converted, PQ")
    expected = score(plain, png(255 - array), "psnr")
    assert alike["scores"][0]["value"] == pytest.approx(expected, rel=1e-6)


def test_many_distorted_images_and_metrics_in_a_request(scorer, photographs):
    photograph = photographs["cat"]
    reference = encoded(photograph)
    distorted = [encoded(photograph, "JPEG", quality=q) for q in (5, 30, 80)]
    small = encoded(photograph[:50])
    body = pack([reference, *distorted[:2], b"broken", small, distorted[2]], ["ssim", "default"])
    (reply,) = scorer.answer([{"body": body}], request_ids=["an id"])
    assert (reply.status, reply.body["request_id"], "code" in reply.body) == (200, "an id", False)
    results = reply.body["results"]
    assert [r["status"] for r in results] == [200, 200, 400, 400, 200]
    assert [r.get("code") for r in results[2:4]] == ["bad_image", "size_mismatch"]
    assert "distorted 3" in results[2]["message"]
    for image, result in zip(distorted, [r for r in results if r["status"] == 200], strict=True):
        for metric, found in zip(("ssim", "default"), result["scores"], strict=True):
            assert found["metric"] == metric
            assert found["value"] == pytest.approx(score(reference, image, metric), rel=1e-6)


def test_a_metric_that_refuses_the_size_does_not_affect_the_others(scorer):
    tiny = encoded(torch.zeros(20, 20, 3, dtype=torch.uint8).numpy())
    (reply,) = scorer.answer([{"body": pack([tiny, tiny], ["default", "ssim"])}])
    (result,) = reply.body["results"]
    assert (reply.status, result["status"]) == (200, 200)
    assert [found.get("code") for found in result["scores"]] == ["too_small", None]
    assert result["scores"][1]["value"] == 1


def test_maps_equal_the_librarys(scorer, photographs):
    photograph = photographs["cat"]
    pair = encoded(photograph), encoded(photograph, "JPEG", quality=10)
    (reply,) = scorer.answer([{"body": pack(pair, ["ssim", "default", "psnr"], maps=True)}])
    *with_maps, without = reply.body["results"][0]["scores"]
    assert (without["code"], "ssim" in without["message"]) == ("no_map", True)
    for found in with_maps:
        said = found["map"]
        png = base64.b64decode(said["png"])
        shown = map_values(png, said["low"], said["high"])
        metric = create_metric(found["metric"])
        with torch.no_grad():
            expected = metric(*(read_image(image) for image in pair), map=True)[0, 0].numpy()
        step = (expected.max() - expected.min()) / 65535
        assert shown.shape == expected.shape
        assert np.abs(shown - expected).max() <= 0.51 * step


def test_maps_that_make_a_reply_too_large_are_refused(scorer, photographs):
    pair = encoded(photographs["cat"]), encoded(photographs["cat"], "JPEG", quality=10)
    tight = Scorer(dict(scorer.metrics), limits=Limits(reply_bytes=200_000))
    body = pack([pair[0], *[pair[1]] * 3], ["ssim"], maps=True)
    (reply,) = tight.answer([{"body": body}])
    found = [result["scores"][0] for result in reply.body["results"]]
    assert "map" in found[0]
    assert (found[-1]["code"], "value" in found[-1]) == ("too_large", False)


class Counting(PSNR):
    """Records how many references and distorted images each comparison has."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def compare(self, reference, distorted):
        self.batches.append((len(reference), len(distorted)))
        return super().compare(reference, distorted)


def of_default(requests):
    return [{k: v for k, v in r.items() if k != "metric"} for r in requests]


def test_a_batch_takes_one_pass_per_metric_and_reference(requests_):
    metric = Counting().configure(memory="4GiB")
    assert all(r.status == 200 for r in Scorer({"psnr": metric}).answer(of_default(requests_)))
    assert metric.batches == [(1, 6)] * 3


def test_references_of_the_same_size_share_a_pass(photographs):
    images = [photograph[:200, :200] for photograph in photographs.values()]
    pairs = [
        {"reference": encoded(image), "distorted": encoded(image, "JPEG", quality=quality)}
        for image, quality in zip([*images, images[0]], (10, 20, 30, 40), strict=True)
    ]
    metric = Counting().configure(memory="4GiB")
    replies = Scorer({"psnr": metric}).answer(pairs)
    assert metric.batches == [(1, 2), (2, 2)]
    expected = [score(r["reference"], r["distorted"], "psnr") for r in pairs]
    assert values(replies) == pytest.approx(expected, rel=1e-6)


def test_equal_references_are_decoded_once_and_pass_the_network_once(requests_, monkeypatch):
    from iqa_torchserve import decoding

    names, read = [], decoding.read_with_colour
    monkeypatch.setattr(
        decoding,
        "read_with_colour",
        lambda *a, **options: names.append(options["name"]) or read(*a, **options),
    )
    metric = create_metric("default", memory=1)
    passed = []
    stem = metric.extractor.network.get_submodule("stem")[0]
    stem.register_forward_hook(lambda _, x, __: x[0].is_meta or passed.append(len(x[0])))
    alike = of_default(requests_[:6])
    # Equal by content, not by being the same object, and in requests of their own.
    alike = [{name: bytes(bytearray(image)) for name, image in r.items()} for r in alike]
    assert all(r.status == 200 for r in Scorer({"default": metric}).answer(alike))
    # Three requests each have the same two distorted images.
    assert (names.count("reference"), names.count("distorted")) == (1, 2)
    assert len(passed) == 1 + 6  # with memory for one, each is a pass


def test_metrics_of_the_same_backbone_share_its_passes(requests_, tmp_path):
    specs = ["psnr", "default", "efficientnet_lite0:block3:rmse", "efficientnet_lite0:stem:gram"]
    unpack_archive(build_archive(tmp_path, metrics=specs), tmp_path / "model")
    scorer = Scorer.from_archive(tmp_path / "model")
    metric = scorer.metrics["default"]
    passed = []
    stem = metric.extractor.network.get_submodule("stem")[0]
    stem.register_forward_hook(lambda _, x, __: x[0].is_meta or passed.append(len(x[0])))
    images = [requests_[0][name] for name in ("reference", "distorted")]
    wanted = [[specs[1]], [specs[3], specs[0]], specs, [specs[2]]]
    answer = scorer.work([{"body": pack(images, names)} for names in wanted])
    # One pass of the reference, since four pairs share it, and one of the distorted images.
    assert len(passed) == 2
    assert answer.facts.scored == dict.fromkeys(specs, 2)
    assert sorted(name for name, *_ in answer.facts.passes) == ["efficientnet_lite0", "psnr"]
    alone = {spec: values(scorer.answer([{"body": pack(images, [spec])}])) for spec in specs}
    for names, reply in zip(wanted, answer.replies, strict=True):
        found = reply.body["results"][0]["scores"]
        assert [f["metric"] for f in found] == names
        assert [f["value"] for f in found] == [alone[name][0] for name in names]
    for spec in specs:
        assert alone[spec] == pytest.approx([score(*images, spec)], rel=1e-6)


def test_metrics_of_the_same_backbone_fail_independently(tmp_path, photographs):
    specs = ["efficientnet_lite0:stem:rmse", "efficientnet_lite0:head:rmse"]
    unpack_archive(build_archive(tmp_path, metrics=specs), tmp_path / "model")
    scorer = Scorer.from_archive(tmp_path / "model")
    small = [encoded(photographs["cat"][:16, at : at + 16]) for at in (0, 20)]
    large = [encoded(photographs["cat"][:64, at : at + 64]) for at in (0, 20)]
    alone = values(scorer.answer([{"body": pack(small, specs[:1])}]))
    batch = [(small, specs[:1]), (large, specs[1:]), (small, specs)]
    replies = scorer.answer([{"body": pack(images, names)} for images, names in batch])
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert values(replies[:1]) == alone
    stem, head = replies[2].body["results"][0]["scores"]
    assert (stem["value"], head["code"]) == (alone[0], "too_small")


def test_an_unknown_metric_does_not_affect_the_others(scorer, requests_):
    images = [requests_[0][name] for name in ("reference", "distorted")]
    (reply,) = scorer.answer([{"body": pack(images, ["psnr", "nonsense", "ssim"])}])
    found = reply.body["results"][0]["scores"]
    assert [f.get("code") for f in found] == [None, "unknown_metric", None]
    assert reply.body["results"][0]["status"] == reply.status == 200


def test_an_invalid_spec_is_not_repeated_at_length(scorer, requests_):
    images = [requests_[0][name] for name in ("reference", "distorted")]
    for spec in ("efficientnet_lite0:" + "\U0001f600" * 60_00, "x" * 60_000):
        (reply,) = scorer.answer([{"body": pack(images, [spec])}])
        assert (reply.status, reply.body["code"]) == (400, "bad_request")
        assert len(json.dumps(reply.body)) < 1000
    (reply,) = scorer.answer([{**requests_[0], "metric": "psnr," * 100_000}])
    assert reply.status == 400


def test_the_time_is_checked_during_a_batch(photographs):
    class Slow(PSNR):
        def compare(self, reference, distorted):
            time.sleep(0.8)
            return super().compare(reference, distorted)

    pair_bytes = 2 * photographs["cat"].size * 4
    limits = Limits(batch_seconds=2.0, working_bytes=3 * pair_bytes)
    scorer = Scorer({"psnr": Slow(), "mse": Slow(), "ssim": Slow()}, limits=limits)
    image = encoded(photographs["cat"])
    body = pack([image, *[encoded(photographs["cat"] ^ n) for n in range(6)]], list(scorer.metrics))
    (reply,) = scorer.answer([{"body": body}])
    codes = [result.get("code") for result in reply.body["results"]]
    assert codes[0] is None
    assert codes[-3:] == ["overloaded"] * 3


def test_images_are_held_in_parts_and_a_reference_stays_for_the_next(photographs):
    photograph = photographs["cat"]
    pair_bytes = 2 * photograph.size * 4
    metric = create_metric("default", memory="4GiB")
    passed = []
    stem = metric.extractor.network.get_submodule("stem")[0]
    stem.register_forward_hook(lambda _, x, __: x[0].is_meta or passed.append(len(x[0])))
    scorer = Scorer({"default": metric}, limits=Limits(working_bytes=int(1.6 * pair_bytes)))
    reference = encoded(photograph)
    distorted = [encoded(photograph, "JPEG", quality=q) for q in (10, 20, 30, 40, 50)]
    (reply,) = scorer.answer([{"body": pack([reference, *distorted])}])
    found = [result["scores"][0]["value"] for result in reply.body["results"]]
    assert found == pytest.approx([score(reference, image) for image in distorted], rel=1e-6)
    assert passed == [2, 2, 2, 2]  # the small reference and the last image in company of themselves


def test_a_pass_fits_into_memory(requests_):
    metric = Counting().configure(memory=1)
    chosen = of_default(requests_[:6])
    replies = Scorer({"psnr": metric}).answer(chosen)
    assert metric.batches == [(1, 1)] * 6
    expected = [score(r["reference"], r["distorted"], "psnr") for r in chosen]
    assert values(replies) == pytest.approx(expected, rel=1e-6)


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
    assert values(replies[6:]) == pytest.approx(
        [score(r["reference"], r["distorted"], "psnr") for r in requests_[6:]], rel=1e-6
    )
    assert "secret" not in replies[0].body["message"]
    assert "secret detail" in caplog.text


def test_an_unforeseen_error_costs_only_its_own_request(requests_, caplog):
    class Fails(PSNR):
        def compare(self, reference, distorted):
            if distorted.shape[-1] == 320:
                raise KeyError("unforeseen")
            return super().compare(reference, distorted)

    replies = Scorer({"psnr": Fails()}).answer(of_default(requests_))
    assert [r.status for r in replies] == [500] * 6 + [200] * 12
    assert "unforeseen" in caplog.text


def test_a_repeated_metric_is_answered_twice(scorer, requests_):
    images = [requests_[0][name] for name in ("reference", "distorted")]
    (reply,) = scorer.answer([{"body": pack(images, ["psnr", "ssim", "psnr"])}])
    found = reply.body["results"][0]["scores"]
    assert [f["metric"] for f in found] == ["psnr", "ssim", "psnr"]
    assert found[0] == found[2]


def test_bounds(scorer, requests_):
    small = Scorer({"psnr": PSNR()}, limits=Limits(pixels=1000, images=2))
    (reply,) = small.answer([requests_[1]])
    assert (reply.status, reply.body["code"]) == (400, "too_large")
    (reply,) = small.answer([{"body": pack([b"x"] * 4)}])
    assert (reply.status, reply.body["code"]) == (400, "too_large")
    tiny = encoded(torch.zeros(20, 20, 3, dtype=torch.uint8).numpy())
    (reply,) = scorer.answer([{"reference": tiny, "distorted": tiny}])
    assert (reply.status, reply.body["code"]) == (400, "too_small")
    with pytest.raises(ValueError, match="at least one metric"):
        Scorer({})


def test_a_hundred_megapixels_are_refused_before_they_are_decoded(scorer, monkeypatch):
    loaded = []
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: loaded.append(self))
    huge = encoded(Image.new("1", (10_000, 10_000)))
    assert len(huge) < 50_000
    (reply,) = scorer.answer([{"reference": huge, "distorted": huge}])
    assert (reply.status, reply.body["code"]) == (400, "too_large")
    assert loaded == []


def test_the_time_of_decoding_is_limited_for_each_request(scorer, requests_):
    quick = Scorer(dict(scorer.metrics), limits=Limits(decode_seconds=0.5))
    bomb = scan_bomb()
    good = requests_[1]
    shared = {"reference": good["reference"], "distorted": bomb}
    replies = quick.answer([{"body": pack([good["reference"], *[bomb] * 2])}, shared, good])
    assert [reply.status for reply in replies] == [400, 400, 200]
    assert [reply.body["code"] for reply in replies[:2]] == ["too_slow"] * 2
    assert "0.5 s" in replies[0].body["message"]


def test_work_beyond_the_time_limit_is_refused(photographs, requests_):
    late = Scorer({"psnr": PSNR()}, limits=Limits(batch_seconds=1e-9))
    replies = late.answer(of_default(requests_[:2]))
    assert [(reply.status, reply.body["code"]) for reply in replies] == [(503, "overloaded")] * 2


def test_an_alias_asks_for_the_packed_metric(requests_):
    scorer = Scorer({"lpips_alex": PSNR()})
    for name in ("lpips", "lpips_alex"):
        (reply,) = scorer.answer([{**requests_[0], "metric": name}])
        (found,) = reply.body["results"][0]["scores"]
        assert (reply.status, found["metric"]) == (200, "lpips_alex")
    (reply,) = Scorer({"psnr": PSNR()}).answer([{**requests_[0], "metric": "lpips"}])
    assert reply.body["code"] == "unknown_metric"


def test_a_known_metric_that_is_not_packed_is_named(scorer, requests_):
    reply = scorer.answer([{**requests_[0], "metric": "efficientnet_lite0:block3:rmse"}])[0]
    assert (reply.status, reply.body["code"]) == (400, "unknown_metric")
    assert "not in this archive" in reply.body["message"]


@pytest.mark.parametrize(
    "spec",
    [
        *("ssmi", "efficientnet_lite0", "efficientnet_lite9:block12:rmse", ":::"),
        *("efficientnet_lite0:block99:rmse", "efficientnet_lite0:block12:rsme"),
        *("efficientnet_lite0:stem+head:rmse:sun", "efficientnet_lite0:two*stem:rmse:sum"),
    ],
)
def test_every_error_of_a_spec_has_the_same_code_in_replies(scorer, requests_, spec):
    """Python has more specific codes, but clients are promised this one."""
    (reply,) = scorer.answer([{**requests_[0], "metric": spec}])
    assert (reply.status, reply.body["code"]) == (400, "unknown_metric")
    (reply,) = scorer.answer([{**requests_[0], "metric": f"psnr,{spec}"}])
    scores = reply.body["results"][0]["scores"]
    assert [score.get("code") for score in scores] == [None, "unknown_metric"]


def test_requests_can_not_look_up_other_networks(scorer, requests_, monkeypatch):
    from iqa_torchserve import scorer as module

    monkeypatch.setattr(module, "parse_spec", lambda text: pytest.fail(f"looked up {text}"))
    for spec in ("timm:resnet18.a1_in1k:layer3:rmse", "vgg16:relu3_3:rmse", "lpips_alex"):
        (reply,) = scorer.answer([{**requests_[0], "metric": spec}])
        assert (reply.status, reply.body["code"]) == (400, "unknown_metric")


def test_other_spellings_of_a_packed_metric_are_accepted(requests_):
    spec = "efficientnet_lite0:stem+block3:rmse:joint"
    scorer = Scorer({spec: create_metric(spec)})
    turned = "efficientnet_lite0:block3+stem:rmse"
    (reply,) = scorer.answer([{**requests_[0], "metric": turned}])
    assert reply.body["results"][0]["scores"][0]["metric"] == spec


def test_describe_lists_metrics_and_limits(scorer):
    said = json.loads(json.dumps(scorer.describe(), allow_nan=False))
    assert [m["metric"] for m in said["metrics"]] == ["default", "psnr", "ssim"]
    assert said["metrics"][1]["range"] == [0, None]
    assert said["limits"] == Limits().as_json()
    assert said["device"] == "cpu"


def test_torchserve_is_not_imported():
    code = "import sys, iqa_torchserve.scorer; print([m for m in sys.modules if m == 'ts'])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr
