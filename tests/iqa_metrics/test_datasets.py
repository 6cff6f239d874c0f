"""Opinion databases, made up in their published layouts, complete and broken."""

import csv
import json
import os

import numpy as np
import pytest
import scipy.io
from openpyxl import Workbook
from PIL import Image
from typer.testing import CliRunner

from iqa_metrics import PairsError, UnknownNameError
from iqa_metrics.cli import app
from iqa_metrics.datasets import (
    READERS,
    DatasetError,
    all_databases,
    check_database,
    make_ladder,
    read_2afc,
    read_database,
    read_jnd,
    read_opinions,
)

FACTS = {reader.name: reader.facts for reader in READERS}


class Maker:
    """Makes the files of a database; all of its images are links to one file."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True)
        self._images = {}
        for ending in ("bmp", "png"):
            path = folder.parent / f"{folder.name}.{ending}"
            Image.new("RGB", (4, 3), "grey").save(path)
            self._images[ending] = path

    def image(self, path):
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(self._images[target.suffix[1:].lower()], target)

    def text(self, path, text):
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def make_tid(folder, types, levels):
    maker = Maker(folder)
    lines = []
    for image in range(1, 26):
        maker.image(f"reference_images/I{image:02}.BMP")
        for kind in range(1, types + 1):
            for level in range(1, levels + 1):
                name = f"i{image:02}_{kind:02}_{level}.bmp"
                maker.image(f"distorted_images/{name}")
                lines.append(f"{5 + image / 100 + kind / 1000} {name.upper()}\r\n")
    maker.text("mos_with_names.txt", "".join(lines))
    # One number per line, in the order of mos_with_names.txt, as in the real files.
    maker.text("mos_std.txt", "".join(f"{0.1 + at / 1e4:.6f}\r\n" for at in range(len(lines))))


def make_kadid(folder):
    maker = Maker(folder)
    rows = ["dist_img,ref_img,dmos,var"]
    for image in range(1, 82):
        maker.image(f"images/I{image:02}.png")
        for kind in range(1, 26):
            for level in range(1, 6):
                name = f"I{image:02}_{kind:02}_{level:02}.png"
                maker.image(f"images/{name}")
                rows.append(f"{name},I{image:02}.png,{6 - level - image / 100},0.5")
    maker.text("dmos.csv", "\n".join(rows))


def make_csiq(folder):
    maker = Maker(folder)
    book = Workbook()
    sheet = book.active
    sheet.title = "all_by_image"
    sheet.append(["CSIQ"])
    sheet.append([None])
    sheet.append([None, "image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"])
    kinds = {
        **{"noise": "awgn/{}.AWGN.{}", "blur": "blur/{}.BLUR.{}", "jpeg": "jpeg/{}.JPEG.{}"},
        **{"jpeg 2000": "jpeg2000/{}.jpeg2000.{}", "fnoise": "fnoise/{}.fnoise.{}"},
        "contrast": "contrast/{}.contrast.{}",
    }
    count = 0
    for image in [1600, *(f"image{i}" for i in range(29))]:
        maker.image(f"src_imgs/{image}.png")
        for index, (kind, path) in enumerate(kinds.items(), start=1):
            for level in range(1, 6):
                # 866 is not 30 x 6 x 5: contrast lacks levels.
                if kind == "contrast" and (level == 5 or (level == 4 and count >= 862)):
                    continue
                if count == 866:
                    continue
                count += 1
                maker.image(f"dst_imgs/{path.format(image, level)}.png")
                sheet.append([None, image, index, kind, level, 0.1, level / 10])
    book.save(folder / "csiq.DMOS.xlsx")


def make_live(folder):
    maker = Maker(folder)
    total, parts = 982, (227, 233, 174, 174, 174)
    originals = np.zeros((1, total))
    originals[0, :203] = 1  # 203 entries are originals
    names = np.empty((1, total), dtype=object)
    names[0] = [f"ref{i % 29}.bmp" for i in range(total)]
    scipy.io.savemat(
        folder / "dmos_realigned.mat",
        {
            "dmos_new": np.linspace(0, 100, total)[None],
            "dmos_std": np.linspace(5, 10, total)[None],
            "orgs": originals,
        },
    )
    scipy.io.savemat(folder / "refnames_all.mat", {"refnames_all": names})
    for i in range(29):
        maker.image(f"refimgs/ref{i}.bmp")
    kinds = ("jp2k", "jpeg", "wn", "gblur", "fastfading")
    for part, count in zip(kinds, parts, strict=True):
        for number in range(1, count + 1):
            maker.image(f"{part}/img{number}.bmp")


def make_pipal(folder):
    maker = Maker(folder)
    for image in range(200):
        maker.image(f"Train_Ref/A{image:04}.bmp")
        lines = []
        for number in range(116):
            name = f"A{image:04}_{number % 7:02}_{number // 7:02}.bmp"
            maker.image(f"Distortion_{1 + number % 4}/{name}")
            lines.append(f"{name},{1400 + number}.5")
        maker.text(f"Train_Label/A{image:04}.txt", "\n".join(lines))


MAKERS = {
    "tid2008": lambda folder: make_tid(folder, 17, 4),
    "tid2013": lambda folder: make_tid(folder, 24, 5),
    "kadid10k": make_kadid,
    "csiq": make_csiq,
    "live": make_live,
    "pipal": make_pipal,
}


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    """Return a function that makes a database, each only once."""
    root, made = tmp_path_factory.mktemp("databases"), {}

    def make(name):
        if name not in made:
            made[name] = root / name
            MAKERS[name](made[name])
        return made[name]

    return make


@pytest.mark.parametrize("name", MAKERS)
def test_a_complete_database_is_read_completely(databases, name):
    found = read_database(name, databases(name))
    facts = FACTS[name]
    assert len(found.pairs) == facts.pairs
    assert len({pair.reference for pair in found.pairs}) == facts.references
    assert len({pair.distorted for pair in found.pairs}) == facts.pairs
    assert found.problems == ()
    assert all(pair.distortion for pair in found.pairs)


def test_values_belong_to_their_files(databases):
    by_name = {p.distorted.name: p for p in read_database("tid2013", databases("tid2013")).pairs}
    pair = by_name["i07_24_3.bmp"]
    assert (pair.opinion, pair.level, pair.distortion) == (5.094, 3, "sparse sampling")
    assert pair.reference.name == "I07.BMP"
    by_name = {p.distorted.name: p for p in read_database("kadid10k", databases("kadid10k")).pairs}
    assert by_name["I02_01_05.png"].opinion == pytest.approx(0.98)
    by_name = {p.distorted.name: p for p in read_database("csiq", databases("csiq")).pairs}
    pair = by_name["1600.AWGN.3.png"]
    assert (pair.opinion, pair.distortion, pair.level) == (0.3, "awgn", 3)
    live = read_database("live", databases("live")).pairs
    first = live[0]  # the 204th entry, a jp2k image
    assert (first.distorted.name, first.reference.name) == ("img204.bmp", "ref0.bmp")
    assert first.opinion == pytest.approx(100 * 203 / 981)
    assert live[-1].distorted.parent.name == "fastfading"
    pipal = read_database("pipal", databases("pipal")).pairs
    assert (pipal[0].opinion, pipal[0].distorted.parent.name) == (1400.5, "Distortion_1")
    assert [FACTS[n].higher_is for n in ("kadid10k", "csiq")] == ["better", "worse"]


def test_observer_noise_belongs_to_its_files(databases):
    for name, levels, ratings in (("tid2008", 4, 33), ("tid2013", 5, 36)):
        pairs = read_database(name, databases(name)).pairs
        by_name = {pair.distorted.name: pair for pair in pairs}
        line = (6 * (len(pairs) // 25 // levels) + 11) * levels + 2  # from 0
        pair = by_name["i07_12_3.bmp"]
        assert pair.ratings == ratings
        # What is shipped is the standard error of the mean.
        assert pair.opinion_sd / ratings**0.5 == pytest.approx(0.1 + line / 1e4)
    kadid = read_database("kadid10k", databases("kadid10k")).pairs[7]
    assert (kadid.opinion_sd, kadid.ratings) == (0.5, 30)
    csiq = read_database("csiq", databases("csiq")).pairs[7]
    assert (csiq.opinion_sd, csiq.ratings) == (0.1, None)
    live = read_database("live", databases("live")).pairs[0]
    assert (live.opinion_sd, live.ratings) == (pytest.approx(5 + 5 * 203 / 981), None)
    pipal = read_database("pipal", databases("pipal")).pairs[0]
    assert (pipal.opinion_sd, pipal.ratings) == (None, None)


def test_databases_without_observer_noise_are_read_as_well(broken):
    (broken / "mos_std.txt").unlink()
    found = read_database("tid2008", broken)
    assert {(pair.opinion_sd, pair.ratings) for pair in found.pairs} == {(None, None)}


def test_observer_noise_that_does_not_fit_is_a_problem(broken):
    noise = broken / "mos_std.txt"
    lines = noise.read_text().splitlines()
    noise.write_text("\n".join(["-1", "much", *lines[2:]]))
    found = read_database("tid2008", broken, complete=False)
    assert [p.what for p in found.problems] == ["mos_std.txt, line 1", "mos_std.txt, line 2"]
    assert [pair.opinion_sd is None for pair in found.pairs[:3]] == [True, True, False]
    noise.write_text("\n".join(lines[1:]))
    with pytest.raises(
        DatasetError, match=r"expected 1700 lines, as in mos_with_names\.txt, got 1699"
    ):
        read_database("tid2008", broken)


@pytest.fixture
def broken(tmp_path):
    """A copy of TID2008 that a test may break."""
    folder = tmp_path / "download" / "TID2008"
    make_tid(folder, 17, 4)
    return folder


def test_what_is_missing_or_renamed_is_named(broken):
    (broken / "distorted_images" / "i03_05_2.bmp").unlink()
    (broken / "distorted_images" / "i04_05_2.bmp").rename(broken / "distorted_images" / "x.bmp")
    (broken / "reference_images" / "I09.BMP").unlink()
    opinions = broken / "mos_with_names.txt"
    lines = opinions.read_text().splitlines()
    lines[0], lines[1] = "many I01_01_1.bmp", "5.5 I99_01_1.bmp"
    opinions.write_text("\n".join(lines))
    with pytest.raises(DatasetError, match=r"TID2008 .* is not complete: missing: .*and 2 more"):
        read_database("tid2008", broken)
    found = read_database("tid2008", broken, complete=False)
    assert len(found.pairs) == 1700 - 2 - 68 - 2
    assert {(problem.kind, problem.what) for problem in found.problems} == {
        ("missing", "distorted_images/i03_05_2.bmp"),
        ("missing", "distorted_images/i04_05_2.bmp"),
        ("missing", "reference_images/I09.BMP"),
        ("opinion", "mos_with_names.txt, line 1"),
        ("opinion", "i01_01_1.bmp"),
        ("opinion", "i01_01_2.bmp"),
        ("unexpected", "i99_01_1.bmp"),
    }


def test_letter_case_and_an_enclosing_folder_do_not_matter(broken):
    for folder in ("reference_images", "distorted_images"):
        (broken / folder).rename(broken / folder.upper())
    (broken / "mos_with_names.txt").rename(broken / "MOS_with_names.TXT")
    assert len(read_database("tid2008", broken.parent).pairs) == 1700


def test_linked_folders_are_followed(broken, tmp_path):
    (broken / "distorted_images").rename(tmp_path / "elsewhere")
    (broken / "distorted_images").symlink_to(tmp_path / "elsewhere")
    (broken / "distorted_images" / "back").symlink_to(broken)
    assert len(read_database("tid2008", broken).pairs) == 1700


def test_two_databases_side_by_side_must_be_told_apart(databases, broken):
    other = broken.parent / "TID2013"
    other.symlink_to(databases("tid2013"))
    with pytest.raises(DatasetError, match=r"more than one such database: pass one of .*TID2008, "):
        read_database("tid2013", broken.parent)
    assert len(read_database("tid2013", other).pairs) == 3000


def test_damaged_images_are_found(broken):
    target = broken / "distorted_images" / "i03_05_2.bmp"
    target.unlink()
    target.write_bytes(b"BM")
    other = broken / "distorted_images" / "i03_05_3.bmp"
    other.unlink()
    Image.new("RGB", (5, 3)).save(other)
    told = []
    found = check_database("tid2008", broken, lambda *state: told.append(state))
    assert [problem.kind for problem in found.problems] == ["unreadable", "size"]
    assert found.problems[0].what == str(target)
    assert found.problems[1].why == "5x3; its reference is 4x3"
    assert told[-1] == (1725, 1725)
    result = CliRunner().invoke(app, ["datasets", "check", "tid2008", str(broken)])
    assert result.exit_code == 1
    for words in ("unreadable", "i03_05_2.bmp", "1700 of 1700 pairs, 2 problems", "better"):
        assert words in result.stdout
    result = CliRunner().invoke(app, ["datasets", "check", "tid2008", str(broken), "--json"])
    assert [p["kind"] for p in json.loads(result.stdout)["problems"]] == ["unreadable", "size"]


def test_the_command_line(databases, tmp_path):
    listed = CliRunner().invoke(app, ["datasets", "list", "--json"]).stdout
    assert [row["name"] for row in json.loads(listed)] == [r.name for r in all_databases()]
    assert {row["name"] for row in json.loads(listed)} >= {*MAKERS, "bapps_2afc", "bapps_jnd"}
    assert "KADID-10k" in CliRunner().invoke(app, ["datasets", "list"]).stdout
    result = CliRunner().invoke(app, ["datasets", "check", "live", str(databases("live"))])
    assert (result.exit_code, "whole" in result.stdout) == (0, True)
    for arguments, words in (
        (["tid2013", str(tmp_path)], "contains no mos_with_names.txt"),
        (["tid2013", str(tmp_path / "gone")], "is not a folder"),
        (["tid2014", str(tmp_path)], "did you mean 'tid2013'"),
    ):
        result = CliRunner().invoke(app, ["datasets", "check", *arguments])
        assert (result.exit_code, words in " ".join(result.stderr.split())) == (2, True)


def test_files_of_another_format_are_refused(tmp_path):
    for name, file, words in (
        ("csiq", "csiq.DMOS.xlsx", "can't be read as a spreadsheet"),
        ("live", "dmos_realigned.mat", "can't be read as a MATLAB file"),
        ("kadid10k", "dmos.csv", "no column dist_img"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / file).write_text("something else\n")
        with pytest.raises(DatasetError, match=words):
            read_database(name, folder)
    book = Workbook()
    book.save(tmp_path / "csiq" / "csiq.DMOS.xlsx")
    with pytest.raises(DatasetError, match="no sheet 'all_by_image'"):
        read_database("csiq", tmp_path / "csiq")
    book.active.title = "all_by_image"
    book.save(tmp_path / "csiq" / "csiq.DMOS.xlsx")
    with pytest.raises(DatasetError, match="no header row with the columns"):
        read_database("csiq", tmp_path / "csiq")
    content = bytearray((tmp_path / "csiq" / "csiq.DMOS.xlsx").read_bytes())
    place = content.index(b"xl/worksheets/sheet1.xml") + 40
    content[place : place + 60] = bytes(60)
    (tmp_path / "csiq" / "csiq.DMOS.xlsx").write_bytes(content)
    with pytest.raises(DatasetError, match="can't be read as a spreadsheet"):
        read_database("csiq", tmp_path / "csiq")
    scipy.io.savemat(tmp_path / "live" / "dmos_realigned.mat", {"dmos": np.ones(3)})
    with pytest.raises(DatasetError, match="no matrix dmos_new, orgs"):
        read_database("live", tmp_path / "live")
    with pytest.raises(UnknownNameError) as caught:
        read_database("tid", tmp_path)
    assert caught.value.code == "unknown_database"


# A table of one's own -----------------------------------------------------------------------------


def test_a_table_of_ones_own_is_a_database(tmp_path):
    Maker(tmp_path / "images").image("a.png")
    rows = [
        ["reference", "distorted", "dmos", "distortion", "level"],
        ["images/a.png", "images/a.png", "12.5", "blur", "2"],
        ["images/a.png", "images/a.png", "1", "", ""],
    ]
    path = tmp_path / "mine.csv"

    def write():
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)

    write()
    found = read_opinions(path, "worse", "dmos")
    assert [(p.opinion, p.distortion, p.level) for p in found.pairs] == [
        (12.5, "blur", 2.0),
        (1.0, "", None),
    ]
    assert (found.facts.name, found.facts.higher_is, found.facts.range) == (
        *("mine", "worse", (1.0, 12.5)),
    )
    rows += [
        ["images/a.png", "images/gone.png", "3", "", ""],
        ["images/a.png", "x", "good", "", ""],
    ]
    write()
    with pytest.raises(DatasetError) as caught:
        read_opinions(path, "worse", "dmos")
    assert [(p.kind, p.what) for p in caught.value.problems] == [
        ("missing", str(tmp_path / "images/gone.png")),
        ("opinion", "mine.csv, row 5"),
    ]
    with pytest.raises(PairsError, match="no column mos"):
        read_opinions(path, "worse", "mos")
    with pytest.raises(ValueError, match="expected 'better' or 'worse'"):
        read_opinions(path, "higher", "dmos")


def test_real_opinions_agree_with_a_real_metric(live):
    found = read_opinions(live / "pairs.csv", "worse", "dmos")
    assert (len(found.pairs), found.facts.references) == (76, 4)


# The ladder -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp("ladder"))


def test_the_ladder_is_a_database_like_others(ladder):
    assert (len(ladder.pairs), len({pair.reference for pair in ladder.pairs})) == (320, 8)
    assert "not human ratings" in ladder.facts.title
    for pair in ladder.pairs:
        with Image.open(pair.reference) as reference, Image.open(pair.distorted) as distorted:
            assert reference.size == distorted.size
            assert reference.mode == distorted.mode == "RGB"


def test_each_ladder_is_climbed_rung_by_rung(ladder):
    """The mean squared error rises with the rung, for each photograph and each degradation."""
    errors = {}
    for pair in ladder.pairs:
        x, y = (np.asarray(Image.open(p), dtype=float) for p in (pair.reference, pair.distorted))
        errors.setdefault((pair.reference, pair.distortion), []).append(np.square(x - y).mean())
    assert len(errors) == 64
    for rungs in errors.values():
        assert rungs[0] > 0
        assert rungs == sorted(rungs)


def test_a_photograph_keeps_its_images_when_others_are_added(ladder):
    """Noise is seeded by the photograph's place, so the first four are as they always were."""
    names = list(dict.fromkeys(pair.reference.stem for pair in ladder.pairs))
    assert names[:4] == ["astronaut", "chelsea", "coffee", "rocket"]
    noisy = next(p for p in ladder.pairs if p.distorted.name == "coffee_white_noise_1.png")
    x, y = (np.asarray(Image.open(p), dtype=float) for p in (noisy.reference, noisy.distorted))
    inside = (x > 30) & (x < 225)
    expected = np.random.default_rng(231).normal(0, 4, (*x.shape[:2], 1))
    assert np.abs(y - x - expected)[inside].max() <= 0.5


