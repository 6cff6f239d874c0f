"""Tables of scores: rows in order, failures as rows, columns carried through."""

import csv
import doctest
import io
import os

import pytest
import torch
from material import encoded, tensor

import iqa_metrics.scoring.scores
from iqa_metrics import (
    ImageError,
    Pair,
    PairsError,
    PairTable,
    Score,
    create_metric,
    parse_spec,
    score,
    score_pairs,
)
from iqa_metrics.io.tables import write_scores
from iqa_metrics.scoring.scores import json_number


@pytest.fixture
def folder(tmp_path, photographs):
    (tmp_path / "images").mkdir()
    for name, photograph in photographs.items():
        (tmp_path / f"images/{name}.png").write_bytes(encoded(photograph))
        (tmp_path / f"images/{name}.jpg").write_bytes(encoded(photograph, "JPEG", quality=20))
    return tmp_path


def table(folder, text):
    path = folder / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    return PairTable.open(path)


def test_score_takes_every_kind_of_image_source(folder, photographs):
    reference = photographs["cat"]
    jpeg = folder / "images/cat.jpg"
    expected = score(reference, jpeg)
    assert isinstance(expected, float)
    assert score(str(folder / "images/cat.png"), jpeg.read_bytes()) == expected
    assert score(tensor(reference), jpeg, create_metric("default")) == pytest.approx(expected)
    assert score(reference, jpeg, "default", device="cpu") == expected
    assert score(reference, jpeg, parse_spec("default")) == expected


def test_score_keeps_the_network_it_built(photographs, monkeypatch):
    score(photographs["cat"], photographs["cat"])
    monkeypatch.setattr("iqa_metrics.scoring.scores.create_metric", None)
    assert score(photographs["cat"], photographs["cat"]) == 0


def test_score_refuses_a_batch_and_names_the_culprit(photographs):
    with pytest.raises(ImageError, match="reference: expected one image, got 2"):
        score(torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 64, 64))
    with pytest.raises(ImageError, match="distorted no/such"):
        score(photographs["cat"], "no/such.png")
    with pytest.raises(ValueError, match="device: expected auto, cpu"):
        score(photographs["cat"], photographs["cat"], device="tpu")
    with pytest.raises(ValueError, match="torch sees"):
        score(photographs["cat"], photographs["cat"], device="cuda:99")


def test_rows_come_in_order_with_failures_in_place(folder):
    pairs = table(
        folder,
        "mos,reference,distorted,note\n"
        '1,images/cat.png,images/cat.jpg,"a, b"\n'
        "2,images/cat.png,images/astronaut.jpg,sizes\n"
        "3,images/gone.png,images/cat.jpg,gone\n"
        "4,images/coffee.png,images/coffee.png,same\n"
        "5,,images/coffee.png,blank\n"
        "6,images/coffee.png,images/coffee.jpg,long,too,many\n"
        "7,images/coffee.png,images/coffee.jpg\n",
    )
    assert len(pairs) == 7
    metrics = {"psnr": create_metric("psnr"), "ssim": create_metric("ssim")}
    text = io.StringIO()
    rows = list(write_scores(score_pairs(pairs, metrics), text, pairs.carried))
    assert [(r.carried["mos"], r.metric) for r in rows] == [
        (str(i), m) for i in range(1, 8) for m in ("psnr", "ssim")
    ]
    assert [r.error.split(":")[0] for r in rows[::2]] == [
        *("", "size_mismatch", "not_found", "", "bad_row", "bad_row", "")
    ]
    assert all((r.value is None) == bool(r.error) for r in rows)
    assert (rows[6].value, rows[7].value) == (float("inf"), 1.0)
    read = list(csv.DictReader(io.StringIO(text.getvalue())))
    columns = ["reference", "distorted", "metric", "value", "error", "colour", "signature"]
    assert list(read[0]) == [*columns, "mos", "note"]
    assert all(bool(row["signature"]) == bool(row["value"]) for row in read)
    assert read[0]["note"] == "a, b"
    assert [float(r["value"]) if r["value"] else None for r in read] == [r.value for r in rows]
    expected = score(folder / "images/cat.png", folder / "images/cat.jpg", "psnr")
    assert rows[0].value == expected


def test_a_column_without_a_name_is_carried(folder):
    # What pandas writes by default: its index, under an empty name.
    pairs = table(folder, ",reference,distorted\n0,images/cat.png,images/cat.jpg\n1,a,b,c\n")
    rows = list(score_pairs(pairs, {"psnr": create_metric("psnr")}))
    assert [row.carried for row in rows] == [{"": "0"}, {"": "1"}]
    assert [row.error.split(":")[0] for row in rows] == ["", "bad_row"]


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pairs.csv")
    with pytest.raises(PairsError, match="not a regular file"):
        PairTable.open(tmp_path / "pairs.csv")


def test_a_generator_is_read_as_rows_are_requested(folder):
    taken = []

    def pairs():
        for number in range(10_000):
            taken.append(number)
            yield Pair("cat.png", "cat.jpg", folder / "images", {"n": str(number)})

    rows = score_pairs(pairs(), {"psnr": create_metric("psnr")}, workers=2)
    assert next(rows).carried["n"] == "0"
    assert len(taken) < 1000
    assert [next(rows).carried["n"] for _ in range(500)] == [str(n) for n in range(1, 501)]
    assert len(taken) < 1500
    rows.close()


def test_at_least_one_thread_is_required(folder):
    with pytest.raises(ValueError, match="workers: expected"):
        score_pairs([], {}, workers=0)


def test_a_carriage_return_survives(tmp_path):
    text = io.StringIO(newline="")
    rows = [Score("a\rb", 'c"d\n', "psnr", None, "bad: x\r\ny", {"e": ","})]
    assert list(write_scores(rows, text, ["e"])) == rows
    read = list(csv.reader(io.StringIO(text.getvalue(), newline=""), strict=True))
    assert read[1] == ["a\rb", 'c"d\n', "psnr", "", "bad: x\r\ny", "", "", ","]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"ref,dist\n", "no column reference"),
        (b"reference,distorted,value\n", "uses the column names value"),
        (b"reference,distorted,a,a\n", "have the same name"),
        (b"\xff\xfe\x00", "not a CSV file in UTF-8"),
    ],
)
def test_unusable_tables_are_refused(tmp_path, content, words):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(PairsError) as caught:
        PairTable.open(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_byte_order_mark_and_a_missing_table(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(b"\xef\xbb\xbfreference,distorted\r\na,b\r\n")
    assert [(p.reference, p.distorted) for p in PairTable.open(path)] == [("a", "b")]
    with pytest.raises(PairsError, match="can't be opened"):
        PairTable.open(tmp_path / "gone.csv")


def test_numbers_that_json_lacks():
    values = (1.5, float("inf"), float("-inf"), float("nan"))
    assert [json_number(v) for v in values] == [1.5, "Infinity", "-Infinity", "NaN"]
    assert all(str(float(json_number(v))) == str(v) for v in values)


def test_the_docstrings_examples_run():
    results = doctest.testmod(iqa_metrics.scoring.scores)
    assert (results.attempted > 0, results.failed) == (True, 0)
