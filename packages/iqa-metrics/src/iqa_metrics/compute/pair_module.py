"""Modules that compare two batches of images: checked, within memory, compiled if asked for."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from iqa_metrics.compute.arithmetic import common_type, exact_arithmetic, widened
from iqa_metrics.compute.compilation import Compiled
from iqa_metrics.compute.conventions import (
    check_mask_values,
    checked_mask,
    compared,
    cut,
    scaled,
)
from iqa_metrics.compute.devices import lacks_float64, returned, with_float64
from iqa_metrics.compute.features import Reference
from iqa_metrics.compute.memory import Memory, MemoryBudget, in_chunks
from iqa_metrics.compute.steady import Steady
from iqa_metrics.compute.tracing import is_hidden, recorded, traced
from iqa_metrics.forks import MANY, before_computing
from iqa_metrics.io.conventions import AS_GIVEN, Conventions, Space
from iqa_metrics.io.decoding import ImageError
from iqa_metrics.io.images import check_images, check_pair, check_sizes

if TYPE_CHECKING:
    from typing_extensions import Self

Check = Literal["error", "off"]
Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_PIXEL_BYTES = 3 * 8 * 16
"""Bytes per pixel of a pair in a metric without a network: sixteen RGB images in float64."""


class PairModule(Steady):
    """A module that compares two batches of images, and checks that they can be compared.

    Parameters
    ----------
    check
        ``"error"`` refuses values outside [0, 1], which costs a pass over all pixels. ``"off"``
        skips the check, for training loops.

    Attributes
    ----------
    name
        The name in messages.
    smallest_input
        Least height and width, in pixels.
    input_size
        The height and width, in pixels, that the network needs; None if it takes any size.
    surely_enough
        A height and width, in pixels, that is known to be large enough.
    any_channels
        Whether it compares images of one channel as well as of three.
    elementwise
        Whether it computes nothing but elementwise functions and sums of the images. Small images
        of such a metric can be compared in any forked process.
    memory, compiled, conventions
        The memory budget, the compiled comparison, and what is compared of the images, as set by
        :meth:`configure`.
    """

    name: str
    smallest_input: int
    input_size: int | None = None
    surely_enough: float = math.inf
    any_channels: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def __init__(self, *, check: Check = "error") -> None:
        super().__init__()
        if check not in ("error", "off"):
            raise ValueError(f"check: expected 'error' or 'off', got {check!r}")
        self.check = check
        self.memory = MemoryBudget()
        self.compiled: Compiled | None = None
        self.conventions = AS_GIVEN

    def forward(self, reference: Tensor, distorted: Tensor) -> Any:
        """Compare two batches of images. Raises ImageError like a :class:`Metric`."""
        compare = self._compare(False)
        pair = self.prepared(reference, distorted)
        return self.presented(self._streamed(*pair, compare))

    def presented(self, values: Tensor) -> Any:
        """Return the computed values in the form that callers get; by default unchanged."""
        return values

    def prepared(self, reference: Tensor, distorted: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is compared of two batches of images, by the module's conventions.

        Raises ImageError if they can't be compared; see :class:`Metric`.
        """
        reference = self._checked("reference", reference)
        distorted = self._checked("distorted", distorted)
        self._check_together(reference, distorted)
        return self._compared(reference), self._compared(distorted)

    def reference(self, image: Tensor) -> "SharedReference":
        """Prepare a reference that several batches of distorted images will be compared with.

        Use the result as a context manager, which frees the memory of the reference at the end.

        Parameters
        ----------
        image
            One reference, ``[1, 3, H, W]``.

        Raises
        ------
        ImageError
            As when the metric is called, or if there is not exactly one image.

        Examples
        --------
        >>> import torch
        >>> from iqa_metrics import create_metric
        >>> metric = create_metric("default")
        >>> with metric.reference(torch.zeros(1, 3, 64, 64)) as shared:
        ...     first = shared.score(torch.zeros(2, 3, 64, 64))
        ...     second = shared.score(torch.ones(1, 3, 64, 64))
        >>> first.tolist(), bool(second > 1)
        ([0.0, 0.0], True)
        """
        image = self._checked("reference", image)
        if len(image) != 1:
            raise ImageError(f"reference: expected one image [1, 3, H, W], got {list(image.shape)}")
        self._check_together(image, image)
        return SharedReference(self, image)

    def remember(self, reference: Tensor) -> Reference:
        """Return what to keep of a reference between batches of distorted images.

        Metrics with a network keep the feature maps; by default it is the image itself.
        """
        return reference

    def pair_bytes(self, height: int, width: int) -> int:
        """Return roughly the peak memory that one pair takes, in bytes."""
        return _PIXEL_BYTES * height * width

    def configure(
        self,
        *,
        memory: Memory = None,
        precision: Precision | None = None,
        compile: bool | None = None,
        space: Space | None = None,
        border: int | None = None,
        peak: float | None = None,
    ) -> "Self":
        """Set how the module computes, and return it. Options that are left out do not change.

        Parameters
        ----------
        memory
            The most memory that a pass may take in addition to weights, images and the feature maps
            of a shared reference: bytes (``2**31``, ``"2GiB"``), or a share of the device's free
            memory (``0.5``). A pass always takes at least one pair. If a chunk runs out of memory,
            it is halved.
        precision
            The precision of the network: ``"float32"``, ``"bfloat16"`` or ``"float16"``. Metrics
            without a network always compute in full precision.
        compile
            Compile the comparison for each size of images and batch, up to 16 of them; the first
            call with each size takes seconds to minutes. This needs a C++ compiler. Calls that
            record a gradient are not compiled.
        space, border, peak
            What is compared of the images; see :class:`Conventions`. The values of pixels are
            checked after division by the peak.

        Raises
        ------
        ValueError
            If an option has another value.
        """
        if memory is not None:
            self.memory = MemoryBudget.parse(memory)
        if precision is not None:
            if precision not in PRECISIONS:
                raise ValueError(
                    f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}"
                )
            self.to(PRECISIONS[precision])
        if compile is not None:
            self.compiled = Compiled() if compile else None
        self.conventions = self.conventions.with_changes(
            {"space": space, "border": border, "peak": peak}
        )
        return self

    def under(self, conventions: Conventions) -> "Self":
        """Return the module under other conventions; both share their network and weights."""
        if conventions == self.conventions:
            return self
        twin = copy.copy(self)
        twin.conventions = conventions
        return twin

    def extra_repr(self) -> str:
        """Return its name, for ``repr``."""
        return self.name

    def _compare(self, map: bool, *, masked: bool = False) -> Callable[..., Tensor]:
        """Return the function that compares images that were already checked."""
        raise NotImplementedError

    def _weights(self, mask: object, distorted: Tensor) -> Tensor | None:
        """Return the weights of the pixels that are compared, ``[N, 1, H, W]``; None if none."""
        if mask is None:
            return None
        weights = cut(checked_mask(mask, distorted), self.conventions)
        if self.check == "error" and not is_hidden(weights):
            check_mask_values(weights)
        return weights

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Self":
        super()._apply(fn, recurse)
        if self.compiled is not None:
            self.compiled.clear()  # the compiled code contains the old weights
        return self

    def _compared(self, images: Tensor) -> Tensor:
        found = compared(images, self.conventions)
        grey = found.shape[1] == 1 and not self.any_channels
        return found.expand(-1, 3, -1, -1) if grey else found

    def _checked(self, role: str, images: Tensor) -> Tensor:
        """Return images in [0, 1]; raise ImageError if they can't be compared with any others."""
        if isinstance(images, Tensor):
            images = scaled(images, self.conventions)
        try:
            self._check_images(role, images)
        except ImageError as error:
            if self.conventions.peak is None or error.code != "out_of_range":
                raise
            raise ImageError(
                f"{error}. Values were divided by the peak {self.conventions.peak:g}", error.code
            ) from None
        return images

    def _check_images(self, role: str, images: Tensor) -> None:
        # Torch computes elementwise functions of few numbers in the calling thread.
        if not (self.elementwise and isinstance(images, Tensor) and images.numel() < MANY):
            before_computing()
        seen = isinstance(images, Tensor) and not is_hidden(images)
        check_images(images, role, values=seen and self.check == "error")
        border = self.conventions.border
        height, width = (side - 2 * border for side in images.shape[-2:])
        without = f" without a border of {border}" if border else ""
        if self.input_size not in (None, height) or self.input_size not in (None, width):
            raise ImageError(
                f"{role}: {self.name} needs images of exactly {self.input_size}x{self.input_size} "
                f"pixels, got {width}x{height}{without}; crop or resize both images in the same "
                "way",
                "wrong_size",
            )
        # Finding a network's smallest input takes a moment, so it is only done for small images. A
        # compiler can't do it; then the network refuses what is too small.
        least = min(height, width)
        surely = torch.compiler.is_compiling() or least >= self.surely_enough
        if not surely and least < self.smallest_input:
            raise ImageError(
                f"{role}: {max(0, width)}x{max(0, height)}{without} is too small for {self.name}; "
                f"expected at least {self.smallest_input} pixels each way",
                "too_small",
            )

    def _check_together(self, reference: Tensor, distorted: Tensor) -> None:
        check_pair(reference, distorted)
        homes = {str(t.device) for t in (reference, distorted, *self.held())}
        if len(homes) > 1:
            raise ImageError(
                f"metric and images are on different devices ({', '.join(sorted(homes))}); "
                "move them with .to(device)"
            )

    def _streamed(
        self,
        reference: Reference,
        distorted: Tensor,
        compare: Callable[..., Tensor],
        mask: Tensor | None = None,
    ) -> Tensor:
        """Compare batches that were already checked, in chunks that fit the memory budget.

        A mask, ``[N, 1, H, W]``, is the third argument of ``compare``. If a gradient is recorded,
        all pairs are computed at once: autograd keeps everything anyway.
        """
        home = distorted.device
        if (
            lacks_float64(home)
            and isinstance(reference, Tensor)
            and next(self.held(), None) is None  # without a network, it computes in float64
        ):
            x, y, *weights = with_float64(reference, distorted, *_given(mask))
            return returned(self._streamed(x, y, compare, *weights), home)
        alone = isinstance(reference, Tensor) and reference.shape[0] == len(distorted)
        images = [reference, distorted] if isinstance(reference, Tensor) else [distorted]
        with exact_arithmetic(distorted.device):
            if traced() or recorded(*images, *_given(mask), *self.parameters()):
                found = compare(*widened(reference, distorted), *_given(mask))
            else:
                found = self._by_chunks(reference, distorted, compare, alone, mask)
        return returned(found, home)

    @torch.no_grad()
    def _by_chunks(
        self,
        reference: Reference,
        distorted: Tensor,
        compare: Callable[..., Tensor],
        alone: bool,
        mask: Tensor | None,
    ) -> Tensor:
        compiled = self.compiled if mask is None else None
        most = self.most_pairs(distorted)
        if isinstance(reference, Tensor) and not alone and len(distorted) > most:
            reference = self.remember(reference.to(common_type(reference, distorted)))

        def run(first: int, last: int) -> Tensor:
            # A batch that fits into one chunk is not sliced.
            whole = last - first == len(distorted)
            one_each = isinstance(reference, Tensor) and alone and not whole
            x = reference[first:last] if one_each else reference  # type: ignore[index]
            y = distorted if whole else distorted[first:last]
            x, y = widened(x, y)
            if compiled is not None:
                return compiled(compare, x, y)
            return compare(x, y, *_given(mask if mask is None else mask[first:last]))

        return in_chunks(len(distorted), most, run, distorted.device)

    def most_pairs(self, distorted: Tensor) -> int:
        """Return how many of these pairs the memory budget allows at once."""
        if len(distorted) == 1:
            return 1
        height, width = distorted.shape[-2:]
        return self.memory.available(distorted.device) // max(1, self.pair_bytes(height, width))