def test_the_ladder_is_made_once_and_the_same_everywhere(ladder, tmp_path):
    folder = ladder.pairs[0].reference.parent
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert make_ladder(folder) == ladder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    again = make_ladder(tmp_path / "other")
    for here, there in zip(ladder.pairs, again.pairs, strict=True):
        assert here.distorted.read_bytes() == there.distorted.read_bytes()
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="can't be written to"):
        make_ladder(tmp_path / "file")


# BAPPS --------------------------------------------------------------------------------------------


@pytest.fixture
def bapps(tmp_path):
    maker = Maker(tmp_path / "dataset")
    for below, parts, images, answers in (
        (
            *("2afc/val", ("traditional", "cnn", "superres", "deblur", "color", "frameinterp")),
            *(("ref", "p0", "p1"), "judge"),
        ),
        ("jnd/val", ("traditional", "cnn"), ("p0", "p1"), "same"),
    ):
        for part in parts:
            for number in range(3):
                for kind in images:
                    maker.image(f"{below}/{part}/{kind}/{number:06}.png")
                answer = maker.folder / f"{below}/{part}/{answers}/{number:06}.npy"
                answer.parent.mkdir(exist_ok=True)
                np.save(answer, np.float32([number / 4]))
    return maker.folder


def test_2afc_and_jnd_judgements_are_read(bapps):
    judgements = read_2afc(bapps, complete=False)
    assert len(judgements) == 18
    with pytest.raises(DatasetError, match="expected 36344, got 18"):
        read_2afc(bapps)
    assert (judgements[1].chose_second, judgements[1].distortion) == (0.25, "traditional")
    assert judgements[1].second == bapps / "2afc/val/traditional/p1/000001.png"
    same = read_jnd(bapps)
    assert [s.said_same for s in same] == [0, 0.25, 0.5] * 2


