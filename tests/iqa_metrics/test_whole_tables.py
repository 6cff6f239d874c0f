"""score_table: what is checked before a row is written, and whose errors are whose."""

import io

import pytest
from material import encoded

from iqa_metrics import PSNR, ImageError, Score, ScoredTable, create_metric, score, score_table


@pytest.fixture
def pairs(tmp_path, photographs):
    (tmp_path / "r.png").write_bytes(encoded(photographs["cat"]))
    (tmp_path / "d.jpg").write_bytes(encoded(photographs["cat"], "JPEG", quality=10))
    table = tmp_path / "pairs.csv"
    table.write_text("reference,distorted,mos\nr.png,d.jpg,3\nr.png,gone.png,4\n")
    return table


def test_specs_objects_files_and_streams(pairs, tmp_path):
    out, told = tmp_path / "scores.csv", []
    done = score_table(pairs, out, ["psnr", "ssim"], progress=lambda *p: told.append(p))
    assert done == ScoredTable(rows=4, failed=2)
    assert (told[0], told[-1]) == ((0, 4), (4, 4))
    first = out.read_text().splitlines()[1].split(",")
    assert first[:3] == ["r.png", "d.jpg", "psnr"]
    assert float(first[3]) == score(pairs.with_name("r.png"), pairs.with_name("d.jpg"), "psnr")
    stream = io.StringIO()
    made = {name: create_metric(name) for name in ("psnr", "ssim")}
    assert score_table(str(pairs), stream, made) == done
    assert stream.getvalue() == out.read_text()
    assert score_table(pairs, out, ["psnr", "ssim"], resume=True) == done


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"metrics": {"x": 3}}, ValueError, "expected 'x' to be a Metric, got 3"),
        ({"metrics": []}, ValueError, "expected at least one"),
        ({"metrics": {"p": PSNR()}, "device": "cpu"}, ValueError, "device: no effect with metric"),
        ({"metrics": {"p": PSNR()}, "precision": "bfloat16"}, ValueError, "precision: no effect"),
        ({"scorer": lambda *_: None, "workers": 2}, ValueError, "workers: no effect with a scorer"),
        ({"background": "white"}, ImageError, "one or three values"),
        ({"background": (2,)}, ImageError, "one or three values"),
        ({"metrics": ["psnr"], "precision": "int8"}, ValueError, "precision: expected one of"),
    ],
)
def test_all_is_checked_before_the_table_of_scores_is_touched(pairs, options, kind, words):
    out = pairs.with_name("scores.csv")
    out.write_text("kept")
    with pytest.raises(kind, match=words):
        score_table(pairs, out, **options)
    assert out.read_text() == "kept"


def test_an_error_of_the_scorer_is_no_error_of_the_file(pairs, tmp_path):
    class Scorer:
        window = 1

        def __call__(self, pairs, metrics):
            for pair in pairs:
                yield Score(pair.reference, pair.distorted, "psnr", 1.0, "", pair.carried)
                raise TimeoutError("the server is gone")

    out = tmp_path / "scores.csv"
    with pytest.raises(TimeoutError, match="the server is gone"):
        score_table(pairs, out, ["psnr"], scorer=Scorer())
    assert len(out.read_text().splitlines()) == 2
    with pytest.raises(ValueError, match=r"nowhere/scores\.csv: can't be written"):
        score_table(pairs, tmp_path / "nowhere" / "scores.csv", ["psnr"])
