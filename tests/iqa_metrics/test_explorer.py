"""The interactive part of a report: what it offers, its pictures, and the page in a browser."""

import base64
import io
import json
import re
from importlib import resources

import numpy as np
import pytest
from PIL import Image
from scipy.stats import rankdata
from study_tables import backbone, database, networks, write_study

from iqa_metrics.report import exploring, offered, thumbnails, write_report
from iqa_metrics.report.tables import read_study
from iqa_metrics.report.thumbnails import Wanted
from iqa_metrics.study.distances import Series

PAIRS = 47  # of 48, one has no value in any series
ALL = {"database", "series", "distortion", "distorted", "reference", "theme"}


def write_images(folder, references):
    """Write the images that the tables of distances name: one colour each."""
    folder.mkdir()
    for reference in range(references):
        for name in (f"r{reference}", *(f"r{reference}_{pair}" for pair in range(12))):
            number = sum(name.encode())
            Image.new("RGB", (48, 32), (number % 256, 90, 160)).save(folder / f"{name}.png")


def pictured(folder, **changes):
    """Write a study whose images are in the folder beside it."""
    settings = {
        "databases": [database(references=4, folder="../images")],
        "backbones": networks(2, untrained=False),
    }
    return write_study(folder / "study", **settings | changes)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of one database with images, two backbones and five baselines, with its report."""
    folder = tmp_path_factory.mktemp("explored")
    write_images(folder / "images", 4)
    written = pictured(folder)
    write_report(written)
    return written


def text_of(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def data_of(folder):
    found = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text_of(folder))
    return json.loads(found[1])


def unpacked(packed):
    low, high, text = packed
    steps = np.frombuffer(base64.b64decode(text), "<u2").astype(float)
    return np.where(steps == 65535, np.nan, low + (high - low) * steps / 65534)


def notes_of(folder):
    return text_of(folder).split('id="explore"')[1].split("</section>")[0]


def test_baselines_and_the_best_and_last_layer_of_each_network_are_offered(study, monkeypatch):
    read = read_study(study)
    everything = offered.offers(read, "tid2013", None, 99)
    others = [one.series for one in everything if one.role == "other"]
    layers = {(row.backbone, row.layer) for row in read.correlations if row.layer}
    assert {(one.series.backbone, one.series.layer) for one in everything} >= layers
    assert {one.readout for one in others} == {"euclidean"}
    monkeypatch.setattr(offered, "MOST_OTHERS", len(layers) - 1)
    offers = offered.offers(read, "tid2013", None, 99)
    assert offers == everything[: -len(others)]
    names = [one.series.name for one in offers]
    assert len(set(names)) == len(names)
    roles = {one.series.name: one.role for one in offers}
    assert [name for name, role in roles.items() if role == "baseline"] == [
        *("ssim", "psnr", "ms_ssim", "lpips_vgg", "dists"),
    ]
    for model in read.models:
        if model.readout == "euclidean":
            for layer, role in ((model.best_layer, "best"), (model.last_layer, "last")):
                assert roles[f"{model.backbone}:{layer}:euclidean"] == role
    # The last layers go first.
    fewer = offered.offers(read, "tid2013", None, len(offers) - 1)
    assert [one.series for one in fewer] == [one.series for one in offers][:-1]
    assert offers[-1].role == "last"
    asked = offered.offers(read, "tid2013", "vgg16:pool1:gram", 99)
    assert ("vgg16:pool1:gram", "chosen") in [(one.series.name, one.role) for one in asked]


def test_the_page_has_the_values_of_the_table(study):
    (held,) = data_of(study)["databases"]
    read = read_study(study)
    wanted = [offered.series_of(row) for row in offered.whole_rows(read, "tid2013").values()]
    by_name = {one.name: one for one in wanted}
    assert held["total"] == PAIRS
    for one in held["series"]:
        rated = offered.read_rated(read, "tid2013", [by_name[one["name"]]])
        places = {
            (held["references"][reference], distorted): at
            for at, (reference, distorted) in enumerate(
                zip(held["reference"], held["distorted"], strict=True)
            )
        }
        at = [places[key] for key in zip(rated.references, rated.distorted, strict=True)]
        values, opinion = unpacked(one["values"]), unpacked(held["opinion"])
        step = (one["values"][1] - one["values"][0]) / 65534
        np.testing.assert_allclose(values[at], rated.values[0], rtol=0, atol=step)
        np.testing.assert_allclose(opinion[at], rated.opinion, rtol=0, atol=9 / 65534)
        assert [held["kinds"][held["kind"][i]] for i in at] == list(rated.kinds)
        row = offered.whole_rows(read, "tid2013")[by_name[one["name"]]]
        assert one["numbers"][""][:2] == [row.n, float(f"{row.srocc:.4g}")]
        low, high, centre, scale = one["curve"]
        predicted = low + (high - low) / (1 + np.exp(-(rated.values[0] - centre) / scale))
        assert np.corrcoef(predicted, rated.opinion)[0, 1] > 0.95


def test_gaps_are_differences_of_ranks():
    stream = np.random.default_rng(0)
    opinion, values = stream.integers(0, 6, 30).astype(float), stream.integers(0, 9, (2, 30)) * 1.0
    values[1, 4] = np.nan
    texts = ("",) * 30
    rated = offered.Rated(texts, texts, texts, opinion, values)
    described = type("Described", (), {"higher_is": "worse"})()
    found = offered.gaps(rated, described, [False, True])
    # The best image has the highest rank here: low opinions, small distances, large similarities.
    expected = (rankdata(-opinion) - rankdata(-values[0])) / 30
    np.testing.assert_allclose(found[0], expected)
    fine = np.isfinite(values[1])
    expected = (rankdata(-opinion[fine]) - rankdata(values[1][fine])) / 29
    np.testing.assert_allclose(found[1][fine], expected)
    assert np.isnan(found[1, 4])


def test_each_series_has_its_turn_at_the_disputed_pairs():
    gaps = np.array([[0.0, 0.5, -0.5, 0.1, np.nan], [0.4, 0.0, 0.0, 0.0, -0.1]])
    # The most underrated and the most overrated of the first series, then of the second.
    assert offered.most_disputed(gaps, 4) == [2, 1, 4, 0]
    assert offered.most_disputed(gaps, 99) == [2, 1, 4, 0, 3]
    assert offered.most_disputed(gaps[:, :0], 3) == []


def test_large_databases_are_sampled(study, monkeypatch):
    monkeypatch.setattr(exploring, "MOST_PAIRS", 20)
    read = read_study(study)
    found = exploring.exploring(read, None, pictures=False)
    (held,) = json.loads(found.data)["databases"]
    assert len(held["distorted"]) == 20
    assert held["total"] == PAIRS
    assert "Of the 47 pairs of TID 2013, 20 are here" in found.notes[0]
    rated = offered.read_rated(read, "tid2013", [Series("psnr", "", "", np.nan)])
    gaps = offered.gaps(rated, read.databases[0], [True])
    assert rated.distorted[int(np.nanargmax(gaps))] in held["distorted"]


def test_all_pairs_of_a_small_study_have_pictures(study):
    data = data_of(study)
    (held,) = data["databases"]
    assert len(held["pictured"]) == PAIRS
    assert len(data["pictures"]) == PAIRS + 4
    for at, (reference, distorted) in held["pictured"].items():
        for place, name in (
            (reference, held["references"][held["reference"][int(at)]]),
            (distorted, held["distorted"][int(at)]),
        ):
            encoded = base64.b64decode(data["pictures"][place])
            with Image.open(io.BytesIO(encoded)) as small:
                found = np.asarray(small.convert("RGB"))[16, 24].astype(int)
            with Image.open(study.parent / "images" / name) as image:
                expected = np.asarray(image)[16, 24].astype(int)
            assert np.abs(found - expected).max() < 12, name


def test_thumbnails_are_bounded(tmp_path, monkeypatch):
    stream = np.random.default_rng(0)
    for number in range(6):
        noise = stream.integers(0, 256, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    wanted = [Wanted(tmp_path, "0.png", f"{number}.png") for number in range(1, 6)]
    made = thumbnails.thumbnails(wanted)
    assert len(made.images) == 6
    assert made.pairs == [(0, number) for number in range(1, 6)]
    assert made.side == 256
    for encoded in made.images:
        with Image.open(io.BytesIO(encoded)) as image:
            assert image.size == (256, 192)
    size = len(base64.b64encode(made.images[0] + made.images[1]))
    monkeypatch.setattr(thumbnails, "MOST_BYTES", size + 100)
    fewer = thumbnails.thumbnails(wanted)
    assert fewer.pairs[0] == (0, 1)
    assert fewer.pairs[1:] == [None] * 4
    assert thumbnails.thumbnails(wanted * 30).side == 192
    assert thumbnails.thumbnails(wanted * 80).side == 128


def test_thumbnails_of_all_that_can_be_measured(tmp_path):
    grey16 = np.full((20, 30), 128 * 256 + 7, np.uint16)
    Image.fromarray(grey16).save(tmp_path / "deep.png")
    Image.new("L", (30, 20), 128).save(tmp_path / "grey.png")
    Image.new("LA", (30, 20), (0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (30, 20), (255, 0, 0, 255)).save(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    names = ("deep", "grey", "clear", "red", "broken", "absent")
    made = thumbnails.thumbnails([Wanted(tmp_path, "grey.png", f"{name}.png") for name in names])
    assert made.pairs[4:] == [None, None]
    assert made.unreadable == 2
    shown = {}
    for name, both in zip(names[:4], made.pairs, strict=False):
        with Image.open(io.BytesIO(made.images[both[1]])) as image:
            shown[name] = np.asarray(image.convert("RGB"))[10, 15].astype(int)
    for name, colour in (
        *(("deep", (128, 128, 128)), ("grey", (128, 128, 128))),
        *(("clear", (255, 255, 255)), ("red", (255, 0, 0))),
    ):
        assert np.abs(shown[name] - colour).max() < 8, name


def test_no_picture_from_outside_of_the_folder(tmp_path):
    (tmp_path / "images").mkdir()
    for path in (tmp_path / "images" / "a.png", tmp_path / "private.png"):
        Image.new("RGB", (9, 9)).save(path)
    for name in ("../private.png", str(tmp_path / "private.png"), "b/../../private.png"):
        made = thumbnails.thumbnails([Wanted(tmp_path / "images", "a.png", name)])
        assert (made.pairs, made.images, made.unreadable) == ([None], [], 1)


@pytest.mark.parametrize(
    ("changes", "pictures", "words"),
    [
        ({}, True, "the study does not say where its images are"),
        ({"folder": "../nowhere"}, True, "its images are not in ../nowhere"),
        ({"folder": "."}, False, "written without thumbnails"),
        ({"folder": "."}, True, "51 images could not be read"),
    ],
)
def test_without_images_the_page_says_why(tmp_path, changes, pictures, words):
    folder = pictured(tmp_path, databases=[database(references=4, **changes)])
    found = exploring.exploring(read_study(folder), None, pictures)
    assert words in " ".join(found.notes)
    data = json.loads(found.data)
    assert data["pictures"] == []
    assert len(data["databases"][0]["distorted"]) == PAIRS


def test_our_scripts_write_text_and_not_markup():
    folder = resources.files("iqa_metrics.report")
    scripts = [one for one in folder.iterdir() if one.name.endswith(".js")]
    assert len(scripts) > 4
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert '"use strict";' in text
        for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert unsafe not in text, script.name


def test_the_size_of_a_page_is_bounded(study):
    assert (study / "report.html").stat().st_size < 3_000_000
    assert thumbnails.MOST_BYTES <= 6_000_000
    # 16 bits as base64.
    assert exploring.MOST_VALUES * 8 / 3 <= 2_000_000


def explored(opened, folder, width=1280, hash="", **settings):
    """Open a page and wait until its charts are drawn."""
    one = opened(folder, width, hash, **settings)
    one.wait_for_selector("#explorer[data-drawn]")
    one.wait_for_selector("#explorer-scatter svg")
    return one


def chosen_pair(one):
    """Return the names and numbers of the chosen pair."""
    return one.evaluate(
        """() => {
          const part = document.getElementById("explorer-pair");
          const names = Array.from(part.querySelectorAll("dt"), e => e.textContent);
          const values = Array.from(part.querySelectorAll("dd"), e => e.textContent);
          return Object.fromEntries(names.map((name, at) => [name, values[at]]));
        }"""
    )


def value_of(one):
    return float(chosen_pair(one)["value"].split()[0].replace("−", "-"))


def address(one):
    """Return the state in the page's address."""
    return one.evaluate(
        "Object.fromEntries(new URLSearchParams(location.hash.replace('#explore?', '')))"
    )