def test_bapps_is_read_as_pairs_with_shares_of_people(bapps):
    with pytest.raises(DatasetError, match="expected 36344, got 18"):
        read_database("bapps_2afc", bapps)
    found = read_database("bapps_2afc", bapps, complete=False)
    assert found.facts.asked == "2afc"
    first, second = found.pairs[2:4]
    assert first.reference == second.reference == bapps / "2afc/val/traditional/ref/000001.png"
    assert [one.distorted.parent.name for one in (first, second)] == ["p0", "p1"]
    assert (first.opinion, second.opinion) == (0.75, 0.25)
    same = read_database("bapps_jnd", bapps)
    assert [pair.opinion for pair in same.pairs] == [0, 0.25, 0.5] * 2
    checked = check_database("bapps_jnd", bapps)
    assert (len(checked.pairs), checked.problems) == (6, ())


def test_a_broken_bapps_says_what_is_wrong(bapps):
    (bapps / "2afc/val/cnn/p1/000002.png").unlink()
    (bapps / "2afc/val/cnn/judge/000001.npy").unlink()
    (bapps / "2afc/val/color/judge/000001.npy").write_bytes(b"no array")
    np.save(bapps / "2afc/val/deblur/judge/000000.npy", np.float32([7]))
    with pytest.raises(DatasetError) as caught:
        read_2afc(bapps)
    assert {(p.kind, p.what) for p in caught.value.problems} == {
        ("missing", "2afc/val/cnn/p1/000002.png"),
        ("missing", "2afc/val/cnn/judge/000001.npy"),
        ("unreadable", str(bapps / "2afc/val/color/judge/000001.npy")),
        ("opinion", str(bapps / "2afc/val/deblur/judge/000000.npy")),
    }
    with pytest.raises(DatasetError, match="contains no jnd/val/"):
        read_jnd(bapps / "2afc")
