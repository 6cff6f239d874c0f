"""The methods text says what was done, and what to cite is complete."""

import dataclasses
import math
import re
import sys

import numpy as np
import pytest
import study_tables
import yaml
from material import REPOSITORY
from scipy.stats import t
from study_pages import text_of, words_of
from study_tables import backbone, database, networks, write_study

from iqa_metrics.datasets import READERS
from iqa_metrics.report import bibliography, methods, write_report
from iqa_metrics.report.citing import citing
from iqa_metrics.report.tables import read_study
from iqa_metrics.statistics import Bootstrap
from iqa_metrics.study import comparisons, procedures
from iqa_metrics.study.settings import Statistics

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    databases = [
        database(),
        database("kadid", title="KADID", higher_is="worse", references=20, failed=3),
    ]
    return read_study(
        write_study(tmp_path_factory.mktemp("methods") / "study", databases=databases)
    )


def changed(study, **settings):
    described = dataclasses.replace(study.description, statistics=Statistics(**settings))
    return dataclasses.replace(study, description=described)


def said(study):
    return " ".join(methods.paragraphs(study))


def test_the_text_states_what_the_description_states(study):
    words = said(study)
    assert "384 pairs of distorted and reference images, with 32 reference images" in words
    assert "TID 2013 (144 pairs of 12 reference images; human ratings, higher is better)" in words
    assert "KADID (240 pairs of 20 reference images; human ratings, higher is worse)" in words
    assert "3 trained networks (vgg16, resnet_1, alexnet_2) and 3 untrained controls" in words
    assert "at 10 layers each, with the readouts euclidean and gram" in words
    assert "5 baseline metrics: ssim, psnr and ms_ssim, not tuned on human ratings" in words
    assert "lpips_vgg and dists, tuned on human ratings" in words
    assert "3 pairs of KADID failed" in words
    assert "iqa_metrics 0.1.0 and torch 2.9.0" in words


def test_settings_change_the_text(study):
    before = said(study)
    for settings, there in (
        ({"draws": 250}, "250 replicates (seed 0"),
        ({"seed": 7}, "1,000 replicates (seed 7"),
        ({"confidence": 0.9}, "90 % intervals"),
        ({"confidence": 0.9}, "at the level 0.1."),
        ({"margin": 0.05}, "within ±0.05"),
    ):
        assert there in said(changed(study, **settings))
        assert there not in before


def test_names_of_procedures_are_those_of_the_code(study, monkeypatch):
    used = ("AGREEMENT", "VALUES", "DIFFERENCES", "FAMILIES", "POOLING")
    for name in used:
        assert getattr(procedures, name).name in said(study)
    assert procedures.HELD_OUT_REFERENCES in said(study)
    assert procedures.HELD_OUT_DATABASES in said(study)
    renamed = dataclasses.replace(procedures.FAMILIES, name="another method")
    monkeypatch.setattr(procedures, "FAMILIES", renamed)
    assert "corrected by another method (Holm, 1979)" in said(study)
    # The analysis calls the function that carries the name.
    assert comparisons.procedures.FAMILIES is renamed


def test_differences_have_the_degrees_of_freedom_that_the_text_states(study):
    assert "Student's t with R − 1 degrees of freedom" in said(study)
    references = 6
    samples = np.random.default_rng(0).normal(0.1, 0.05, (400, 1))
    found = procedures.DIFFERENCES.run(Bootstrap(np.array([0.1]), samples), references, 0.95)
    # Only with this many degrees of freedom do the interval and the p-value agree.
    reach = float(found.high[0]) - 0.1
    for degrees in (references - 2, references - 1, references):
        error = reach / t.ppf(0.975, degrees)
        agrees = math.isclose(2 * t.sf(0.1 / error, degrees), float(found.p[0]), rel_tol=1e-9)
        assert agrees == (degrees == references - 1)


def test_families_are_counted_as_the_analysis_corrects_them(study):
    families = {(row.question, row.database) for row in study.comparisons}
    sizes = [
        sum((row.question, row.database) == one for row in study.comparisons) for one in families
    ]
    words = f"in {len(families)} families, one per question and database, of {min(sizes)} to "
    assert f"{words}{max(sizes)} comparisons" in said(study)


def test_pooling_and_held_out_databases_are_only_stated_where_they_happened(study, tmp_path):
    alone = read_study(write_study(tmp_path / "study"))
    for words in (procedures.POOLING.name, procedures.HELD_OUT_DATABASES, "each further database"):
        assert words in said(study)
        assert words not in said(alone)


def test_too_few_references_are_stated(tmp_path):
    folder = write_study(
        tmp_path / "study", databases=[database(references=1)], held_out=False,
        backbones=networks(1),
    )  # fmt: skip
    words = said(read_study(folder))
    assert "chosen and judged on the same images" in words
    assert "No intervals were computed" in words
    assert procedures.HELD_OUT_REFERENCES not in words
    assert procedures.VALUES.name not in words
    assert procedures.DIFFERENCES.name not in words
    assert "Differences in agreement were computed on the same pairs." in words


def test_series_that_were_left_out_are_named(study):
    model = next(row for row in study.models if row.backbone == "vgg16" and row.readout == "gram")
    fewer = dataclasses.replace(model, layers=model.layers - 2)
    models = [
        fewer if row is model else row
        for row in study.models
        if (row.database, row.backbone) != ("kadid", "psnr")
    ]
    words = said(dataclasses.replace(study, models=tuple(models)))
    assert "Left out of the comparisons" not in said(study)
    pooled = model.database == "pooled"
    assert ("2 layers of vgg16:gram" in words) != pooled
    assert "psnr on KADID" in words


