"""The forms of pairs and metrics that score_pairs takes."""

import collections

import numpy as np
import pyarrow
import pytest
import torch
from material import encoded
from PIL import Image

from iqa_metrics import (
    PSNR,
    SSIM,
    Pair,
    UnknownNameError,
    create_metric,
    parse_spec,
    score,
    score_pairs,
)


@pytest.fixture
def files(tmp_path, photographs):
    reference, distorted = tmp_path / "reference.png", tmp_path / "distorted.jpg"
    reference.write_bytes(encoded(photographs["cat"]))
    distorted.write_bytes(encoded(photographs["cat"], "JPEG", quality=10))
    return reference, distorted


class Frame:
    """What pandas and polars share: named columns that can be iterated."""

    def __init__(self, **columns):
        self._columns = columns
        self.columns = list(columns)

    columns = ()

    def __getitem__(self, name):
        return iter(self._columns[name])

    def itertuples(self):
        raise NotImplementedError


NamedPair = collections.namedtuple("NamedPair", "number distorted reference")


def test_every_form_of_pair_gives_the_same_value(files):
    reference, distorted = files
    names = list(map(str, files))
    columns = {"reference": [names[0]], "distorted": [names[1]], "mos": [2.5]}
    forms = [
        [files],
        [names],
        [tuple(names)],
        (pair for pair in [files]),
        np.array([names]),
        [{"distorted": distorted, "reference": reference, "mos": 2.5}],
        [NamedPair(2.5, distorted, reference)],
        [Pair(*names)],
        pyarrow.table(columns),
        pyarrow.table(columns).to_batches()[0],
        Frame(**columns),
    ]
    expected = score(*files, "psnr")
    carried = []
    for form in forms:
        (row,) = score_pairs(form, "psnr")
        assert (row.value, row.reference, row.distorted) == (expected, *names)
        carried.append(dict(row.carried))
    assert carried[5:7] == [{"mos": 2.5}, {"number": 2.5}]
    assert carried[8:] == [{"mos": 2.5}] * 3


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_frames_of_real_packages(files, package):
    names = list(map(str, files))
    frame = pytest.importorskip(package).DataFrame(
        {"reference": [names[0]] * 2, "distorted": [names[1], None], "collect": ["a", "b"]}
    )
    good, bad = score_pairs(frame, "psnr")
    assert (good.value, good.carried) == (score(*files, "psnr"), {"collect": "a"})
    assert bad.error.startswith("bad_row: distorted is missing")


def test_images_in_memory_are_scored_like_files(files, photographs):
    reference, distorted = files
    decoded = Image.open(distorted)
    tensor = torch.from_numpy(photographs["cat"].copy()).permute(2, 0, 1)
    forms = [
        (reference, distorted.read_bytes()),
        (photographs["cat"], distorted),
        (tensor, np.asarray(decoded)),
        (tensor / 255, decoded),
    ]
    rows = list(score_pairs(forms, ["psnr", "ssim"]))
    assert [row.value for row in rows] == [score(*files, "psnr"), score(*files, "ssim")] * 4
    assert rows[2].reference == f"ndarray {list(photographs['cat'].shape)} uint8"
    assert rows[2].distorted == str(distorted)


def test_an_image_in_memory_is_one_shared_reference(photographs, monkeypatch):
    metric, passes = PSNR(), []
    monkeypatch.setattr(
        type(metric), "reference", lambda self, image: passes.append(image) or _Open(metric, image)
    )
    cat = photographs["cat"]
    others = [np.roll(cat, shift, 0) for shift in (1, 2, 3)]
    rows = list(score_pairs([(cat, other) for other in others], metric))
    assert len(passes) == 1
    assert [row.value for row in rows] == [score(cat, other, "psnr") for other in others]


class _Open:
    def __init__(self, metric, image):
        self.metric, self.image = metric, image

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def score(self, distorted, *, mask=None):
        return self.metric(self.image.expand_as(distorted), distorted)


