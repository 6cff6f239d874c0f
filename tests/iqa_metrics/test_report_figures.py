"""Figures fit for a paper: their sizes and texts, and that nothing is hidden or cut."""

import base64
import csv
import dataclasses
import io
import itertools
import math
import re

import pyarrow.parquet
import pytest
import study_tables
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image
from study_tables import backbone, database, networks, write_study

from iqa_metrics.report import ReportError, ceilings, contents, figures, rows, write_report
from iqa_metrics.report.differences import FACTORS, READOUTS, draw
from iqa_metrics.report.tables import read_study
from iqa_metrics.study.rows import FIRST, UNDECIDED, Compared

CEILING = 0.97
LAYERS = ("relu1_1", "pool1", "pool2")


def with_ceiling(folder, value=CEILING, measure="srocc"):
    columns = ("database", "measure", "what", "value", "low", "high", "why")
    common = dict.fromkeys(columns, "") | {"database": "tid2013", "measure": measure}
    rows = [
        common | {"what": "mean of 30 observers", "value": 0.99},
        common | {"what": "one observer", "value": value},
    ]
    study_tables.write_csv(folder / "ceilings.csv", rows)


def compared(question, name, first, second, difference, verdict=FIRST):
    low, high = difference - 0.01, difference + 0.01
    return Compared(question, "tid2013", name, first, second, 100, difference, low, high, 0.01,
                    0.01, verdict)  # fmt: skip


def pictures_of(study):
    return [one for section in contents.drawn(study, None, None) for one in section.pictures]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """All pictures of a study of many networks with a noise ceiling, drawn but not written."""
    folder = write_study(
        tmp_path_factory.mktemp("figures") / "study",
        backbones=networks(25),
        kinds=tuple(f"kind_of_distortion_{i}" for i in range(12)),
    )
    with_ceiling(folder)
    with figures.style():
        pictures = pictures_of(read_study(folder))
        yield {one.name: one for one in pictures}


def axes_of(picture):
    return picture.drawing.axes


def texts_of(picture):
    """Return all texts that are drawn, with the box of each in pixels."""
    canvas = FigureCanvasAgg(picture.drawing)
    canvas.draw()  # it places the texts
    renderer = canvas.get_renderer()
    beyond = {
        label
        for axes in picture.drawing.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        for label in (tick.label1, tick.label2)
    }
    return [
        (text, Text.get_window_extent(text, renderer))  # without an annotation's line
        for text in picture.drawing.findobj(Text)
        if text.get_text().strip() and text.get_visible() and text not in beyond
    ]


def test_figures_are_as_wide_as_a_column_or_a_page_with_texts_of_8_points(drawn):
    widths = set()
    for one in drawn.values():
        written = figures.rendered(one.drawing)
        (width,) = re.findall(rb'<svg[^>]*? width="([\d.]+)pt"', written.svg)
        widths.add(round(float(width) / 72, 2))
        sizes = {text.get_fontsize() for text, _ in texts_of(one)}
        assert sizes == {8.0}, one.name
        with Image.open(io.BytesIO(written.png)) as image:
            assert image.width == pytest.approx(300 * float(width) / 72, abs=2)
        assert written.height < 9.7 * 96, f"{one.name} is taller than a page"
    assert widths == {figures.SINGLE, figures.DOUBLE}


def test_no_name_stands_on_the_axes_or_outside_the_figure(drawn):
    for one in drawn.values():
        if one.name.startswith(("models", "factors", "readouts")):
            areas = [axes.get_window_extent() for axes in axes_of(one)]
            for text, box in texts_of(one):
                weight = text.get_weight()
                for area in areas:
                    inside = min(box.x1, area.x1) - max(box.x0, area.x0)
                    up = min(box.y1, area.y1) - max(box.y0, area.y0)
                    # A heading interrupts the axes.
                    assert weight == "bold" or min(inside, up) < 1.5, (one.name, text.get_text())
        across = one.drawing.bbox.width
        for text, box in texts_of(one):
            assert box.x0 > -2, (one.name, text.get_text())
            assert box.x1 < across + 2, (one.name, text.get_text())


def test_texts_do_not_overlap(drawn):
    for one in drawn.values():
        for (first, a), (second, b) in itertools.combinations(texts_of(one), 2):
            wide = min(a.x1, b.x1) - max(a.x0, b.x0)
            high = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(wide, high) < 2, (one.name, first.get_text(), second.get_text())


