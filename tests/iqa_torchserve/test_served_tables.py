"""Tables scored by a server: answers become rows, and other failures stop the run."""

import csv

import pytest

from iqa_metrics import ScoredTable, score_table
from iqa_torchserve.client import ServedScore, ServeError
from iqa_torchserve.served_tables import TOGETHER, ServedScorer


class Server:
    """A stand-in for a client: returns the given answers first, then values."""

    def __init__(self, *told):
        self.told, self.seen = list(told), []

    def compare(self, reference, distorted, metrics):
        self.seen.append((reference, list(distorted)))
        answer = self.told.pop(0) if self.told else None
        if isinstance(answer, ServeError):
            raise answer
        if isinstance(answer, list):
            return [[outcome or value(image, m) for m in metrics]
                    for image, outcome in zip(distorted, answer, strict=True)]  # fmt: skip
        return [[value(image, m) for m in metrics] for image in distorted]


def value(image, metric):
    return ServedScore(metric, float(image), True, metric, colour=f"both: {image.decode()} to sRGB")


def error(code, status=400):
    return ServeError("a reason", code=code, status=status)


@pytest.fixture
def pairs(tmp_path):
    for name in range(20):
        (tmp_path / str(name)).write_bytes(str(name).encode())
    rows = [(0, n) for n in range(1, 12)] + [(12, 13), (0, 14)]
    path = tmp_path / "pairs.csv"
    path.write_text("reference,distorted\n" + "".join(f"{r},{d}\n" for r, d in rows))
    return path


def written(pairs, server, *, resume=False):
    out = pairs.with_name("out.csv")
    scorer = ServedScorer(server, in_flight=1)
    scored = score_table(pairs, out, ["psnr", "ssim"], resume=resume, scorer=scorer)
    return list(csv.DictReader(out.read_text().splitlines())), scored


def test_consecutive_pairs_with_the_same_reference_share_requests(pairs):
    server = Server()
    rows, table = written(pairs, server)
    assert sorted(len(distorted) for _, distorted in server.seen) == [1, 1, 3, TOGETHER]
    assert [float(row["value"]) for row in rows[::2]] == [*range(1, 12), 13, 14]
    assert [row["metric"] for row in rows[:2]] == ["psnr", "ssim"]
    assert [row["colour"] for row in rows[:2]] == ["both: 1 to sRGB"] * 2
    assert table == ScoredTable(rows=26, failed=0)


def test_answers_become_rows(pairs):
    bad = [error("bad_image"), None, *[None] * 5, error("internal", 500)]
    rows, table = written(pairs, Server(bad))
    assert [row["error"].split(":")[0] for row in rows[:16:2]] == [
        "bad_image", "", "", "", "", "", "", "internal",
    ]  # fmt: skip
    assert table.failed == 4


@pytest.mark.parametrize(
    ("code", "status", "tries"),
    [("unreachable", None, 1), ("unauthorised", 401, 1), ("busy", 503, 1), ("timeout", 504, 1),
     ("not_found", 404, 1), ("failed", 500, 3)],
)  # fmt: skip
def test_other_failures_stop_the_run_which_can_be_resumed(pairs, code, status, tries):
    server = Server(*[error(code, status)] * 20)
    with pytest.raises(ServeError) as caught:
        written(pairs, server)
    assert caught.value.code == code
    assert len([seen for seen in server.seen if len(seen[1]) == TOGETHER]) == tries
    rows, _ = written(pairs, Server(), resume=True)
    assert [float(row["value"]) for row in rows[::2]] == [*range(1, 12), 13, 14]


def test_failures_that_others_may_have_caused_are_requested_again(pairs):
    late = [None] * 7 + [error("overloaded", 503)]
    rows, table = written(pairs, Server(late))
    assert table.failed == 0
    assert [float(row["value"]) for row in rows[::2]] == [*range(1, 12), 13, 14]


def test_pairs_too_large_together_are_sent_alone(pairs):
    server = Server(error("too_large", 413))
    rows, _ = written(pairs, server)
    assert [float(row["value"]) for row in rows[::2]] == [*range(1, 12), 13, 14]
    assert [len(distorted) for _, distorted in server.seen].count(1) >= TOGETHER