def test_a_bad_image_in_memory_is_a_row_with_its_reason(photographs):
    cat = photographs["cat"]
    wrong = [(cat * 1.0, cat), (np.stack([cat, cat]), cat), (cat, b"no image"), (cat, cat[:50])]
    rows = list(score_pairs([*wrong, (cat, cat)], "psnr"))
    codes = [row.error.split(":")[0] for row in rows]
    assert codes == ["out_of_range", "bad_image", "bad_image", "size_mismatch", ""]


def test_empty_cells_are_rows_with_their_reason(files):
    nothing = (None, float("nan"), "", "  ")
    rows = list(score_pairs([*((files[0], cell) for cell in nothing), files], "psnr"))
    assert [row.error[:29] for row in rows[:4]] == ["bad_row: distorted is missing"] * 4
    assert rows[4].value == score(*files, "psnr")


@pytest.mark.parametrize(
    ("pairs", "kind", "words"),
    [
        ("pairs.csv", TypeError, r"path 'pairs\.csv'; score_table\(\) scores a CSV"),
        (("a.png", "b.png"), TypeError, r"item 0 .*put a single pair into a list"),
        ({"reference": "a.png", "distorted": "b.png"}, TypeError, "got one dict"),
        (7, TypeError, "an iterable of pairs or a table, got int"),
        ([("a.png", "b.png", "c.png")], ValueError, "item 0 .*got a tuple of 3"),
        ([("a.png", 3)], TypeError, "item 0 .*distorted: expected a path.*got int 3"),
        ([{"reference": "a.png"}], ValueError, "item 0 .*no key distorted.*got reference"),
        (pyarrow.table({"ref": ["a.png"]}), ValueError, "no column reference and .*got ref"),
    ],
)
def test_what_is_no_pair_is_refused(pairs, kind, words):
    with pytest.raises(kind, match=words):
        list(score_pairs(pairs, "psnr"))


def test_a_bad_pair_is_reported_when_it_is_reached(files):
    read = []

    def endless():
        for number in range(10**6):
            read.append(number)
            yield files

    rows = score_pairs(endless(), "psnr")
    assert next(rows).value == score(*files, "psnr")
    rows.close()
    assert len(read) < 1000
    with pytest.raises(TypeError, match=r"item 3 \(from 0\)"):
        list(score_pairs([*[files] * 3, 5], "psnr"))


def test_every_form_of_metrics(files):
    psnr, ssim = score(*files, "psnr"), score(*files, "ssim")
    for metrics, names, values in (
        ("psnr", ["psnr"], [psnr]),
        (PSNR(), ["psnr"], [psnr]),
        (parse_spec("psnr"), ["psnr"], [psnr]),
        (["psnr", " psnr", SSIM()], ["psnr", "ssim"], [psnr, ssim]),
        (("ssim", parse_spec("psnr")), ["ssim", "psnr"], [ssim, psnr]),
        ({"a": "ssim", "b": PSNR()}, ["a", "b"], [ssim, psnr]),
    ):
        rows = list(score_pairs([files], metrics))
        assert ([row.metric for row in rows], [row.value for row in rows]) == (names, values)
    assert [row.metric for row in score_pairs([files])] == ["default"]


@pytest.mark.parametrize(
    ("metrics", "kind", "words"),
    [
        ([], ValueError, "at least one"),
        (3, TypeError, "got int"),
        ([3], TypeError, "got int"),
        ([PSNR], TypeError, r"got PSNR; call it: PSNR\(\)"),
        ([PSNR(), PSNR()], ValueError, "two have the name 'psnr'"),
        (["psnr", PSNR()], ValueError, "two have the name 'psnr'"),
        ("SSIM", UnknownNameError, "did you mean 'ssim'"),
    ],
)
def test_what_is_no_metric_is_refused(metrics, kind, words):
    with pytest.raises(kind, match=words):
        score_pairs([], metrics)


def test_one_metric_object_may_be_given_twice(files):
    metric = create_metric("psnr")
    assert len(list(score_pairs([files], [metric, metric]))) == 1
