"""Runs that are stopped anywhere and resumed give the same table to the byte."""

import csv
import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from material import encoded
from typer.testing import CliRunner

from iqa_metrics import PairTable
from iqa_metrics.cli import app
from iqa_metrics.io import readahead
from iqa_metrics.io.resuming import ResumeError, Written, written

ROWS = 22
METRICS = ("psnr", "mse")


def iqa(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def resume(pairs, out, metrics=METRICS):
    options = [option for metric in metrics for option in ("-m", metric)]
    return iqa("score", "--pairs", pairs, "--out", out, *options, "--workers", 2, "--resume")


def write_images(folder, count, size):
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        (folder / f"{number}.png").write_bytes(encoded(image))


def write_pairs(path, rows, columns=()):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["reference", "distorted", *columns], *rows])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table with everything that a table may contain, its scores, and a short window."""
    folder = tmp_path_factory.mktemp("table")
    write_images(folder, 6, 12)
    notes = [
        "plain",
        'with "quotes"',
        "two\nlines",
        "a\r\nb\rc",
        "ünïcödé 画像",
        "",
        ",",
        '"',
        "\n",
    ]
    rows = [
        [f"{n // 7}.png", f"{n % 5}.png" if n % 6 else f'gone "{n}"\n.png', notes[n % len(notes)]]
        for n in range(ROWS)
    ]
    rows[4] += ["too", "many"]
    write_pairs(folder / "pairs.csv", rows, ["note, of a kind"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readahead, "WINDOW", 4)
        result = resume(folder / "pairs.csv", folder / "finished.csv")
        assert result.exit_code == 1, result.output
        yield folder


@pytest.fixture
def finished(folder):
    return (folder / "finished.csv").read_bytes()


def test_resume_is_allowed_in_a_first_run(folder, finished, tmp_path):
    read = list(csv.reader(finished.decode().splitlines(keepends=True)))
    assert len(read) == 1 + ROWS * len(METRICS)
    plain = iqa("score", "--pairs", folder / "pairs.csv", "--out", tmp_path / "x.csv", "-m", "psnr")
    assert plain.exit_code == 1
    resumed = resume(folder / "pairs.csv", tmp_path / "y.csv", ["psnr"])
    assert resumed.exit_code == 1
    assert (tmp_path / "x.csv").read_bytes() == (tmp_path / "y.csv").read_bytes()


def check_cut(folder, finished, out, size):
    out.write_bytes(finished[:size])
    result = resume(folder / "pairs.csv", out)
    assert out.read_bytes() == finished, size
    assert result.exit_code == 1
    with out.open(newline="", encoding="utf-8") as file:
        failed = sum(1 for row in csv.DictReader(file) if row["error"])
    assert f"{2 * ROWS - failed} of {2 * ROWS} scores" in result.stderr
    assert f"{failed} failed" in result.stderr


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.floats(0, 1))
def test_a_table_cut_at_any_byte_is_completed_to_the_byte(folder, finished, tmp_path, share):
    check_cut(folder, finished, tmp_path / "scores.csv", round(share * len(finished)))


@pytest.mark.slow
def test_a_table_cut_at_each_kind_of_byte_is_completed_to_the_byte(folder, finished, tmp_path):
    # All around what CSV and UTF-8 treat in a way of their own, and a share of the others.
    special = [n for n, byte in enumerate(finished) if byte in b'\r\n"' or byte > 127]
    sizes = {n + step for n in special for step in (0, 1)} | set(range(0, len(finished) + 1, 9))
    assert len(finished) in sizes
    for size in sorted(sizes):
        check_cut(folder, finished, tmp_path / "scores.csv", size)


def test_rows_are_kept_in_complete_windows(folder, finished, tmp_path):
    table = PairTable.open(folder / "pairs.csv")
    out = tmp_path / "scores.csv"
    assert written(out, table, METRICS, 4) == Written()
    ends, sizes = [], set()
    for size in [*range(0, len(finished), 3), len(finished)]:
        out.write_bytes(finished[:size])
        kept = written(out, table, METRICS, 4)
        assert kept.size <= size
        assert kept.finished == (size == len(finished))
        ends.append(kept.pairs)
        sizes.add(kept.size)
    assert ends == sorted(ends)
    assert set(ends) == {0, 4, 8, 12, 16, 20, ROWS}
    assert len(sizes) == len(set(ends)) + 1  # the header alone, and nothing at all


def test_a_finished_table_is_left_alone(folder, finished, tmp_path, monkeypatch):
    out = tmp_path / "scores.csv"
    out.write_bytes(finished)
    before = out.stat().st_mtime_ns
    monkeypatch.setattr("iqa_metrics.scoring.whole_tables.create_metric", None)
    result = resume(folder / "pairs.csv", out)
    assert result.exit_code == 1
    assert "failed; see the column 'error'" in result.stderr
    assert (out.read_bytes(), out.stat().st_mtime_ns) == (finished, before)


def test_an_empty_table_gives_only_a_header(folder, tmp_path):
    pairs, out = tmp_path / "pairs.csv", tmp_path / "scores.csv"
    write_pairs(pairs, [])
    for _ in range(2):
        assert resume(pairs, out).exit_code == 0
        assert out.read_text() == "reference,distorted,metric,value,error,colour,signature\n"


def changed_pairs(folder, tmp_path, change):
    with (folder / "pairs.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    pairs = tmp_path / "pairs.csv"
    change(header, rows)
    write_pairs(pairs, rows, header[2:])
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes((folder / f"{number}.png").read_bytes())
    return pairs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda header, rows: rows[1].__setitem__(1, "5.png"), "row 3 does not belong to"),
        (lambda header, rows: rows[1].__setitem__(1, "5.png"), "is '1.png', expected '5.png'"),
        (lambda header, rows: rows.reverse(), "column 'reference'"),
        (lambda header, rows: rows.insert(3, rows[0]), "row 7 does not belong"),
        (lambda header, rows: rows[2].__setitem__(2, "else"), "column 'note, of a kind'"),
        (lambda header, rows: header.__setitem__(2, "mos"), "have the columns"),
        (lambda header, rows: header.append("more"), "have the columns"),
        (lambda header, rows: rows.__delitem__(slice(5, None)), "more rows than the 10"),
    ],
)
def test_a_changed_table_is_refused(folder, finished, tmp_path, change, words):
    pairs, out = changed_pairs(folder, tmp_path, change), tmp_path / "scores.csv"
    for content in (finished, finished[: 2 * len(finished) // 3]):
        out.write_bytes(content)
        result = resume(pairs, out)
        assert result.exit_code == 2
        assert words in result.stderr
        assert "leave out --resume" in result.stderr
        assert out.read_bytes() == content


@pytest.mark.parametrize("metrics", [("mse", "psnr"), ("psnr",), ("psnr", "mse", "ssim")])
def test_other_metrics_are_refused(folder, finished, tmp_path, metrics):
    out = tmp_path / "scores.csv"
    out.write_bytes(finished)
    result = resume(folder / "pairs.csv", out, metrics)
    assert result.exit_code == 2
    assert "column 'metric'" in result.stderr or "column 'distorted'" in result.stderr
    assert out.read_bytes() == finished


def with_value(finished, text):
    return re.sub(rb"(,mse,)[^,]+,,", rb"\g<1>" + text + b",,", finished, count=1)


@pytest.mark.parametrize(
    "change",
    [
        lambda finished: finished.replace(b"\n", b"\r\n"),
        lambda finished: with_value(finished, b"1.50"),
        lambda finished: with_value(finished, b""),
        lambda finished: with_value(finished, b"0x1"),
        lambda finished: b"\xef\xbb\xbf" + finished,
        lambda finished: finished + b"one,more,row,1.0,,\n",
        lambda finished: finished + b"torn",
        lambda finished: b"a file of mine\n",
        lambda finished: b"a file of mine",
        lambda finished: b"\n",
        lambda finished: finished[:300] + b'"x"y\n\xff\n' + finished[300:],
        lambda finished: finished[: finished.index(b"\n1.png") + 1] + bytes(400) + b"\n",
        lambda finished: finished[:150] + b"\xff\xfe\n" + finished[150:],
    ],
)
def test_rows_that_no_run_wrote_are_refused(folder, finished, tmp_path, change):
    out = tmp_path / "scores.csv"
    content = change(finished)
    out.write_bytes(content)
    result = resume(folder / "pairs.csv", out)
    assert result.exit_code == 2
    assert "leave out --resume" in result.stderr
    assert out.read_bytes() == content


def test_other_than_regular_files_are_refused(folder):
    result = resume(folder / "pairs.csv", "/dev/null")
    assert (result.exit_code, "not a regular file" in result.stderr) == (2, True)
    table = PairTable.open(folder / "pairs.csv")
    with pytest.raises(ResumeError, match="not a regular file"):
        written(folder, table, METRICS, 4)


def test_a_full_disk_costs_no_complete_row(folder, finished, tmp_path):
    out = tmp_path / "scores.csv"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(finished) // 2, hard))
    try:
        result = resume(folder / "pairs.csv", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.exit_code == 2
    assert "can't be written" in result.stderr
    assert 0 < out.stat().st_size <= len(finished) // 2
    assert resume(folder / "pairs.csv", out).exit_code == 1
    assert out.read_bytes() == finished


class Run:
    """A function that runs a real ``iqa score`` of a table, which may be stopped."""

    def __init__(self, folder, count, size):
        self.folder, self.out = folder, folder / "scores.csv"
        write_images(folder, 12, size)
        (folder / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        rows = [[f"{n // 50 % 6}.png", f"{n * n % 12}.png", n] for n in range(count)]
        rows[count // 2][1] = "damaged.png"
        write_pairs(folder / "pairs.csv", rows, ["n"])
        # Where tests run in the background, children would be deaf to Ctrl-C.
        listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        code = f"{listening}from iqa_metrics.cli import app; app()"
        self.command = [sys.executable, "-c", code, "score", "--pairs", str(folder / "pairs.csv")]
        self.command += ["-m", "default", "-m", "psnr", "--workers", "3"]

    def whole(self):
        finished = self.folder / "finished.csv"
        done = CliRunner().invoke(app, [*self.command[3:], "--out", str(finished)])
        assert done.exit_code == 1, done.output
        return finished.read_bytes()

    def go_on(self, stop=None, size=0):
        """Resume, and stop with a signal once the table has reached a size."""
        command = [*self.command, "--out", str(self.out), "--resume"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            while stop and process.poll() is None:
                if self.out.exists() and self.out.stat().st_size >= size:
                    process.send_signal(stop)
                    break
                time.sleep(0.002)
            message = process.stderr.read()
        return process.returncode, message


def test_a_killed_run_is_resumed_to_the_same_bytes(tmp_path):
    run = Run(tmp_path, 160, 48)
    finished = run.whole()
    status, message = run.go_on(signal.SIGINT, len(finished) // 4)
    assert status == 130, message
    assert "resume it with --resume" in " ".join(message.split())
    assert "Traceback" not in message
    assert len(finished) // 4 <= run.out.stat().st_size < len(finished)
    status, _ = run.go_on(signal.SIGKILL, len(finished) // 2)
    assert status == -signal.SIGKILL
    assert run.out.stat().st_size < len(finished)
    status, message = run.go_on()
    assert (status, "2 failed" in message) == (1, True)
    assert run.out.read_bytes() == finished


@pytest.mark.slow
def test_a_run_killed_many_times_is_resumed_to_the_same_bytes(tmp_path):
    run = Run(tmp_path, 900, 32)
    finished = run.whole()
    moments = np.random.default_rng(0).uniform(0, 0.98, 7)
    killed = 0
    for moment in sorted(moments):
        status, message = run.go_on(signal.SIGKILL, round(moment * len(finished)))
        assert status in (1, -signal.SIGKILL), message
        killed += status == -signal.SIGKILL
    assert killed > 3
    assert run.go_on()[0] == 1
    assert run.out.read_bytes() == finished


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc")  # noqa: PTH110
def test_memory_is_constant_over_a_long_table(tmp_path):
    count = 20_000
    random_pixels = np.random.default_rng(0)
    for number in range(200):
        side = 16 + number % 50
        pixels = random_pixels.integers(0, 256, (side, side, 3), dtype=np.uint8)
        (tmp_path / f"{number}.png").write_bytes(encoded(pixels))
    names = ([f"{n * 7 % 200}.png", f"{n * 7 % 200}.png"] for n in range(count))
    write_pairs(tmp_path / "pairs.csv", names)
    out = tmp_path / "scores.csv"
    code = "from iqa_metrics.cli import app; app()"
    command = [sys.executable, "-c", code, "score", "--pairs", str(tmp_path / "pairs.csv")]
    command += ["-m", "psnr", "--out", str(out)]
    seen = []
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/status") as status:  # noqa: PTH123
                    resident = next(line for line in status if line.startswith("VmRSS"))
            except (OSError, StopIteration):  # it has just ended
                break
            rows = out.stat().st_size if out.exists() else 0
            seen.append((rows, int(resident.split()[1]) / 1024))
            time.sleep(0.05)
    assert process.returncode == 0
    total = out.stat().st_size
    early = max(mib for rows, mib in seen if 0 < rows < total / 4)
    # Once all rows are there the process ends, and for that reads more of torch's libraries.
    late = max(mib for rows, mib in seen if 3 * total / 4 < rows < total)
    assert late < early + 20, (early, late)