def drawn(one, series):
    one.wait_for_function(
        "name => document.getElementById('explorer').dataset.drawn === name", arg=series
    )


def test_choosing_changes_what_is_shown(study, opened):
    one = explored(opened, study)
    one.select_option("#explorer-of", "psnr")
    drawn(one, "psnr")
    assert "psnr on TID 2013" in one.locator("#explorer-scatter-heading").inner_text()
    assert not one.locator("#explorer-layer").is_visible()
    assert not one.locator("#explorer-depth-part").is_visible()
    one.select_option("#explorer-of", "vgg16")
    drawn(one, one.locator("#explorer-layer").input_value())
    assert one.locator("#explorer-depth svg").is_visible()
    one.select_option("#explorer-layer", "vgg16:pool3:euclidean")
    drawn(one, "vgg16:pool3:euclidean")
    read = read_study(study)
    for kind in ("", "jpeg"):
        one.select_option("#explorer-kind", kind)
        (row,) = [
            row for row in read.correlations
            if (row.backbone, row.layer, row.readout) == ("vgg16", "pool3", "euclidean")
            and row.distortion == kind
        ]  # fmt: skip
        numbers = one.locator("#explorer-numbers").inner_text()
        assert f"SROCC {row.srocc:.3f}".replace("-", "−") in numbers
        assert f"KROCC {row.krocc:.3f}".replace("-", "−") in numbers
    cards = one.locator("#explorer-better .pair-card, #explorer-worse .pair-card")
    assert cards.count() > 0
    assert all("jpeg" in text for text in cards.all_inner_texts())


