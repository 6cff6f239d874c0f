"""Averages, over all windows of an image, of a formula of two images' local moments.

Images are ``[N, C, H, W]`` of any float type, and all arithmetic is float64: a variance is the
difference of two moments, of which float32 would leave nothing in flat regions.

For two images x and y, a formula takes the local means of ``s = x + y``, ``d = x - y``, ``s²`` and
``d²``. A similarity of means and variances needs at least these four moments, and where the images
are identical those of d are exactly 0.

In eager mode the work is done in blocks that stay in a core's cache, since the moments of a whole
image would be written to memory and read again at each step; means are products with a banded
matrix. In ``torch.compile``, means are sums of shifted images instead, which the compiler fuses
with the formula.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from iqa_metrics.compute.tracing import recorded, traced

Formula = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""An elementwise function from the local means of s, d, s² and d² to a map of the same shape."""

# Found by timing on a CPU with 1 MiB of cache per core, which a block's four moments about fill.
_BLOCK_ROWS, _BLOCK_COLUMNS = 32, 512
# A tile's product does (tile + size - 1) / size times the necessary work, but smaller tiles take
# longer to start than to run.
_LEAST_TILE, _GREATEST_TILE = 20, 28
# On a GPU a block has all images and columns, since starting an operation is what costs time there.
_GPU_BLOCK_ROWS = 128
# Values that compiled code processes at once, whose four moments in float64 fit the shared cache.
_STRIP_VALUES = 150_000


