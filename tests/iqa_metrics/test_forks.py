"""A forked process measures, or says why it can't: it never hangs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from iqa_metrics import ForkedError, create_metric, forks

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def outcomes():
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    answer = subprocess.run(
        [sys.executable, TESTS / "forking.py"], capture_output=True, text=True, timeout=600
    )
    assert answer.returncode == 0, answer.stderr
    return dict(line.split("|", 1) for line in answer.stdout.splitlines())


@pytest.mark.parametrize(
    "name",
    [
        "unused",
        "in a thread of the parent",
        "used in another thread",
        "used, one thread",
        "used, new thread",
        "parent again",
    ],
)
def test_it_measures_where_torch_can(name, outcomes):
    assert float(outcomes[name]) == pytest.approx(float(outcomes["expected"]), rel=1e-6)


@pytest.mark.parametrize(
    "name", ["used", "used, network", "used, reading", "used, shared", "used, rows"]
)
def test_it_refuses_where_torch_would_hang(name, outcomes):
    if forks._is_gnu():
        assert outcomes[name].startswith("ForkedError: this process was forked")
        assert "'spawn' or 'forkserver'" in outcomes[name]
    else:
        assert outcomes[name] != "hung"


def test_small_images_of_an_elementwise_metric_need_no_threads(outcomes):
    expected = outcomes["expected, few"]
    first, after = outcomes["few before and after"].split()
    assert (first, outcomes["used, few"]) == (expected, expected)
    assert float(after) > 0
    assert float(outcomes["rows of few before"]) > 0


def test_the_error_can_be_told_apart():
    assert issubclass(ForkedError, RuntimeError)


def test_workers_of_a_data_loader_compute_in_one_thread(outcomes):
    metric, generator = create_metric("ssim"), torch.Generator().manual_seed(0)
    images = torch.rand(2, 2, 3, 64, 64, generator=generator)
    expected = float(metric(images[0][:1], images[1]).sum())
    assert float(outcomes["data loader"]) == pytest.approx(expected, rel=1e-6)
