"""What a worker does besides scoring: it drains, counts and logs, without losing replies."""

import fcntl
import json
import logging

import pytest
from material import encoded

from iqa_metrics import PSNR
from iqa_torchserve.scorer import Scorer
from iqa_torchserve.state import BUSY, DRAIN
from iqa_torchserve.telemetry import MEASURES, metrics_file, request_log
from iqa_torchserve.worker import Worker


class Metric:
    def __init__(self, told, name):
        self.told, self.name = told, name

    def add_or_update(self, value, labels):
        self.told.append((self.name, value, tuple(labels)))


class Cache:
    """A stand-in for the part of TorchServe's metrics that a worker uses."""

    def __init__(self):
        self.told = []

    def get_metric(self, metric_name, metric_type):
        if metric_name == "iqa_errors_total":
            raise KeyError(metric_name)
        return Metric(self.told, metric_name)

    def add_metric_to_cache(self, metric_name, unit, dimension_names, metric_type):
        return Metric(self.told, metric_name)


@pytest.fixture
def scorer():
    return Scorer({"psnr": PSNR()}, model={"name": "iqa", "version": "1.0"})


@pytest.fixture
def good(photographs):
    image = encoded(photographs["cat"])
    return {"reference": image, "distorted": encoded(photographs["cat"], "JPEG", quality=20)}


@pytest.fixture
def log():
    """The lines in the log of requests."""
    lines = []
    handler = logging.Handler()
    formatter = request_log().handlers[0].formatter
    handler.emit = lambda record: lines.append(json.loads(formatter.format(record)))
    request_log().addHandler(handler)
    yield lines
    request_log().removeHandler(handler)


def handle(worker, *requests, length="123"):
    headers = [{"Authorization": "Bearer secret", "Content-Length": length}] * len(requests)
    ids = [f"id{number}" for number in range(len(requests))]
    return worker.handle(requests, headers, ids)


def test_a_worker_answers_counts_and_logs(scorer, good, log):
    worker, cache = Worker(scorer), Cache()
    worker.count_with(cache, str)
    answers = handle(worker, good, {"reference": b"x"}, {**good, "distorted": b"x"})
    assert [reply.status for reply, _ in answers] == [200, 400, 400]
    assert [json.loads(text)["request_id"] for _, text in answers] == ["id0", "id1", "id2"]
    told = {(name, *labels): value for name, value, labels in cache.told}
    assert told["iqa_batch_requests", "iqa"] == 3
    assert told["iqa_batch_pairs", "iqa"] == 2
    assert told["iqa_pairs_scored_total", "iqa", "psnr"] == 1
    assert told["iqa_errors_total", "iqa", "bad_request"] == 1
    assert told["iqa_errors_total", "iqa", "bad_image"] == 1
    assert told["iqa_forward_seconds", "iqa", "psnr"] > 0
    assert {name for name, *_ in told} == {measure.name for measure in MEASURES}
    assert [(line["request_id"], line["status"], line["code"]) for line in log] == [
        ("id0", 200, ""),
        ("id1", 400, "bad_request"),
        ("id2", 400, "bad_image"),
    ]
    assert (log[0]["pairs"], log[2]["failed"], log[0]["bytes"], log[0]["batch"]) == (1, 1, 123, 3)
    assert "secret" not in json.dumps(log)


def test_a_log_that_can_not_be_written_costs_no_answer(scorer, good):
    class Broken(logging.Handler):
        def emit(self, record):
            raise OSError(28, "No space left on device")

    broken = Broken()
    request_log().addHandler(broken)
    try:
        ((reply, _),) = handle(Worker(scorer), good)
    finally:
        request_log().removeHandler(broken)
    assert reply.status == 200


def test_a_draining_server_refuses_at_once_with_503(scorer, good, tmp_path):
    worker = Worker(scorer, state=tmp_path)
    ((reply, _),) = handle(worker, good)
    assert reply.status == 200
    (tmp_path / DRAIN).touch()
    ((reply, text),) = handle(worker, good)
    assert (reply.status, json.loads(text)["code"]) == (503, "draining")


def test_a_working_worker_is_busy(scorer, good, tmp_path):
    seen = []

    class Looking(PSNR):
        def compare(self, reference, distorted):
            with (tmp_path / BUSY).open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    seen.append("idle")
                except BlockingIOError:
                    seen.append("busy")
            return super().compare(reference, distorted)

    handle(Worker(Scorer({"psnr": Looking()}), state=tmp_path), good)
    with (tmp_path / BUSY).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert seen == ["busy"]


def test_a_missing_state_folder_costs_no_answer(scorer, good, tmp_path):
    ((reply, _),) = handle(Worker(scorer, state=tmp_path / "gone"), good)
    assert reply.status == 200


def test_torchserves_configuration_has_every_measure():
    said = json.loads(metrics_file())
    named = {m["name"]: m for metrics in said["model_metrics"].values() for m in metrics}
    assert set(named) == {measure.name for measure in MEASURES}
    for metrics in (*said["model_metrics"].values(), *said["ts_metrics"].values()):
        for metric in metrics:
            assert set(metric["dimensions"]) <= set(said["dimensions"])