class Windows:
    """All windows of one shape that lie entirely inside an image.

    Parameters
    ----------
    weights
        The window's weights along rows and along columns. Their sum is 1.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self.weights = tuple(weights)
        self.size = len(self.weights)

    def mean(self, formula: Formula, x: Tensor, y: Tensor) -> Tensor:
        """Return the formula's mean over all windows, ``[N, C]``, float64.

        ``x`` has as many images as ``y``, or one image.
        """
        count, channels, height, width = y.shape
        if traced():
            total = self._compiled_sum(formula, x, y)
        elif y.device.type == "cpu":
            pairs = zip(x.expand_as(y), y, strict=True)
            total = torch.stack([self._sum(formula, *pair) for pair in pairs])
        else:
            planes = (x.expand_as(y).flatten(0, 1), y.flatten(0, 1))
            total = self._sum(formula, *planes).view(count, channels)
        return total / ((height - self.size + 1) * (width - self.size + 1))

    def map(self, formula: Formula, x: Tensor, y: Tensor) -> Tensor:
        """Return the formula at each window, ``[N, C, h, w]``, float64."""
        count, channels = y.shape[:2]
        if traced():
            return formula(*self._shifted_moments(x, y))
        planes = [i.flatten(0, 1) for i in (x.expand_as(y), y)]
        across = len(list(self._spans(planes[1].shape[2], self._block(planes[1])[1])))
        blocks = list(self._blocks(formula, *planes))
        rows = [torch.cat(blocks[i : i + across], dim=2) for i in range(0, len(blocks), across)]
        by_plane = torch.cat(rows).transpose(0, 1)
        return by_plane.reshape(count, channels, *by_plane.shape[1:])

    def _sum(self, formula: Formula, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum over the windows of each plane: ``[C, H, W]`` twice to ``[C]``."""
        return torch.stack([m.sum(dim=(0, 2)) for m in self._blocks(formula, x, y)]).sum(dim=0)

    def _blocks(self, formula: Formula, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        """Yield the map of planes ``[C, H, W]`` in blocks ``[h, C, w]``, row by row.

        Rows are a block's first dimension, so that one product blurs the rows of all planes.
        """
        reach = self.size - 1
        rows, columns = self._block(y)
        for top, bottom in self._spans(y.shape[1], rows):
            for left, right in self._spans(y.shape[2], columns):
                tile = _tile_width(right - left)
                rest = -(right - left) % tile
                parts = (i[:, top : bottom + reach, left : right + reach] for i in (x, y))
                block = [F.pad(i.transpose(0, 1), (0, rest)).double() for i in parts]
                tiles = formula(*(self._tiled_means(m, tile) for m in _moments(*block)))
                yield tiles.flatten(2)[..., : right - left]

    def _block(self, images: Tensor) -> tuple[int, int]:
        if images.device.type == "cpu":
            return _BLOCK_ROWS, _BLOCK_COLUMNS
        return _GPU_BLOCK_ROWS, images.shape[2]

    def _spans(self, length: int, most: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges (first, last + 1) of nearly equal parts of the windows along a side."""
        windows = length - self.size + 1
        parts = -(-windows // most)
        for part in range(parts):
            yield windows * part // parts, windows * (part + 1) // parts

    def _tiled_means(self, block: Tensor, tile: int) -> Tensor:
        """Return the means in all windows of ``[H, C, W]``, ``[h, C, w / tile, tile]``.

        Tiles are contiguous in memory, as torch's products return them.
        """
        height, channels, width = block.shape
        reach = self.size - 1
        down = torch.mm(_band(self.weights, height - reach, block.device), block.flatten(1))
        tiles = down.view(-1, width).unfold(1, tile + reach, tile).transpose(0, 1)
        across = _band(self.weights, tile, block.device).t().expand(len(tiles), -1, -1)
        means = torch.bmm(tiles, across)
        return means.view(len(tiles), -1, channels, tile).permute(1, 2, 0, 3)

    def _compiled_sum(self, formula: Formula, x: Tensor, y: Tensor) -> Tensor:
        count, channels, height, width = y.shape
        windows = height - self.size + 1
        strips = -(-windows * channels * width // _STRIP_VALUES)
        rows = -(-windows // strips)
        whole = y.device.type != "cpu" or count * windows * channels * width <= _STRIP_VALUES
        loops = torch.compiler.is_compiling() and hasattr(torch, "while_loop")
        if whole or not loops or recorded(x, y):
            # In two steps: for a sum over both, torch's kernel would compute rows again.
            return formula(*self._shifted_moments(x, y)).sum(dim=3).sum(dim=2)

        # One strip after another, since the memory for all of them would be new at each call, and
        # allocating it would take longer than the arithmetic.
        x = x.clone()  # The loop refuses two views of the same memory, such as frames of a video.
        offsets = torch.arange(rows, device=y.device)
        reached = torch.arange(rows + self.size - 1, device=y.device)

        def unfinished(step: Tensor, total: Tensor) -> Tensor:
            return step < count * strips

        def add_strip(step: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
            image = (step // strips).view(1)
            first = step % strips * rows
            # The last strip overlaps the previous one and skips its rows.
            top = first.clamp(max=windows - rows)
            pair = (
                i.index_select(0, image % len(i)).index_select(2, top + reached) for i in (x, y)
            )
            by_row = formula(*self._shifted_moments(*pair)).sum(dim=3)
            strip = torch.where(top + offsets >= first, by_row, 0).sum(dim=2)
            return step + 1, total.index_add(0, image, strip)

        total = torch.zeros(count, channels, dtype=torch.float64, device=y.device)
        step = torch.zeros((), dtype=torch.int64, device=y.device)
        loop: Callable[..., tuple[Tensor, Tensor]] = torch.while_loop
        return loop(unfinished, add_strip, (step, total))[1]

    def _shifted_moments(self, x: Tensor, y: Tensor) -> list[Tensor]:
        return [
            self._shifted_mean(self._shifted_mean(moment, -2), -1)
            for moment in _moments(x.double(), y.double())
        ]

    def _shifted_mean(self, maps: Tensor, dim: int) -> Tensor:
        windows = maps.shape[dim] - self.size + 1
        mean = maps.narrow(dim, 0, windows) * self.weights[0]
        for shift, weight in enumerate(self.weights[1:], start=1):
            mean = mean + maps.narrow(dim, shift, windows) * weight
        return mean


def _moments(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    total, difference = x + y, x - y
    return total, difference, total.square(), difference.square()


def _tile_width(columns: int) -> int:
    """Return the tile width that leaves the fewest columns over."""
    widths = range(min(_LEAST_TILE, columns), min(_GREATEST_TILE, columns) + 1)
    return min(widths, key=lambda width: -columns % width)


@lru_cache(maxsize=256)
def _band(weights: tuple[float, ...], windows: int, device: torch.device) -> Tensor:
    """Return the matrix that maps the values of a row to their means in ``windows`` windows."""
    # It is cached, and the next call may record gradients.
    with torch.inference_mode(False):
        band = torch.zeros(windows, windows + len(weights) - 1, dtype=torch.float64)
        for shift, weight in enumerate(weights):
            band.diagonal(shift).fill_(weight)
        return band.to(device)
