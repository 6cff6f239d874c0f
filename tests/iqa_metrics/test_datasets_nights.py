"""NIGHTS in the layout of its owners, and observer noise in tables of one's own."""

import csv

import pytest
from PIL import Image

from iqa_metrics.datasets import DatasetError, read_database, read_nights, read_opinions

HEADER = (
    *("id", "votes", "left_vote", "right_vote", "ref_path", "left_path", "right_path"),
    *("prompt", "split", "is_imagenet"),
)


@pytest.fixture
def nights(tmp_path):
    """Five triplets; one has too few votes, and one belongs to the training part."""
    rows = [
        (0, 8, 1, 0, "test", True),
        (1, 7, 0, 1, "test", False),
        (2, 5, 1, 0, "test", True),
        (3, 9, 1, 0, "train", True),
        (4, 10, 4, 6, "test", False),
    ]
    root = tmp_path / "download" / "nights"
    with_images = {}
    for number, *_ in rows:
        for column, path in (
            ("ref_path", f"ref/000/{number:03}.png"),
            ("left_path", f"distort/000/{number:03}_0.png"),
            ("right_path", f"distort/000/{number:03}_1.png"),
        ):
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 3), (number, 0, 0)).save(file)
            with_images.setdefault(number, {})[column] = path
    with (root / "data.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        for number, votes, left, right, split, known in rows:
            writer.writerow(
                {
                    **{"id": number, "votes": votes, "left_vote": left, "right_vote": right},
                    **{"prompt": "An image of a leek", "split": split, "is_imagenet": known},
                    **with_images[number],
                }
            )
    return root


def test_triplets_of_a_part_are_read(nights):
    found = read_nights(nights.parent)
    assert [one.reference.name for one in found] == ["000.png", "001.png", "004.png"]
    assert [one.chose_second for one in found] == [0.0, 1.0, 0.6]
    assert [one.distortion for one in found] == ["imagenet", "not imagenet", "not imagenet"]
    assert (found[0].first.name, found[0].second.name) == ("000_0.png", "000_1.png")
    assert [one.reference.name for one in read_nights(nights, "train")] == ["003.png"]


def test_a_triplet_is_two_pairs_of_a_2afc_database(nights):
    found = read_database("nights", nights)
    assert (found.facts.asked, found.problems) == ("2afc", ())
    assert [pair.opinion for pair in found.pairs] == [1, 0, 0, 1, 0.4, 0.6]
    assert [pair.distorted.name for pair in found.pairs[2:4]] == ["001_0.png", "001_1.png"]
    assert found.pairs[2].reference == found.pairs[3].reference


def test_what_is_wrong_with_nights_is_named(nights):
    (nights / "distort/000/001_1.png").unlink()
    text = (nights / "data.csv").read_text().replace("0,8,1,0,", "0,8,yes,0,")
    (nights / "data.csv").write_text(text)
    with pytest.raises(DatasetError) as caught:
        read_nights(nights)
    assert {(p.kind, p.what) for p in caught.value.problems} == {
        ("missing", "distort/000/001_1.png"),
        ("opinion", "data.csv, line 2"),
    }
    with pytest.raises(DatasetError, match="triplets of the part val"):
        read_nights(nights, "val")
    with pytest.raises(DatasetError, match="split: expected train or val or test, got 'all'"):
        read_nights(nights, "all")
    with pytest.raises(DatasetError, match=r"contains no data\.csv"):
        read_nights(nights / "ref")


# Tables of one's own ------------------------------------------------------------------------------


def table(folder, header, *rows):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (4, 3)).save(folder / name)
    path = folder / "mine.csv"
    path.write_text("\n".join([f"reference,distorted,{header}", *rows]))
    return path


def test_a_table_tells_how_certain_opinions_are(tmp_path):
    rows = ("a.png,b.png,3,0.5,16", "a.png,c.png,4,,")
    path = table(tmp_path, "mos,opinion_sd,ratings", *rows)
    first, second = read_opinions(path, "better", "mos").pairs
    assert (first.opinion_sd, first.ratings) == (0.5, 16)
    assert (second.opinion_sd, second.ratings) == (None, None)
    path = table(tmp_path, "mos,opinion_se,ratings", *rows)
    assert read_opinions(path, "better", "mos").pairs[0].opinion_sd == 2.0
    path = table(tmp_path, "ratings", "a.png,b.png,-3")
    (pair,) = read_opinions(path, "better", "ratings").pairs
    assert (pair.opinion, pair.ratings) == (-3, None)


def test_noise_that_can_not_be_used_is_refused(tmp_path):
    for header, row, reason in (
        ("mos,opinion_sd", "a.png,b.png,3,-1", "opinion_sd: expected a number of at least 0"),
        ("mos,opinion_sd", "a.png,b.png,3,wide", "got 'wide'"),
        ("mos,ratings", "a.png,b.png,3,0", "ratings: expected a positive number, got '0'"),
        ("mos,opinion_se", "a.png,b.png,3,1", "expected the column ratings as well"),
    ):
        with pytest.raises(DatasetError, match=reason):
            read_opinions(table(tmp_path, header, row), "better", "mos")
