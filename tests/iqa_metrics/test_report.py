"""The report of a study: the page says what its tables say, and is accessible."""

import csv
import dataclasses
import html
import itertools
import json
import math
import re
import shutil
import subprocess
import sys

import matplotlib
import numpy as np
import pyarrow.parquet
import pytest
import study_tables
from study_pages import text_of, words_of
from study_tables import backbone, database, networks, write_csv, write_study

from iqa_metrics.report import ReportError, figures, page, summary, wording, write_report
from iqa_metrics.report.distances import chosen, read_points
from iqa_metrics.report.tables import read_study
from iqa_metrics.study.distances import Series

PUBLISHED = "model,layer,readout,database,abs_plcc,abs_srocc,source\n"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of one database, three backbones and their controls, with its report."""
    folder = write_study(tmp_path_factory.mktemp("one") / "study")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def pooled(tmp_path_factory):
    """A study with pooled rows; one of its two databases has severities and failed pairs."""
    folder = write_study(
        tmp_path_factory.mktemp("two") / "study",
        databases=[
            database(),
            database(
                "ladder", title="The ladder", higher_is="worse", references=4, opinion=False,
                failed=7,
            ),
        ],
    )  # fmt: skip
    write_report(folder)
    return folder


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names_of(folder):
    return {path.stem for path in (folder / "figures").iterdir()}


def small(folder, **changes):
    """Write a study of one backbone, which is quick to draw."""
    return write_study(folder, **{"backbones": networks(1, untrained=False)} | changes)


def test_each_figure_is_there_as_svg_png_and_pdf(study):
    names = {
        *("depth", "models", "factors", "readouts", "own-task", "distortions", "pairs"),
        "published",
    }
    assert names_of(study) == {f"{name}-tid2013" for name in names}
    for name in names_of(study):
        svg = (study / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        assert "<text" not in svg, "text is drawn as paths, so that no font is needed"
        assert (study / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        pdf = (study / "figures" / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        assert b"/Type3" not in pdf, "journals refuse fonts of Type 3"


def test_the_summary_agrees_with_the_tables(study):
    won = {row["among"]: row for row in rows_of(study / "winners.csv")}
    words = words_of(study)
    assert "3 trained backbones with 30 layers, 3 untrained controls and 5 baselines" in words
    assert "144 pairs of 12 reference images" in words

    def said(among):
        row = won[among]
        value, low, high = (float(row[name]) for name in ("held_out", "low", "high"))
        return f"{value:.3f} (interval {low:.3f} to {high:.3f})"

    best = won["backbones"]
    assert (
        f"On TID 2013, the best of {best['candidates']} series of untuned backbones, layers and "
        f"readouts is {best['backbone']}:{best['layer']}:{best['readout']}; judged on reference "
        f"images that the choice did not see, the agreement is {said('backbones')}. It is the "
        "choice for 75 % of the reference images that are left out. The best of 3 baselines that "
        f"were not tuned, {won['baselines']['backbone']}, reaches {said('baselines')}, judged in "
        "the same way. The best of 2 series that were tuned on human ratings or learned from the "
        f"scores, {won['tuned']['backbone']}, reaches {said('tuned')}, judged in the same way."
    ) in words
    assert (
        "Of 3 claims, 1 is supported, 1 is contradicted, none is undecided and 1 was not tested."
    ) in words
    assert "no jigsaw network was measured Get it: iqa weights get resnet50.jigsaw" in words
    assert "Margin: ±0.02." in words
    assert words.count("preprint, journal") == 3
    assert "no human ratings" not in words
    assert "rough" not in words
    assert "No pairs failed" in words


def test_severity_few_references_and_failures_are_reported(pooled):
    words = words_of(pooled)
    assert "There are no human ratings for The ladder" in words
    assert "The ladder has only 4 reference images: its intervals are rough" in words
    assert "7 pairs have no value in at least one layer" in words
    assert "Fisher" in words
    assert "On all databases, pooled, " in words
    # A pooled figure where there are pooled rows, else one per database.
    names = names_of(pooled)
    assert {"depth-pooled", "models-pooled", "factors-pooled", "own-task-pooled"} <= names
    assert {"pairs-tid2013", "pairs-ladder", "distortions-tid2013"} <= names
    assert "depth-tid2013" not in names
    assert "The same claims on each database" in words


def test_agreement_is_positive_whatever_the_direction(pooled):
    read = read_study(pooled)
    signs = {
        (row.database, row.backbone): math.copysign(1, row.srocc)
        for row in read.correlations
        if not row.distortion and row.layer in ("", "pool3")
    }
    assert signs["tid2013", "vgg16"] == signs["pooled", "ssim"] == signs["ladder", "psnr"] == -1
    assert signs["tid2013", "ssim"] == signs["pooled", "vgg16"] == signs["ladder", "dists"] == 1
    for row in read.correlations:
        if not row.distortion:
            one = read.agreement(row)
            assert one.low < one.value < one.high
            assert one.value > 0


def test_databases_with_the_same_title_have_different_labels(study):
    read = read_study(study)
    twice = (read.databases[0], dataclasses.replace(read.databases[0], name="again"))
    described = dataclasses.replace(read.description, databases=twice)
    read = dataclasses.replace(read, description=described)
    assert read.label("again") == "TID 2013 (again)"
    assert read.heading("pooled") == "All databases, pooled"
    assert read.file_name("again") != read.file_name("tid2013")


def test_comparisons_are_counted_by_question_and_verdict(study):
    rows = rows_of(study / "comparisons.csv")
    text = html.unescape(text_of(study))
    for questions in (("goal", "architecture"), ("layer", "descriptors")):
        of = [row for row in rows if row["question"] in questions]
        widest = max(of, key=lambda row: abs(float(row["difference"])))
        (alt,) = re.findall(rf'alt="(Forest plot [^"]*{" and ".join(questions)}: [^"]*)"', text)
        assert f"{len(of)} comparisons" in alt
        count = sum(row["verdict"] == "undecided" for row in of)
        assert f"undecided in {count}." in alt
        assert f"largest difference is {wording.signed(float(widest['difference']))} " in alt


def test_the_same_tables_give_the_same_bytes(study, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(study, again, ignore=shutil.ignore_patterns("figures", "report.html"))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        write_report(again)
        assert matplotlib.rcParams["font.size"] == 30
    for path in sorted((study / "figures").iterdir()):
        assert (again / "figures" / path.name).read_bytes() == path.read_bytes(), path.name
    assert (again / "report.html").read_bytes() == (study / "report.html").read_bytes()


def test_names_of_databases_may_be_anything(tmp_path):
    names = ("../a b", "A-B", "a b", "pooled!", "日本")
    databases = [database(name, title=name, references=4) for name in names]
    folder = small(tmp_path / "study", databases=databases, baselines=(), kinds=("$_{", "$^"))
    write_report(folder)
    ends = {name.removeprefix("pairs-") for name in names_of(folder) if name.startswith("pairs-")}
    assert len(ends) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_-]*(\.\d)?", end) for end in ends)
    assert {path.name for path in tmp_path.iterdir()} == {"study"}
    assert {path.suffix for path in folder.iterdir() if path.is_file()} == {
        *(".json", ".csv", ".parquet", ".html"),
    }


def test_names_are_never_markup(tmp_path):
    evil = "<script>alert(1)</script>"
    folder = small(
        tmp_path / "evil",
        backbones=[backbone(evil, 'A "family" & <b>more</b>', note="$x^2$ 'quoted'")],
        databases=[database(title="<img src=x onerror=alert(2)>")],
        kinds=("<i>blur</i>", "$noise"),
    )
    write_report(folder)
    text, scripts = text_of(folder).split("<script", 1)
    assert not set("<>&") & set(scripts.split(">", 1)[1].split("</script>")[0])
    assert evil not in text
    assert "onerror" not in re.sub(r"&lt;img src=x onerror=alert\(2\)&gt;", "", text)
    assert "<i>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.mark.parametrize(
    ("changes", "there", "gone"),
    [
        ({"baselines": ()}, "No baselines were measured.", "SSIM 0"),
        ({"kinds": ()}, "for two or more kinds of distortion", "distortions-tid2013"),
        ({"intervals": False}, "TID 2013 has no intervals: none could be computed", " nan "),
        ({}, "Fewer than three backbones have the same kind of score", "own-task-tid2013"),
        (
            {"databases": [database(references=1)], "held_out": False},
            f"TID 2013 has no intervals: {study_tables.TOO_FEW}.",
            "No backbones were measured",
        ),
    ],
)
def test_studies_that_lack_something_have_a_report(tmp_path, changes, there, gone):
    folder = small(tmp_path / "study", **changes)
    write_report(folder)
    words = words_of(folder)
    assert there in words
    assert gone not in words
    assert gone not in names_of(folder)
    assert {"depth-tid2013", "models-tid2013", "pairs-tid2013"} <= names_of(folder)


def damage_json(change):
    def damaged(folder):
        record = json.loads((folder / "study.json").read_text())
        change(record)
        (folder / "study.json").write_text(json.dumps(record))

    return damaged


def without_column(name, column):
    def damaged(folder):
        rows = rows_of(folder / name)
        for row in rows:
            del row[column]
        study_tables.write_csv(folder / name, rows)

    return damaged


def with_value(name, column, value):
    def damaged(folder):
        rows = rows_of(folder / name)
        rows[0][column] = value
        study_tables.write_csv(folder / name, rows)

    return damaged


def without_distances(folder):
    path = folder / "distances.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).drop_columns(["value"]), path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "study.json").unlink(), r"study\.json: no such file"),
        (lambda folder: (folder / "study.json").write_text("{"), r"can't be read as JSON"),
        (damage_json(lambda r: r.update(format="2")), r"format: expected 'iqa.*1', got '2'"),
        (damage_json(lambda r: r.pop("title")), r"expected the key 'title', got only format"),
        (damage_json(lambda r: r["settings"].pop("readouts")), r"expected the key 'readouts'"),
        (damage_json(lambda r: r["settings"].update(margin=7)), r"settings: margin: expected a"),
        (
            damage_json(lambda r: r["backbones"][0].update(weighted_layers="16")),
            r"backbones\[0\]\.weighted_layers: expected int . None, got '16'",
        ),
        (
            damage_json(lambda r: r["backbones"][0]["layers"][1].update(depth="deep")),
            r"backbones\[0\]\.layers\[1\]\.depth: expected float, got 'deep'",
        ),
        (
            damage_json(lambda r: r["databases"][0].update(higher_is="sharper")),
            r"higher_is of tid2013: expected better or worse, got 'sharper'",
        ),
        (damage_json(lambda r: r["databases"][0].update(pairs=True)), r"expected int, got True"),
        (lambda folder: (folder / "claims.csv").unlink(), r"claims\.csv: no such file"),
        (without_column("models.csv", "best_depth"), r"models\.csv: missing columns best_depth"),
        (without_column("correlations.csv", "srocc"), r"correlations\.csv: missing columns srocc"),
        (
            with_value("correlations.csv", "krocc", "high"),
            r"correlations\.csv, line 2: krocc: expected a number, got 'high'",
        ),
        (
            with_value("comparisons.csv", "verdict", "draw"),
            r"comparisons\.csv, line \d+: verdict: expected first or second.*got 'draw'",
        ),
        (with_value("claims.csv", "verdict", "yes"), r"claims\.csv, line \d+: verd.*got 'yes'"),
        (lambda folder: (folder / "distances.parquet").unlink(), r"expected the table of dist"),
        (
            lambda folder: (folder / "distances.parquet").write_bytes(b"PAR1 no"),
            r"can't be read as Parquet",
        ),
        (without_distances, r"distances\.parquet: .*no value in database"),
    ],
)
def test_invalid_tables_are_refused(tmp_path, damage, words):
    folder = small(tmp_path / "study", kinds=(), baselines=())
    damage(folder)
    with pytest.raises(ReportError, match=words) as caught:
        write_report(folder)
    assert caught.value.code == "bad_study"
    assert not (folder / "report.html").exists()


def test_only_the_requested_series_is_read(study):
    read = read_study(study)
    rows = pyarrow.parquet.read_table(study / "distances.parquet").to_pylist()
    for series in (Series("vgg16", "pool3", "euclidean", 1.0), Series("psnr", "", "", math.nan)):
        points = read_points(read, "tid2013", series)
        of = [
            row for row in rows
            if (row["backbone"], row["layer"] or "") == (series.backbone, series.layer)
            and row["value"] is not None
        ]  # fmt: skip
        assert len(of) == 143, "one of 144 failed"
        assert points.distance.tolist() == [row["value"] for row in of]
        assert points.opinion.tolist() == [row["opinion"] for row in of]
        assert list(points.distortion) == [row["distortion"] for row in of]


def test_the_series_is_the_best_or_the_requested_one(study, tmp_path):
    read = read_study(study)
    best = max((m for m in read.models if m.readout), key=lambda m: m.held_out)
    assert chosen(read, "tid2013", None) == Series(
        best.backbone, best.best_layer, best.readout, best.best_depth
    )
    assert chosen(read, "tid2013", "psnr") == Series("psnr", "", "", math.nan)
    asked = "vgg16:pool1:euclidean"
    folder = small(tmp_path / "study")
    write_report(folder, metric=asked)
    assert f"opinion against {asked}." in words_of(folder) or f"against {asked}" in text_of(folder)
    for wrong in ("vgg16", "vgg16:pool9:euclidean", "nothing:pool1:euclidean", "vgg16:pool1:"):
        with pytest.raises(ReportError, match="expected BACKBONE:LAYER:READOUT"):
            chosen(read, "tid2013", wrong)


def test_published_values_are_shown_beside_ours(tmp_path):
    folder = small(tmp_path / "study")
    path = tmp_path / "published.csv"
    path.write_text(
        PUBLISHED
        + "VGG-16 ImageNet,block2_conv1,euclidean,TID-2013,0.7,0.75,somebody\n"
        + "VGG-16 ImageNet,block3_pool,euclidean,tid 2013,0.7,0.76,somebody\n"
        + "VGG-16 ImageNet,block3_pool,cosine,TID2013,0.7,0.111,another readout\n"
        + "VGG-16 ImageNet,block3_pool,euclidean,KADID-10k,0.7,0.222,another database\n"
        + "piq MultiScaleSSIMLoss,,,TID2013,0.7,0.77,somebody\n"
        + "piq LPIPS,,,TID2013,,0.78,somebody\n"
        + "piq PieAPP,,,TID2013,0.7,0.333,another metric\n"
    )
    write_report(folder, published=path, known_values=False)
    (table,) = re.findall(
        r"<caption>Published values and ours, TID 2013</caption>.*?</table>",
        text_of(folder),
        re.DOTALL,
    )
    ours = {
        (row["backbone"], row["layer"]): abs(float(row["srocc"]))
        for row in rows_of(folder / "correlations.csv")
        if not row["distortion"] and row["readout"] in ("", "euclidean")
    }
    body = table.split("<tbody>")[1]
    found = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in body.split("<tr>")[1:]]
    expected = {
        "vgg16:relu2_1:euclidean": (0.75, ours["vgg16", "relu2_1"]),
        "vgg16:pool3:euclidean": (0.76, ours["vgg16", "pool3"]),
        "ms_ssim": (0.77, ours["ms_ssim", ""]),
        "lpips_vgg": (0.78, ours["lpips_vgg", ""]),
    }
    assert [row[0] for row in found] == list(expected)
    for (theirs, mine), row in zip(expected.values(), found, strict=True):
        assert row[1:4] == [f"{theirs:.3f}", f"{mine:.3f}", wording.signed(mine - theirs)]


def test_published_values_that_match_nothing_or_are_no_numbers(tmp_path):
    folder = small(tmp_path / "study", kinds=(), baselines=())
    path = tmp_path / "published.csv"
    path.write_text(f"{PUBLISHED}piq SSIMLoss,,,TID2013,0.7,0.8,somebody\n")
    write_report(folder, published=path, known_values=False)
    assert "Nothing in published.csv was also measured in this study." in words_of(folder)
    path.write_text(f"{PUBLISHED}VGG-16 ImageNet,block3_pool,euclidean,tid2013,0.7,x,somebody\n")
    with pytest.raises(ReportError, match=r"line 2: abs_srocc: expected a number, got 'x'"):
        write_report(folder, published=path, known_values=False)
    path.write_text("model,layer\n")
    with pytest.raises(ReportError, match="missing columns readout"):
        write_report(folder, published=path, known_values=False)


def test_long_tables_are_linked_and_not_copied(tmp_path, monkeypatch):
    folder = small(tmp_path / "study")
    monkeypatch.setattr(page, "MOST_ROWS", 9)
    write_report(folder)
    text = text_of(folder)
    assert 'The table has 10 rows, which are too many for a page: see <a href="corr' in text
    count = len(rows_of(folder / "correlations.csv"))
    assert f"All {count} correlations, one per layer" in text


def test_missing_packages_are_named(tmp_path, monkeypatch):
    for name in ("matplotlib", "pyarrow", "vl_convert"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(
                ReportError, match=rf"{name.replace('_', '-')}.*pip install 'iqa-metrics\[study\]'"
            ):
                write_report(tmp_path)


def test_importing_loads_neither_torch_nor_matplotlib():
    code = (
        "import sys, iqa_metrics.report\n"
        "print({'torch', 'matplotlib', 'pyarrow', 'jinja2'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_labels_are_spread_and_keep_their_order():
    stream = np.random.default_rng(0)
    for many in (1, 2, 7, 15):
        wanted = stream.uniform(0, 1, many).tolist()
        places = figures.spread(wanted, 0.05, 0.0, 1.0)
        assert np.argsort(places).tolist() == np.argsort(wanted).tolist()
        assert all(b - a >= 0.05 - 1e-9 for a, b in itertools.pairwise(sorted(places)))
        assert min(places) >= -1e-9
        assert max(places) <= 1 + 1e-9
    assert figures.spread([0.2, 0.8], 0.05, 0, 1) == [0.2, 0.8]
    assert figures.spread([0.5, 0.5], 0.1, 0, 1) == pytest.approx([0.55, 0.45])


def test_numbers_are_written_with_true_signs():
    assert wording.number(-0.25, 2) == "−0.25"
    assert wording.number(-0.0001) == "0.000"
    assert wording.signed(0.0301) == "+0.030"
    assert wording.number(math.nan) == wording.number(None) == wording.interval(math.nan, 1) == "–"
    assert wording.listed(["a", "b", "c"]) == "a, b and c"
    assert wording.counted(1, "pair") == "1 pair"
    assert wording.counted(1200, "pair") == "1,200 pairs"


def column(one, name):
    """Return a column of the first sortable table, as texts."""
    return one.evaluate(
        """name => {
          const table = document.querySelector("#tables table.sortable");
          const heads = Array.from(table.tHead.rows[0].cells, cell => cell.innerText.trim());
          return Array.from(table.tBodies[0].rows, r => r.cells[heads.indexOf(name)].innerText);
        }""",
        name,
    )


def test_column_headings_sort(study, opened):
    one = opened(study)
    table = one.locator("#tables table.sortable").first
    head = table.locator("th", has=one.get_by_role("button", name="best", exact=True))
    before = column(one, "best")
    head.get_by_role("button").click()
    up = [float(text) for text in column(one, "best")]
    assert head.get_attribute("aria-sort") == "ascending"
    assert up == sorted(up)
    assert sorted(before) == sorted(column(one, "best"))
    head.get_by_role("button").focus()
    one.keyboard.press("Enter")
    down = [float(text) for text in column(one, "best")]
    assert head.get_attribute("aria-sort") == "descending"
    assert down == sorted(down, reverse=True)
    assert down != up
    # Baselines have no layers and come last in either direction.
    layers = table.get_by_role("button", name="layers", exact=True)
    for _ in range(2):
        layers.click()
        assert column(one, "layers")[-5:] == ["–"] * 5
    assert head.get_attribute("aria-sort") is None
    table.get_by_role("button", name="backbone", exact=True).click()
    assert column(one, "backbone") == sorted(column(one, "backbone"), key=str.lower)


def test_numbers_sort_as_numbers(study, opened):
    one = opened(study)
    one.locator("#own-task summary").click()
    table = one.locator("#own-task table.sortable")
    assert table.is_visible()
    one.locator("#tables summary", has_text="comparisons").click()
    one.locator("#tables table", has_text="All comparisons").get_by_role(
        "button", name="difference"
    ).click()
    cells = one.locator("#tables table", has_text="All comparisons").locator(
        "tbody td:nth-child(6)"
    )
    numbers = [float(text.replace("−", "-")) for text in cells.all_inner_texts()]
    assert min(numbers) < 0 < max(numbers)
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", ["study", "pooled"])
def test_the_page_is_accessible(which, width, opened, request):
    one = opened(request.getfixturevalue(which), width)
    one.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert one.evaluate("document.documentElement.scrollWidth") <= width
    assert one.evaluate("document.body.scrollWidth") <= width
    images = one.evaluate(
        """Array.from(document.images, i => [i.alt, i.naturalWidth,
           i.closest("figure").querySelector("figcaption").innerText,
           i.getBoundingClientRect().width, i.closest(".scroll").tabIndex])"""
    )
    assert len(images) == len(names_of(request.getfixturevalue(which)))
    for alt, natural, caption, shown, tab in images:
        assert len(alt) > 80
        assert re.search(r"\d", alt), "an alternative text has numbers"
        assert natural > 0
        assert len(caption) > 80
        assert shown >= 300
        assert tab == 0
    levels = one.evaluate(
        "Array.from(document.querySelectorAll('h1, h2, h3, h4'), h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    verdicts = one.locator("#claims .verdict").all_inner_texts()
    assert {text[1:].strip() for text in verdicts} == {"supported", "contradicted", "not tested"}
    # What was not tested stands apart from the verdicts.
    assert one.locator("#claims table .not-tested").count() == 0
    assert one.locator("#claims .untested .not-tested").count() == len(verdicts) / 3
    ids = one.evaluate("Array.from(document.querySelectorAll('[id]'), e => e.id)")
    assert len(ids) == len(set(ids))
    for target in one.evaluate("Array.from(document.links, a => a.getAttribute('href'))"):
        if target.startswith("#"):
            assert target[1:] in ids
        elif not target.startswith("data:"):
            assert (request.getfixturevalue(which) / target).is_file()
    assert one.evaluate("document.documentElement.lang") == "en"
    tables = one.evaluate(
        """Array.from(document.querySelectorAll("table"), t => [!!t.caption,
           Array.from(t.querySelectorAll("th")).every(h => h.scope)])"""
    )
    assert all(captioned and scoped for captioned, scoped in tables)


def test_hostile_names_do_nothing_in_a_browser(tmp_path, opened):
    folder = small(
        tmp_path / "evil",
        backbones=[backbone("<script>window.evil = 1</script>", "</style><b>x</b>")],
        databases=[database(title='"><img src=x onerror="window.evil = 2">')],
        kinds=(),
        baselines=(),
    )
    write_report(folder)
    one = opened(folder)
    assert one.evaluate("window.evil === undefined")
    assert "<script>window.evil = 1</script>" in one.locator("main").inner_text()


def test_a_page_without_human_ratings_speaks_of_severity_and_pools_no_kinds(tmp_path):
    one = database("ladder", title="The ladder", higher_is="worse", opinion=False)
    folder = write_study(tmp_path / "study", databases=[one], backbones=networks(3))
    write_report(folder)
    words = words_of(folder)
    assert "how well do distances in networks follow the severity of distortions?" in words
    for phrase in ("agree with people", "better with people", "people disagree"):
        assert phrase not in words
    section = words.split("Each point is a pair")[1].split("The numbers")[0]
    assert "no curve goes through all of them" in section
    assert "monotone logistic" not in words
    assert "RMSE of the curve" not in words
    within = section.split("SROCC within kinds and reference images, with its sign: ")[1]
    series = words.split("Pair by pair The ladder: ")[1].split(" ")[0]
    values = {
        ":".join((row.backbone, row.layer, row.readout)): row.srocc
        for row in read_study(folder).correlations
        if not row.distortion
    }
    assert float(within.split(" ")[0].rstrip(".").replace("−", "-")) == pytest.approx(
        values[series], abs=6e-4
    )


def test_the_first_sentence_about_the_best_stands_alone(tmp_path):
    """Without an untuned backbone, baselines come first."""
    folder = write_study(tmp_path / "study", backbones=networks(1))
    path = folder / "winners.csv"
    rows = [row for row in rows_of(path) if row["among"] != "backbones"]
    write_csv(path, rows)
    found = summary.summary(read_study(folder))[1]
    assert found.startswith("On TID 2013, the best of 3 baselines that were not tuned")
    assert "is ssim; judged on reference images that the choice did not see" in found