def test_nothing_is_cut_at_the_axes(drawn):
    for one in drawn.values():
        for axes in axes_of(one):
            (left, right), (bottom, top) = axes.get_xlim(), sorted(axes.get_ylim())
            for line in axes.get_lines():
                if line.get_marker() in ("None", None, ""):
                    continue
                room = line.get_markersize() / 2 + line.get_markeredgewidth()
                place = axes.transData.transform(line.get_xydata())
                area = axes.get_window_extent()
                pixels = room * one.drawing.dpi / 72
                if not line.get_clip_on():
                    continue
                assert (place[:, 0] >= area.x0 + pixels * 0.9).all(), one.name
                assert (place[:, 0] <= area.x1 - pixels * 0.9).all(), one.name
                assert (place[:, 1] >= area.y0 + pixels * 0.9).all(), one.name
                assert (place[:, 1] <= area.y1 - pixels * 0.9).all(), one.name
            for group in axes.findobj(LineCollection):
                for segment in group.get_segments():
                    assert left <= segment[:, 0].min()
                    assert segment[:, 0].max() <= right
                    assert bottom <= segment[:, 1].min()
                    assert segment[:, 1].max() <= top


def test_the_curve_does_not_hide_the_points(drawn):
    (axes,) = axes_of(drawn["pairs-tid2013"])
    curves = [line for line in axes.get_lines() if line.get_linestyle() != "None"]
    assert len(curves) == 1
    assert curves[0].get_linewidth() <= 1
    assert curves[0].get_alpha() < 1
    assert to_hex(curves[0].get_color()) == figures.INK


def test_the_noise_ceiling_is_in_every_figure_of_agreement(drawn):
    showing = ("depth", "models", "own-task", "published")
    for one in drawn.values():
        at = [
            value
            for axes in axes_of(one)
            for line in axes.get_lines()
            if line.get_color() == ceilings.COLOUR and len(set(line.get_xdata())) <= 2
            for value in (*line.get_xdata(), *line.get_ydata())
        ]
        if one.name.startswith(showing):
            assert at.count(CEILING) == 2 * len(axes_of(one)), one.name
            assert "noise ceiling, 0.970: the agreement of one observer with" in one.caption
        else:
            assert CEILING not in at
            assert "noise ceiling" not in one.caption


def test_without_a_ceiling_there_is_no_line(tmp_path):
    folder = write_study(tmp_path / "study", backbones=networks(1), kinds=())
    with_ceiling(folder, 0.9, "plcc")
    assert read_study(folder).ceiling("tid2013") is None
    with figures.style():
        assert not any("ceiling" in one.caption for one in pictures_of(read_study(folder)))
    with_ceiling(folder, "high")
    with pytest.raises(ReportError, match=r"ceilings\.csv, line 3: value: expected a number"):
        read_study(folder)


def test_channel_weights_are_a_mean_per_network_with_its_layers(tmp_path):
    study = read_study(write_study(tmp_path / "study", kinds=(), baselines=()))
    names = [f"network_{i}" for i in range(30)]
    rows = [
        compared("channel_weights", name, f"learned weights, {layer}", "equal weights", 0.01 * at)
        for name in names
        for at, layer in enumerate(LAYERS)
    ]
    study = dataclasses.replace(study, comparisons=tuple(rows))
    with figures.style():
        (picture,) = draw(study, "tid2013", READOUTS, "readouts")
        lines = [line for axes in axes_of(picture) for line in axes.get_lines()]
        means = [line for line in lines if line.get_marker() == "|"]
        parts = [line for line in lines if line.get_marker() == ">"]
        written = {
            text.get_text() for text in picture.drawing.findobj(lambda a: hasattr(a, "get_text"))
        }
    assert len(means) == len(names)
    assert [float(line.get_xdata()[0]) for line in means] == pytest.approx([0.01] * len(names))
    assert len(parts) == len(rows), "no layer is left out"
    assert {f"{name} (3)" for name in names} <= written
    assert "mean of several comparisons" in picture.caption
    assert "only in the table" not in picture.caption


def test_too_many_comparisons_become_means_and_few_stay_single(tmp_path):
    study = read_study(write_study(tmp_path / "study", kinds=(), baselines=()))

    def forest(many):
        rows = [
            compared("goal", f"data {i}", "classification", "jigsaw", 0.001 * i, UNDECIDED)
            for i in range(many)
        ]
        with figures.style():
            (picture,) = draw(
                dataclasses.replace(study, comparisons=tuple(rows)), "tid2013", FACTORS, "factors"
            )
            lines = [line for axes in axes_of(picture) for line in axes.get_lines()]
        return [sum(line.get_marker() == mark for line in lines) for mark in ("o", "|")], picture

    assert forest(50)[0] == [50, 0]
    (singles, means), picture = forest(51)
    assert (singles, means) == (51, 1)
    assert "means" not in picture.alt
    assert len(picture.table.rows) == 51


