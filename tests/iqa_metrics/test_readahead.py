"""Reading ahead: in order, bounded, each image once, and the same parts for any timing."""

import os
import random
import threading
import time
import weakref
from itertools import islice

import numpy as np
import pytest
import torch
from material import encoded

from iqa_metrics import Pair, create_metric, score_pairs
from iqa_metrics.io import readahead
from iqa_metrics.io.readahead import WINDOW, read_ahead

SIZES = [(24, 32), (32, 24), (40, 40)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Thirty small images of three sizes."""
    folder = tmp_path_factory.mktemp("images")
    random_pixels = np.random.default_rng(0)
    for number in range(30):
        pixels = random_pixels.integers(0, 256, (*SIZES[number % 3], 3), dtype=np.uint8)
        (folder / f"{number}.png").write_bytes(encoded(pixels))
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """The paths, recorded when they are decoded."""
    read, paths = readahead.read_with_colour, []

    def counted(path, **options):
        paths.append(path)
        return read(path, **options)

    monkeypatch.setattr(readahead, "read_with_colour", counted)
    return paths


def parts_of(pairs, workers=2, background=None):
    return read_ahead(pairs, workers=workers, background=background, pin=False)


def pairs_of(folder, names):
    return [
        Pair(f"{reference}.png", f"{distorted}.png", folder, {"n": str(number)})
        for number, (reference, distorted) in enumerate(names)
    ]


def test_order_does_not_depend_on_the_time_of_decoding(images, monkeypatch):
    names = [(n % 30, (n + 3) % 30) for n in range(150)]
    pairs = pairs_of(images, names)
    metrics = {"psnr": create_metric("psnr")}
    expected = list(score_pairs(pairs, metrics, workers=1))
    read, uneven = readahead.read_with_colour, random.Random(0)

    def slow(path, **options):
        time.sleep(uneven.choice([0, 0, 0, 0.02]))
        return read(path, **options)

    monkeypatch.setattr(readahead, "read_with_colour", slow)
    rows = list(score_pairs(pairs, metrics, workers=7))
    assert rows == expected
    assert [row.carried["n"] for row in rows] == [str(n) for n in range(150)]
    assert all(row.value for row in rows)


def test_read_ahead_is_bounded(images, monkeypatch):
    lock, alive, most = threading.Lock(), 0, 0
    read = readahead.read_with_colour

    def gone(size):
        nonlocal alive
        with lock:
            alive -= size

    def tracked(path, **options):
        nonlocal alive, most
        image, colour = read(path, **options)
        with lock:
            alive += image.nbytes
            most = max(most, alive)
        weakref.finalize(image, gone, image.nbytes)
        return image, colour

    largest = 40 * 40 * 3 * 4
    monkeypatch.setattr(readahead, "read_with_colour", tracked)
    monkeypatch.setattr(readahead, "PART_BYTES", 6 * largest)
    monkeypatch.setattr(readahead, "AHEAD_BYTES", 15 * largest)
    pairs = pairs_of(images, [(n % 30, (n + 3) % 30) for n in range(200)])
    rows = 0
    for part in parts_of(pairs, workers=4):
        time.sleep(0.002)  # the decoders get as far as they may
        rows += len(part.rows)
        del part
    assert rows == 200
    assert 10 * largest < most <= (6 + 15) * largest
    assert alive == 0


def test_one_part_is_always_read_ahead_however_large(images, monkeypatch, decoded):
    monkeypatch.setattr(readahead, "PART_BYTES", 1)
    monkeypatch.setattr(readahead, "AHEAD_BYTES", 1)
    parts = parts_of(pairs_of(images, [(3 * n, 3 * n + 3) for n in range(9)]))
    first = next(parts)
    assert len(first.rows) == 1
    assert first.then == str(images / "3.png")
    for _ in range(1000):
        if len(decoded) == 3:
            break
        time.sleep(0.005)
    time.sleep(0.02)
    assert sorted(decoded) == [str(images / f"{n}.png") for n in (0, 3, 6)]
    parts.close()


def test_an_image_is_decoded_once_while_it_is_needed(images, decoded):
    names = [(0, 3 * (n % 9) + 3) for n in range(3 * WINDOW)]
    rows = list(score_pairs(pairs_of(images, names), {"psnr": create_metric("psnr")}))
    assert not any(row.error for row in rows)
    assert len(decoded) == len(set(decoded)) == 10


def test_parts_depend_only_on_the_table(images, monkeypatch):
    monkeypatch.setattr(readahead, "PART_BYTES", 10 * 24 * 32 * 3 * 4)
    pairs = pairs_of(images, [(n * n % 30, n * n % 30) for n in range(2 * WINDOW + 10)])

    def cuts(pairs, workers):
        return [[row.pair for row in part.rows] for part in parts_of(pairs, workers)]

    whole = cuts(pairs, 1)
    assert whole == cuts(iter(pairs), 5)
    boundary = next(n for n, part in enumerate(whole) if part[0] is pairs[WINDOW])
    assert cuts(pairs[WINDOW:], 2) == whole[boundary:]
    assert len(whole) > 6


def test_an_unusable_row_keeps_its_place(images):
    pairs = [
        Pair("0.png", "3.png", images),
        Pair("", "3.png", images, problem="bad_row: no path"),
        Pair("0.png", "1.png", images),
        Pair("gone.png", "no/such.png", images),
        Pair("0.png", "0.png", images),
    ]
    (part,) = parts_of(pairs)
    codes = [row.problem.split(":")[0] for row in part.rows]
    assert codes == ["", "bad_row", "size_mismatch", "not_found", ""]
    assert "gone.png" in part.rows[3].problem
    assert [row.images is None for row in part.rows] == [bool(code) for code in codes]


def test_a_pipe_among_the_images_does_not_block(images, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    pairs = [Pair(str(tmp_path / "pipe.png"), "0.png"), Pair("0.png", "0.png", images)]
    (part,) = parts_of(pairs)
    assert [row.problem.split(":")[0] for row in part.rows] == ["not_found", ""]


def test_running_out_of_memory_in_a_decoder_is_a_row(images, monkeypatch):
    def refused(path, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(readahead, "read_with_colour", refused)
    (part,) = parts_of(pairs_of(images, [(0, 3)]))
    assert part.rows[0].problem.startswith("failed: RuntimeError: DefaultCPUAllocator")


def decoders():
    """Decoding threads that run; a scorer that another test keeps has some too."""
    return {t for t in threading.enumerate() if t.name.startswith("iqa-decode")}


@pytest.mark.parametrize("after", [0, 1, 2])
def test_threads_end_and_leave_torch_as_it_was(images, after):
    others = decoders()
    before = torch.get_num_threads()
    pairs = pairs_of(images, [(n % 30, n % 30) for n in range(300)])
    parts = parts_of(pairs, workers=3)
    for _ in islice(parts, after):
        pass
    parts.close()
    assert decoders() <= others
    elsewhere = []
    other = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert (torch.get_num_threads(), *elsewhere) == (before, before)


def test_an_error_of_the_iterator_of_pairs_ends_the_threads(images):
    others = decoders()

    def broken():
        yield from pairs_of(images, [(0, 0)] * 10)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(score_pairs(broken(), {"psnr": create_metric("psnr")}))
    assert decoders() <= others