def test_severities_are_never_called_ratings(tmp_path):
    one = database("ladder", title="The ladder", higher_is="worse", opinion=False)
    words = said(read_study(write_study(tmp_path / "study", databases=[one])))
    assert "severities of distortions, no human ratings, higher is worse" in words
    assert "the mean of SROCC within each kind and reference image" in words


def test_the_summary_says_where_a_choice_was_judged_on_its_own_images(tmp_path):
    folder = write_study(
        tmp_path / "study", databases=[database(references=1)], held_out=False,
        backbones=[backbone("vgg16", "VGG")], kinds=(),
    )  # fmt: skip
    write_report(folder)
    (best,) = (row for row in read_study(folder).winners if row.among == "backbones")
    assert (
        f"is vgg16:{best.layer}:{best.readout} with {best.best:.3f}, chosen and judged on the same "
        f"images, because {study_tables.TOO_FEW}."
    ) in words_of(folder)
    assert "did not see" not in words_of(folder).split("Contents")[0].split("Methods")[0]


def test_studies_without_winners_say_so(tmp_path):
    folder = write_study(tmp_path / "study", backbones=[backbone("vgg16", "VGG")], kinds=())
    (folder / "winners.csv").unlink()
    write_report(folder)
    assert "this study has no winners.csv. Run 'iqa study analyse' on its folder." in words_of(
        folder
    )


def test_an_opinion_trained_series_is_never_an_untuned_winner(tmp_path):
    folder = write_study(tmp_path / "study", backbones=[backbone("vgg16", "VGG")], kinds=())
    read = read_study(folder)
    tuned = next(row for row in read.winners if row.among == "tuned")
    better = dataclasses.replace(tuned, readout="weighted_euclidean", layer="pool3", held_out=0.999)
    from iqa_metrics.report.summary import summary

    winners = tuple(better if row is tuned else row for row in read.winners)
    (words,) = (s for s in summary(dataclasses.replace(read, winners=winners)) if "best of" in s)
    untuned, after = words.split("that were tuned on human ratings or learned from the scores")
    assert "weighted_euclidean" not in untuned
    assert f"{tuned.backbone}:pool3:weighted_euclidean, reaches 0.999" in after


def fields_of(entry):
    return dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.MULTILINE))


def test_what_to_cite_is_complete_and_each_once(study):
    sources = list(bibliography.DATABASES)
    databases = (
        *(dataclasses.replace(study.databases[0], name=f"d{i}", source=source)
          for i, source in enumerate([*sources, sources[0]])),
        dataclasses.replace(study.databases[0], name="mine", title="Mine", source=""),
    )  # fmt: skip
    described = dataclasses.replace(study.description, databases=databases)
    found = citing(dataclasses.replace(study, description=described))
    keys = re.findall(r"^@\w+\{([\w-]+),$", found.bibtex, re.MULTILINE)
    assert len(keys) == len(set(keys)) == 1 + len(bibliography.PAPERS) + len(sources)
    assert found.bibtex.count("{") == found.bibtex.count("}")
    for entry in found.bibtex.strip().split("\n\n"):
        assert {"title", "author"} <= set(fields_of(entry))
        assert "year" in fields_of(entry) or "version" in fields_of(entry)
    assert found.without == (("Mine", ""),)
    assert "2302.13345" in found.bibtex
    assert "10.1016/j.neunet.2025.107189" in found.bibtex


def test_every_database_that_can_be_read_has_an_entry():
    for reader in READERS:
        assert reader.facts.source in bibliography.DATABASES, reader.facts.name


def test_the_page_shows_it_to_copy(tmp_path):
    folder = write_study(tmp_path / "study", backbones=[backbone("vgg16", "VGG")], kinds=())
    write_report(folder)
    text = text_of(folder)
    (shown,) = re.findall(r'<pre class="copied"[^>]*>(.*?)</pre>', text, re.DOTALL)
    assert "@misc{hernandez2023analysis," in shown
    assert re.search(r"\.copied \{[^}]*user-select: all", text)
    assert 'download="references.bib" href="data:application/x-bibtex;base64,' in text
    assert methods.paragraphs(read_study(folder))[0] in words_of(folder)


def test_the_citation_file_agrees_with_the_package_and_the_bibtex():
    record = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((REPOSITORY / "packages/iqa-metrics/pyproject.toml").read_text())
    # What version 1.2.0 of the format requires.
    assert record["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(record)
    assert str(record["version"]) == project["project"]["version"]
    assert record["license"] == project["project"]["license"] == bibliography.SOFTWARE_LICENCE
    assert record["title"] == bibliography.SOFTWARE_TITLE
    assert record["authors"] == [{"name": bibliography.SOFTWARE_AUTHORS}]
    papers = [dict(one.fields) for one in bibliography.PAPERS]
    assert [one["title"] for one in record["references"]] == [one["title"] for one in papers]
    assert [str(one["year"]) for one in record["references"]] == [one["year"] for one in papers]
    assert record["references"][1]["doi"] == papers[1]["doi"]
    identifiers = record["references"][0]["identifiers"]
    assert identifiers[0]["value"] == f"arXiv:{papers[0]['eprint']}"
    for one in record["references"]:
        assert all({"family-names", "given-names"} <= set(author) for author in one["authors"])