def test_with_one_reference_values_are_drawn_and_the_captions_say_why(tmp_path):
    folder = write_study(
        tmp_path / "study", databases=[database(references=1)], held_out=False,
        backbones=networks(3),
    )  # fmt: skip
    study = read_study(folder)
    with figures.style():
        drawn = {one.name: one for one in pictures_of(study)}
        (axes,) = axes_of(drawn["models-tid2013"])
        shown = {
            round(float(line.get_xdata()[0]), 9)
            for line in axes.get_lines()
            if line.get_marker() in ("o", "^", "D")
        }
    plain = [row for row in study.models if row.readout in ("", "euclidean")]
    assert shown == {round(row.best, 9) for row in plain}
    for name in ("depth", "models", "factors", "readouts"):
        assert study_tables.TOO_FEW in drawn[f"{name}-tid2013"].caption, name
    assert "chosen and judged on the same images" in drawn["models-tid2013"].caption
    assert "chosen and judged on the same images" in drawn["own-task-tid2013"].caption
    assert {"pairs-tid2013", "distortions-tid2013"} <= set(drawn)


def table_in(text, name):
    """Return the CSV that the page holds for a figure."""
    (found,) = re.findall(
        rf'download="{re.escape(name)}\.csv" href="data:text/csv;base64,([^"]*)"', text
    )
    return list(csv.DictReader(io.StringIO(base64.b64decode(found).decode())))


def test_the_page_holds_the_numbers_of_each_figure_as_csv(tmp_path):
    folder = write_study(tmp_path / "study", backbones=[backbone("vgg16", "VGG")])
    write_report(folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert len(names) == text.count('.csv" href="data:')
    study = read_study(folder)
    rows = table_in(text, "models-tid2013")
    ours = {row.backbone: row for row in study.models if row.readout in ("", "euclidean")}
    assert {row["backbone"] for row in rows} == set(ours)
    for row in rows:
        model = ours[row["backbone"]]
        assert float(row["held out"]) == model.held_out, "all digits"
        assert float(row["interval, low"]) == model.held_out_low
        assert float(row["interval, high"]) == model.held_out_high
        assert row["best layer"] == model.best_layer
    points = table_in(text, "pairs-tid2013")
    (series,) = {key for key in points[0] if key.startswith("vgg16:")}
    layer = series.split(":")[1]
    known = {
        (row["reference"], row["distorted"]): (row["value"], row["opinion"])
        for row in pyarrow.parquet.read_table(folder / "distances.parquet").to_pylist()
        if (row["backbone"], row["layer"]) == ("vgg16", layer) and row["value"] is not None
    }
    assert len(points) == len(known) == 143
    for row in points:
        found = (float(row[series]), float(row["opinion"]))
        assert found == known[row["reference"], row["distorted"]]
        assert math.isfinite(float(row["curve"]))


def test_long_names_are_broken_and_keep_their_letters():
    name = "resnet50.colorization_yfcc100m_goyal19"
    lines = figures.wrapped(name, 1.2)
    assert len(lines) > 1
    assert "".join(lines) == name
    assert all(figures.width_of(line) <= 1.2 for line in lines)
    assert figures.wrapped("vgg16", 1.2) == ["vgg16"]
    assert figures.wrapped("", 1.2) == [""]
    assert figures.wrapped("one two", 0.01) == ["one", "two"]


@pytest.mark.parametrize("limits", [(-0.055, 0.055), (-0.4, 0.4), (0.93, 1.03), (-0.0051, 0.0049)])
def test_labels_of_ticks_do_not_run_into_each_other(limits):
    names = [rows.Row("a backbone with a rather long name, block3", "+0.003")]
    with figures.style():
        sheet = rows.sheet(names, limits=limits, label="difference", legend=[])
        sheet.figure.canvas.draw()
        (axes,) = sheet.columns
        shown = [
            one.get_window_extent()
            for one in axes.get_xticklabels()
            if limits[0] <= one.get_position()[0] <= limits[1]
        ]
    assert shown
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(shown))