def test_charts_choose_networks_and_layers(study, opened):
    one = explored(opened, study, hash="#explore?series=psnr")
    read = read_study(study)
    # The first row is the best network's.
    first = one.locator("#explorer-models .role-mark.mark-symbol path").first
    first.scroll_into_view_if_needed()
    row = first.bounding_box()
    one.mouse.click(row["x"] - 60, row["y"] + row["height"] / 2)
    best = max((m for m in read.models if m.readout in ("", "euclidean")), key=lambda m: m.held_out)
    one.wait_for_function(
        "n => document.getElementById('explorer-of').value === n", arg=best.backbone
    )
    layers = list(read.backbone(best.backbone).layers)
    drawn(one, one.locator("#explorer-layer").input_value())
    points = one.locator("#explorer-depth .role-mark.mark-symbol").first.locator("path")
    assert points.count() == len(layers)
    last = points.nth(len(layers) - 1)
    last.scroll_into_view_if_needed()
    box = last.bounding_box()
    one.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert layers[-1].name in one.locator("#explorer-tip").inner_text()
    one.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    drawn(one, f"{best.backbone}:{layers[-1].name}:euclidean")


def test_databases_are_chosen_and_severities_are_no_opinions(tmp_path, opened):
    write_images(tmp_path / "images", 3)
    folder = pictured(
        tmp_path,
        databases=[
            database(references=3, folder="../images"),
            database("ladder", title="The ladder", references=3, higher_is="worse", opinion=False),
        ],
    )
    write_report(folder)
    one = explored(opened, folder)
    assert "People like these better" in one.locator("#explorer-better-heading").inner_text()
    assert one.locator("#explorer-better img").count() > 0
    one.select_option("#explorer-database", "ladder")
    one.wait_for_function("() => location.hash.includes('ladder')")
    assert "on The ladder" in one.locator("#explorer-scatter-heading").inner_text()
    assert one.locator("#explorer-better-heading").inner_text().startswith("Less severe")
    assert "severity" in chosen_pair(one)
    assert "Where the metric and severity disagree most" in one.locator("#explorer").inner_text()
    # Severities of different kinds can't be compared.
    kinds = one.locator("#explorer-kind option").all_inner_texts()
    assert kinds == ["gaussian blur", "jpeg", "noise", "contrast"]
    assert one.locator("#explorer-kind").input_value() == "gaussian blur"
    ladder = data_of(folder)["databases"][1]
    assert {one["curve"] for one in ladder["series"]} == {None}
    assert one.locator("#explorer img").count() == 0
    assert "There are no pictures of The ladder" in notes_of(folder)


