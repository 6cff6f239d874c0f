"""A process that forks others, which measure: run by test_forks.py, since a fork copies threads.

It prints one line per process: its name, and a value, the error it raised, or ``hung``.
"""

import multiprocessing
import os
import select
import signal
import threading
import time
from pathlib import Path

import torch
from loading import Scored

from iqa_metrics import create_metric, read_image, score_pairs

SECONDS = 60  # after which a process is taken to hang
FILES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
IMAGES = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def measured(metric):
    return f"{float(metric(*IMAGES).sum()):.9g}"


def of_few(metric):
    return f"{float(metric(*IMAGES[..., :8, :8]).sum()):.9g}"


def rows(metric):
    pairs = [(FILES[0], FILES[1])]
    return " ".join(row.error or f"{row.value:.9g}" for row in score_pairs(pairs, metric))


def forked(name, task):
    """Run a task in a forked process, and print what became of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = task()
        except Exception as error:  # whatever it is, the parent prints it
            told = f"{type(error).__name__}: {error}"
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    told = os.read(reading, 10_000).decode() if select.select([reading], [], [], SECONDS)[0] else ""
    if not told:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    print(f"{name}|{told or 'hung'}", flush=True)


def in_a_thread(task):
    told = []
    thread = threading.Thread(target=lambda: told.append(task()))
    thread.start()
    thread.join()
    return told[0]


def running():
    """Return the system's numbers of this process's threads, where the system tells them."""
    tasks = Path("/proc/self/task")
    return {task.name for task in tasks.iterdir()} if tasks.is_dir() else set()


def in_one_thread(task):
    torch.set_num_threads(1)
    return task()


def loaded(metric):
    data = Scored([metric], (IMAGES[0][:1], IMAGES[1]))
    context = multiprocessing.get_context("fork")
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=1, multiprocessing_context=context, timeout=SECONDS
    )
    return f"{float(torch.cat(list(loader)).sum()):.9g}"


def main():
    torch.set_num_threads(2)
    ssim, few = create_metric("ssim"), create_metric("mse")
    print(f"expected, few|{of_few(few)}")
    forked("few before and after", lambda: f"{of_few(few)} {measured(few)}")
    forked("rows of few before", lambda: rows(few))
    forked("unused", lambda: measured(ssim))
    before = running()
    print(f"in a thread of the parent|{in_a_thread(lambda: measured(ssim))}")
    # Python does not wait for the end of the thread's helpers, and a fork before that may hang.
    for _ in range(2000):
        if running() <= before:
            break
        time.sleep(0.001)
    forked("used in another thread", lambda: measured(ssim))
    print(f"expected|{measured(ssim)}")
    forked("used", lambda: measured(ssim))
    forked("used, network", lambda: measured(create_metric("default")))
    forked("used, reading", lambda: str(read_image(torch.rand(3, 200, 200)).shape))
    forked("used, few", lambda: of_few(few))
    forked("used, rows", lambda: rows(few))
    forked("used, one thread", lambda: in_one_thread(lambda: measured(ssim)))
    forked("used, new thread", lambda: in_a_thread(lambda: measured(ssim)))
    shared = ssim.reference(IMAGES[0][:1])
    forked("used, shared", lambda: str(shared.score(IMAGES[1])))
    print(f"data loader|{loaded(ssim)}")
    print(f"parent again|{measured(ssim)}")


if __name__ == "__main__":
    main()
