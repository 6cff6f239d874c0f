"""Score three pairs of photographs in Python and with a running TorchServe, and compare them."""

import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table
from skimage import data

from iqa_metrics import score
from iqa_torchserve.archive import build_archive
from iqa_torchserve.client import Client
from iqa_torchserve.config import PORTS, ServerConfig
from iqa_torchserve.server import free_port, start

AGREEMENT = 1e-6
console = Console()


def main() -> int:
    begun = time.monotonic()
    console.print("Building the model archive ...")
    archive = build_archive(Path("model_store"))
    console.print(f"  {archive}, {archive.stat().st_size / 1e6:.1f} MB\nStarting TorchServe ...")
    with tempfile.TemporaryDirectory(prefix="iqa-demo-") as state:
        server = start(ServerConfig(archive, state=Path(state), port=free_port(PORTS)))
        console.print(f"  ready at {server.inference_url} (pid {server.pid})\n")
        try:
            with Client(server.inference_url, server.token()) as client:
                worst = compare(client)
        finally:
            server.stop()
    console.print(f"Server stopped. {time.monotonic() - begun:.0f} s in all.")
    if worst > AGREEMENT:
        console.print(f"[red]Library and endpoint differ by {worst:.1e} relative.[/red]")
        return 1
    return 0


def compare(client: Client) -> float:
    """Print a table of the pairs and return the largest relative difference."""
    table = Table("photograph", "degradation", "library", "endpoint", "difference", box=None)
    worst = 0.0
    for name, kind, reference, distorted in pairs():
        ours = score(reference, distorted)
        served = client.score(reference, distorted)
        difference = abs(served.value - ours)
        worst = max(worst, difference / ours)
        table.add_row(name, kind, f"{ours:.6f}", f"{served.value:.6f}", f"{difference:.1e}")
    console.print(table)
    console.print(f"Metric '{served.metric}' is {served.resolved}: lower is better.\n")
    return worst


def pairs() -> list[tuple[str, str, bytes, bytes]]:
    """Return photographs that ship with scikit-image and a degraded copy of each, as PNG files."""
    noise = np.random.default_rng(0).normal(0, 15, data.chelsea().shape)
    cat = Image.fromarray((data.chelsea() + noise).clip(0, 255).astype(np.uint8))
    coffee = Image.fromarray(data.coffee())
    astronaut = Image.fromarray(data.astronaut())
    return [
        ("astronaut", "JPEG, quality 10", png(astronaut), png(as_jpeg(astronaut, 10))),
        ("coffee", "blur, radius 2", png(coffee), png(coffee.filter(ImageFilter.GaussianBlur(2)))),
        ("cat", "noise, sigma 15", png(Image.fromarray(data.chelsea())), png(cat)),
    ]


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