def test_the_most_disputed_pairs_are_listed_with_their_pictures(study, opened):
    one = explored(opened, study, hash="#explore?series=psnr")
    read = read_study(study)
    rated = offered.read_rated(read, "tid2013", [Series("psnr", "", "", np.nan)])
    (gaps,) = offered.gaps(rated, read.databases[0], [True])
    for name, order in (("better", np.argsort(-gaps)), ("worse", np.argsort(gaps))):
        cards = one.locator(f"#explorer-{name} .pair-card")
        assert cards.count() == 6
        shown = cards.locator(".pair-name").all_inner_texts()
        ours = {rated.distorted[i]: gaps[i] for i in range(len(gaps))}
        # Quantised values may tie where the true ones do not.
        assert [ours[text] for text in shown] == pytest.approx(gaps[order[:6]], abs=1.01 / PAIRS)
        assert cards.locator("img").count() == 12
    one.locator("#explorer-more").click()
    assert one.locator("#explorer-better .pair-card").count() == 12
    assert one.locator("#explorer-scatter-heading").inner_text() == "psnr on TID 2013"
    card = one.locator("#explorer-worse .pair-card").nth(2)
    card.click()
    assert card.get_attribute("aria-pressed") == "true"
    assert chosen_pair(one)["distorted"] == card.locator(".pair-name").inner_text()
    alt = one.locator("#explorer-pair img").nth(1).get_attribute("alt")
    assert alt == f"distorted image, {chosen_pair(one)['distorted']}"
    assert one.locator("#explorer-pair img").nth(1).evaluate("i => i.naturalWidth") == 48