class SharedReference:
    """A reference that is processed once and compared with several batches of distorted images.

    It is made by :meth:`PairModule.reference`, and processed together with the first batch.

    Parameters
    ----------
    metric
        The metric.
    image
        The reference, ``[1, 3, H, W]``, already checked.
    """

    def __init__(self, metric: PairModule, image: Tensor) -> None:
        # Whatever the metric is set to later, the reference is compared as it was prepared.
        self._metric = copy.copy(metric)
        self._size = image.shape[-2:]
        self._image: Tensor | None = metric._compared(image)
        self._remembered: dict[bool, Reference] = {}

    def __enter__(self) -> "SharedReference":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory of the reference. It can't be used afterwards."""
        self._image = None
        self._remembered.clear()

    def score(self, distorted: Tensor, *, map: bool = False, mask: Tensor | None = None) -> Any:
        """Return what calling the metric returns: the value of each distorted image, ``[N]``.

        With ``map`` it is the map of each, ``[N, 1, H, W]``; a mask gives weights to pixels. Values
        are equal to those of calling the metric, up to rounding. A reference that requires a
        gradient is passed through the network again each time.

        Raises
        ------
        ImageError, ValueError
            As when the metric is called.
        RuntimeError
            If the reference was closed.
        """
        metric, image = self._metric, self._image
        if image is None:
            raise RuntimeError("this reference is closed; make a new one: metric.reference(image)")
        compare = metric._compare(map, masked=mask is not None)
        distorted = metric._checked("distorted", distorted)
        check_sizes(self._size, distorted.shape[-2:])
        weights = metric._weights(mask, distorted)
        distorted = metric._compared(distorted)
        metric._check_together(image, distorted)
        if recorded(image):
            return metric.presented(metric._streamed(image, distorted, compare, weights))
        # Networks compute a distorted image whose gradient is recorded by other kernels, whose
        # rounding differs, and the reference has to go the same way.
        way = traced() or recorded(distorted)
        if way not in self._remembered:
            # Outside inference mode, because a later batch may require a gradient.
            with (
                exact_arithmetic(image.device),
                torch.inference_mode(False),
                torch.set_grad_enabled(way),
            ):
                wide = image.detach().to(common_type(image, image))
                self._remembered[way] = metric.remember(wide)
        found = metric._streamed(self._remembered[way], distorted, compare, weights)
        return metric.presented(found)


def _given(mask: Tensor | None) -> tuple[Tensor, ...]:
    return () if mask is None else (mask,)
