"""How modules lay out their responses, and how each layout becomes ``[N, C, h, w]``.

Convolutional networks give ``[N, C, h, w]`` or ``[N, h, w, C]``. Transformers give a sequence of
tokens: of the image's patches, row by row, and before them tokens that are no patches, such as the
class token. Fully connected layers and pooling over all positions give a vector. What has no
positions on the image is read out as ``[N, C, 1, 1]``, or as ``[N, C, L, 1]`` where it has L
tokens.

Which layout a response has is found from its shapes for images of two sizes: what grows with the
image are positions, and how fast they grow is the stride. Where a network takes one size alone,
positions are told by their number.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from iqa_metrics.backbones.probing import Shape

BATCH = 2
"""Images in a pass whose shapes are read: it tells the images from everything else."""

CHANNELS_FIRST, CHANNELS_LAST, VECTOR = "channels first", "channels last", "vector"

Axes = Literal["NLC", "LNC", "NCL"]

_MOST_PREFIX = 16
"""Most tokens before those of the patches."""
_LARGEST_PATCH = 64
_BORDER = 4
"""Most positions that convolutions without padding take off a side."""


@dataclass(frozen=True)
class Tokens:
    """The layout of a sequence of tokens, such as a transformer's ``[N, prefix + h w, C]``.

    Attributes
    ----------
    prefix
        Number of tokens before those of the patches, such as the class token. They are left out.
    patch
        Side of a patch in pixels: the grid has as many rows and columns as patches fit the image.
        None where tokens are no patches; then all are read out.
    axes
        The order of images (N), tokens (L) and channels (C).
    """

    prefix: int
    patch: int | None
    axes: Axes = "NLC"

    def grid(self, height: int, width: int, count: int) -> tuple[int, int]:
        """Return rows and columns of ``count`` patches of an image.

        Raises
        ------
        ValueError
            If an image of that size has another number of patches.
        """
        if self.patch is None:
            return count, 1
        for rows, columns in _grids(height, width, self.patch):
            if rows * columns == count:
                return rows, columns
        raise ValueError(
            f"expected about {height / self.patch:g}x{width / self.patch:g} tokens, of the patches "
            f"of {self.patch} pixels of a {height}x{width} image; got {count}"
        )


Form = str | Tokens


def as_grid(response: Tensor, form: Form, height: int, width: int) -> Tensor:
    """Return a response to an image of that size as ``[N, C, h, w]``, as a view.

    Raises
    ------
    ValueError
        If it is laid out otherwise than its form says.
    """
    if isinstance(form, Tokens):
        _expect(response, 3, form.axes)
        n, c, tokens = (form.axes.index(axis) for axis in "NCL")
        patches = response.permute(n, c, tokens)[:, :, form.prefix :]
        return patches.reshape(*patches.shape[:2], *form.grid(height, width, patches.shape[2]))
    if form == VECTOR:
        _expect(response, 2, "[N, C]")
        return response[:, :, None, None]
    _expect(response, 4, form)
    return response.permute(0, 3, 1, 2) if form == CHANNELS_LAST else response


def _expect(response: Tensor, dimensions: int, form: str) -> None:
    if response.ndim != dimensions:
        raise ValueError(
            f"expected a response of {dimensions} dimensions, {form}; got {list(response.shape)}"
        )


# Finding the form --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """What the shapes of a response say.

    Attributes
    ----------
    form
        How it is laid out.
    channels
        Number of its channels.
    stride
        Pixels of the image per position; None where there is no grid that grows with the image.
    """

    form: Form
    channels: int
    stride: int | None


Sides = tuple[int, int]


def layout_of_two(small: Shape, large: Shape, sides: Sides, larger: Sides) -> Layout | None:
    """Return the layout of a response, given its shapes for images of two sizes.

    Parameters
    ----------
    small, large
        Shapes of the response to :data:`BATCH` images.
    sides, larger
        Height and width of the images.

    Returns
    -------
    Layout or None
        None where it is none of the layouts above.
    """
    if len(small) != len(large):
        return None
    grows = [b > a for a, b in zip(small, large, strict=True)]
    same = [b == a for a, b in zip(small, large, strict=True)]
    if len(small) == 4 and small[0] == large[0] == BATCH:
        for form, row, channel in ((CHANNELS_FIRST, 2, 1), (CHANNELS_LAST, 1, 3)):
            if grows[row] and grows[row + 1] and same[channel]:
                stride = round((larger[0] - sides[0]) / (large[row] - small[row]))
                return Layout(form, small[channel], stride)
        return _without_grid(small) if all(same) else None
    if len(small) == 3:
        for axes in _axes(small):
            tokens, channels = axes.index("L"), axes.index("C")
            if large[axes.index("N")] != BATCH or not same[channels]:
                continue
            if same[tokens]:
                return Layout(Tokens(0, None, axes), small[channels], None)
            grid = _grid_of_two(small[tokens], large[tokens], sides, larger)
            prefix, patch = grid or (0, None)
            return Layout(Tokens(prefix, patch, axes), small[channels], patch)
        return None
    return _without_grid(small) if all(same) else None


def layout_of_one(shape: Shape, side: int, patch: int | None = None) -> Layout | None:
    """Return the layout of a response to square images of the one size that a network takes.

    Parameters
    ----------
    shape
        Shape of the response to :data:`BATCH` images.
    side
        Height and width of the images.
    patch
        Side of a patch, where the network states it.
    """
    if len(shape) == 4 and shape[0] == BATCH:
        for form, row, channel in ((CHANNELS_FIRST, 2, 1), (CHANNELS_LAST, 1, 3)):
            rows = shape[row]
            if rows == shape[row + 1] > 1:
                stride = max(1, round(side / rows))
                if abs(rows - side / stride) <= _BORDER:
                    return Layout(form, shape[channel], stride)
    if len(shape) == 3:
        for axes in _axes(shape):
            grid = _grid_of_one(shape[axes.index("L")], side, patch)
            if grid is not None:
                return Layout(Tokens(*grid, axes), shape[axes.index("C")], grid[1])
        for axes in _axes(shape):
            return Layout(Tokens(0, None, axes), shape[axes.index("C")], None)
    return _without_grid(shape)


def _without_grid(shape: Shape) -> Layout | None:
    """Return the layout of a vector, or of what was pooled to a fixed number of positions."""
    if shape[:1] != (BATCH,):
        return None
    if len(shape) == 2:
        return Layout(VECTOR, shape[1], None)
    if len(shape) == 4 and shape[1] == shape[2] == 1 < shape[3]:
        return Layout(CHANNELS_LAST, shape[3], None)
    if len(shape) == 4 and shape[2] == shape[3]:
        return Layout(CHANNELS_FIRST, shape[1], None)
    return None


def _axes(shape: Shape) -> Iterator[Axes]:
    """Yield the orders that the axes of a sequence may have, the likeliest first."""
    if shape[0] == BATCH:
        yield "NLC"
        if shape[1] > _MOST_PREFIX:  # fewer are class tokens, and no channels
            yield "NCL"
    elif shape[1] == BATCH:
        yield "LNC"


def _grids(height: int, width: int, patch: int) -> Iterator[tuple[int, int]]:
    """Yield the grids that patches may make of an image, the likeliest first.

    Patches that reach over a border count or do not, alike for height and width where possible; or
    convolutions without padding have taken some off.
    """
    for beyond in (-1, 0, *range(1, _BORDER)):
        rows, columns = (
            -(-side // patch) if beyond < 0 else side // patch - beyond for side in (height, width)
        )
        yield max(rows, 1), max(columns, 1)
    yield -(-height // patch), width // patch
    yield height // patch, -(-width // patch)


def _grid_of_two(small: int, large: int, sides: Sides, larger: Sides) -> tuple[int, int] | None:
    """Return prefix and patch of sequences of two lengths, for images of two sizes."""
    area, larger_area = math.prod(sides), math.prod(larger)
    if large <= small:
        return None
    about = math.sqrt((larger_area - area) / (large - small))
    candidates = sorted(
        range(max(1, math.floor(about) - 2), math.ceil(about) + 3), key=lambda p: abs(p - about)
    )
    for patch in candidates:
        for (rows, columns), (more_rows, more_columns) in zip(
            _grids(*sides, patch), _grids(*larger, patch), strict=True
        ):
            prefix = small - rows * columns
            if 0 <= prefix <= _MOST_PREFIX and large - more_rows * more_columns == prefix:
                return prefix, patch
    return None


def _grid_of_one(count: int, side: int, patch: int | None) -> tuple[int, int] | None:
    """Return prefix and patch of a sequence, for a square image."""
    if patch is not None:
        for rows, columns in _grids(side, side, patch):
            if 0 <= count - rows * columns <= _MOST_PREFIX:
                return count - rows * columns, patch
    for prefix in range(_MOST_PREFIX + 1):
        rows = math.isqrt(max(0, count - prefix))
        if rows > 1 and rows * rows == count - prefix:
            patch = round(side / rows)
            if patch <= _LARGEST_PATCH and (rows, rows) in list(_grids(side, side, patch)):
                return prefix, patch
    return None