def test_a_click_on_a_point_shows_its_pair(study, opened):
    one = explored(opened, study, hash="#explore?series=ssim")
    # Every point is at the place that its numbers say, so the axes' ends say where to click.
    (held,) = data_of(study)["databases"]
    (series,) = [s for s in held["series"] if s["name"] == "ssim"]
    values, opinion = unpacked(series["values"]), unpacked(held["opinion"])
    points = one.locator("#explorer-scatter .mark-symbol.role-mark").first.locator("path")
    assert points.count() == np.isfinite(values).sum()
    order = [i for i in range(PAIRS) if np.isfinite(values[i])]
    for number in (0, 17, 40):
        # A hidden point beneath another one is never meant.
        at = order[number]
        box = points.nth(number).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        one.mouse.move(x, y)
        tip = one.locator("#explorer-tip")
        assert tip.is_visible()
        one.mouse.click(x, y)
        shown = chosen_pair(one)
        assert shown["distorted"] in tip.inner_text()
        assert value_of(one) == pytest.approx(values[at], abs=0.02)
        assert float(shown["opinion"].split()[0]) == pytest.approx(opinion[at], abs=1e-3)
        assert address(one)["distorted"] == shown["distorted"]
    one.mouse.move(2, 2)
    assert not tip.is_visible()


def test_an_address_holds_the_whole_state(study, opened):
    one = explored(opened, study)
    assert one.evaluate("location.hash") == ""
    one.select_option("#explorer-of", "dists")
    one.select_option("#explorer-kind", "noise")
    one.locator("#theme").click()
    one.locator("#explorer-better .pair-card").nth(1).click()
    state, pair = address(one), chosen_pair(one)
    assert set(state) == ALL
    assert state["theme"] == "dark"
    kept = one.evaluate("location.hash")
    two = explored(opened, study, 390, kept)
    drawn(two, "dists")
    assert address(two) == state
    assert chosen_pair(two) == pair
    assert two.locator("#explorer-kind").input_value() == "noise"
    assert two.evaluate("document.documentElement.dataset.theme") == "dark"
    assert abs(two.locator("#explore").bounding_box()["y"]) < 60, "the page is scrolled there"
    two.evaluate("location.hash = '#explore?series=psnr&theme=light'")
    drawn(two, "psnr")
    assert two.evaluate("document.documentElement.dataset.theme") == "light"
    # What is not known is ignored.
    two.evaluate("location.hash = '#explore?series=nothing&distortion=x&distorted=y&theme=z'")
    drawn(two, two.locator("#explorer-layer").input_value())
    assert chosen_pair(two)["distorted"].startswith("r")


def test_points_are_reached_with_the_keyboard(study, opened):
    one = explored(opened, study, hash="#explore?series=psnr")
    one.locator("#explorer-scatter").focus()
    one.keyboard.press("Home")
    seen = []
    for _ in range(5):
        seen.append(value_of(one))
        one.keyboard.press("ArrowRight")
    assert seen == sorted(seen)
    status = one.locator("#explorer-status")
    assert status.get_attribute("role") == "status"
    assert chosen_pair(one)["distorted"] in status.inner_text()
    one.keyboard.press("End")
    assert value_of(one) > max(seen)
    one.keyboard.press("ArrowLeft")
    names = [
        element.evaluate("e => e.labels[0].innerText")
        for element in one.locator("#explorer select").element_handles()
    ]
    assert all(names)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_mode_follows_the_system_until_it_is_chosen(scheme, study, opened):
    one = explored(opened, study, color_scheme=scheme)
    other = "light" if scheme == "dark" else "dark"

    def is_dark():
        paper, ink, axis = one.evaluate(
            """() => [
              getComputedStyle(document.body).backgroundColor,
              getComputedStyle(document.body).color,
              document.querySelector("#explorer-scatter .role-axis text").getAttribute("fill"),
            ].map(text => {
              const probe = document.createElement("span");
              probe.style.color = text;
              document.body.append(probe);
              const found = getComputedStyle(probe).color.match(/\\d+/g).slice(0, 3).map(Number);
              probe.remove();
              return found.reduce((a, b) => a + b) / 3;
            })"""
        )
        assert abs(paper - ink) > 150
        assert axis == pytest.approx(ink, abs=1), "the chart has the page's colours"
        return paper < 128

    assert is_dark() == (scheme == "dark")
    button = one.locator("#theme")
    assert button.inner_text() == f"{other.capitalize()} mode"
    button.click()
    one.wait_for_function(
        """() => document.querySelector("#explorer-scatter .role-axis text").getAttribute("fill")
          === getComputedStyle(document.documentElement).getPropertyValue("--ink").trim()"""
    )
    assert is_dark() == (other == "dark")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_page(width, scheme, study, opened):
    one = explored(opened, study, width, color_scheme=scheme)
    assert one.evaluate("document.documentElement.scrollWidth") <= width
    assert one.evaluate("document.body.scrollWidth") <= width
    for name in ("scatter", "depth", "models"):
        box = one.locator(f"#explorer-{name} svg").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["width"] > 300


def test_kinds_differ_in_shape_or_filling_without_colour(tmp_path, opened):
    kinds = tuple(f"kind {number}" for number in range(12))
    folder = pictured(tmp_path, kinds=kinds)
    write_report(folder)
    one = explored(opened, folder)
    looks = one.evaluate(
        """() => Array.from(
          document.querySelectorAll("#explorer-scatter .role-legend-symbol path"),
          e => [e.getAttribute("d"), e.getAttribute("fill") === "transparent"].join())"""
    )
    assert len(looks) == 12
    assert len(set(looks)) == 12


def test_the_policy_allows_neither_eval_nor_inline_code(study, browser):
    one = browser.new_page()
    one.goto((study / "report.html").as_uri())
    policy = one.locator('meta[http-equiv="Content-Security-Policy"]').get_attribute("content")
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert one.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
          return window.ran === undefined;
        }"""
    )
    one.close()


def test_names_are_only_text_in_the_explorer(tmp_path, opened):
    evil = "</script><img src=x onerror='window.evil = 1'>"
    folder = pictured(
        tmp_path,
        backbones=[backbone(f"net{evil}", "F")],
        databases=[database(f"tid{evil}", title=evil, references=4, folder="../images")],
        kinds=(evil, "<!--<script>"),
    )
    write_report(folder)
    one = explored(opened, folder)
    one.select_option("#explorer-kind", evil)
    one.locator("#explorer-better .pair-card, #explorer-worse .pair-card").first.click()
    one.evaluate("document.querySelector('#explorer-of').dispatchEvent(new Event('change'))")
    box = one.locator("#explorer-scatter svg path[transform]").first.bounding_box()
    one.mouse.move(box["x"] + 2, box["y"] + 2)
    assert one.evaluate("window.evil === undefined")
    assert evil in one.locator("#explorer-scatter-heading").inner_text()
    assert one.locator("#explorer img[src='x']").count() == 0
    assert address(one)["distortion"] == evil


def test_without_held_out_values_networks_are_shown_and_nothing_is_called_held_out(
    tmp_path, opened
):
    folder = pictured(tmp_path, databases=[database(references=1)], held_out=False)
    write_report(folder, thumbnails=False)
    read = read_study(folder)
    best = {row.backbone: row.best for row in read.models if row.readout in ("", "euclidean")}
    (held,) = data_of(folder)["databases"]
    assert {row[0]: row[1] for row in held["models"]} == pytest.approx(best, abs=1e-3)
    one = explored(opened, folder)
    words = one.locator("#explorer-models-part").inner_text()
    assert "chosen and judged on the same images" in words
    assert "held out" not in words.replace("to hold any out", "")
    one.locator("#explorer-depth .role-mark.mark-symbol path").first.hover()
    tip = one.locator("#explorer-tip").inner_text()
    assert "SROCC" in tip
    assert "interval" not in tip
