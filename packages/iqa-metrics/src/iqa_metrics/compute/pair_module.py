"""Modules that compare two batches of images: checked, within memory, compiled if asked."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from iqa_metrics.compute.compilation import Compiled
from iqa_metrics.compute.features import Reference
from iqa_metrics.compute.memory import Memory, MemoryBudget, in_chunks
from iqa_metrics.io.decoding import ImageError
from iqa_metrics.io.images import check_images, check_pair

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
"""Bytes a pixel of a pair takes in a metric without a network: sixteen float64 RGB planes."""


class PairModule(nn.Module):
    """A module that compares two batches of images, and refuses what can't be compared.

    Parameters
    ----------
    check
        ``"error"`` refuses values outside [0, 1], at the cost of one look at each pixel. ``"off"``
        trusts them, for training loops.

    Attributes
    ----------
    name
        What messages call it.
    smallest_input
        Least height and width, in pixels.
    input_size
        The only height and width, in pixels, where the network takes no other.
    surely_enough
        A height and width, in pixels, that is known to be enough.
    memory, compiled
        What :meth:`configure` chose.
    """

    name: str
    smallest_input: int
    input_size: int | None = None
    surely_enough: float = math.inf

    def __init__(self, *, check: Check = "error") -> None:
        super().__init__()
        if check not in ("error", "off"):
            raise ValueError(f"check: expected 'error' or 'off', got {check!r}")
        self.check = check
        self.memory = MemoryBudget()
        self.compiled: Compiled | None = None

    def forward(self, reference: Tensor, distorted: Tensor) -> Any:
        """Compare two batches of images. Raises ImageError as a metric does."""
        compare = self._compare(False)
        self.check_inputs(reference, distorted)
        return self.presented(self._streamed(reference, distorted, compare))

    def presented(self, values: Tensor) -> Any:
        """Return what callers get of the computed values; by default the values themselves."""
        return values

    def check_inputs(self, reference: Tensor, distorted: Tensor) -> None:
        """Raise ImageError unless these can be compared; see :class:`Metric` for what can."""
        self._check_images("reference", reference)
        self._check_images("distorted", distorted)
        self._check_together(reference, distorted)

    def reference(self, image: Tensor) -> "SharedReference":
        """Take a reference that many batches of distorted images will be compared with.

        Use it as a context manager: what is kept of the reference is freed at the end.

        Parameters
        ----------
        image
            One reference, ``[1, 3, H, W]``.

        Raises
        ------
        ImageError
            As when the metric is called, or if it is not one image.

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
        self._check_images("reference", image)
        if len(image) != 1:
            raise ImageError(f"reference: expected one image [1, 3, H, W], got {list(image.shape)}")
        self._check_together(image, image)
        return SharedReference(self, image)

    def remember(self, reference: Tensor) -> Reference:
        """Return what is worth keeping of one reference while its distorted images come.

        Of a network its responses; by default the image itself.
        """
        return reference

    def pair_bytes(self, height: int, width: int) -> int:
        """Return about how many bytes the work on one pair takes at its peak."""
        return _PIXEL_BYTES * height * width

    def configure(
        self,
        *,
        memory: Memory = None,
        precision: Precision | None = None,
        compile: bool | None = None,
    ) -> "Self":
        """Choose how it computes, and return it; what is left out stays as it is.

        Parameters
        ----------
        memory
            Most memory that a pass may take above weights, images and a shared reference's
            responses: bytes (``2**31``, ``"2GiB"``), or a share of the device's free memory
            (``0.5``). A pass takes at least one pair, and a chunk that does not fit after all is
            halved.
        precision
            What the network computes in: ``"float32"``, ``"bfloat16"`` or ``"float16"``. Metrics
            without a network have none to lower and stay exact.
        compile
            Compile the comparison for each size of images and batch that comes, up to 16; the first
            call of each takes seconds to minutes. It needs a C++ compiler. Where a gradient is
            recorded nothing is compiled.

        Raises
        ------
        ValueError
            If an option is none of those.
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
        return self

    def extra_repr(self) -> str:
        """Return its name, for ``repr``."""
        return self.name

    def _compare(self, map: bool) -> Callable[[Reference, Tensor], Tensor]:
        """Return what compares images that were checked."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Self":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.compiled is not None:
            self.compiled = Compiled()  # the old weights are frozen into what was compiled
        return self

    def _check_images(self, role: str, images: Tensor) -> None:
        check_images(images, role, values=self.check == "error")
        height, width = images.shape[-2:]
        if self.input_size not in (None, height) or self.input_size not in (None, width):
            raise ImageError(
                f"{role}: {self.name} takes {self.input_size}x{self.input_size} pixels alone, got "
                f"{width}x{height}; crop or resize both images alike",
                "wrong_size",
            )
        # The smallest input of a network takes a moment to find, and is asked for when it matters.
        least = min(height, width)
        if least < self.surely_enough and least < self.smallest_input:
            raise ImageError(
                f"{role}: {images.shape[-1]}x{images.shape[-2]} is too small for {self.name}; "
                f"expected at least {self.smallest_input} pixels each way",
                "too_small",
            )

    def _check_together(self, reference: Tensor, distorted: Tensor) -> None:
        check_pair(reference, distorted)
        homes = {str(t.device) for t in (reference, distorted, *self.parameters())}
        if len(homes) > 1:
            raise ImageError(
                f"metric and images lie on different devices ({', '.join(sorted(homes))}); "
                "move them with .to(device)"
            )

    def _streamed(
        self,
        reference: Reference,
        distorted: Tensor,
        compare: Callable[[Reference, Tensor], Tensor],
    ) -> Tensor:
        """Compare batches that were checked, as many pairs at once as fit the memory budget.

        Where a gradient is recorded everything is kept in any case, and all pairs go at once.
        """
        alone = isinstance(reference, Tensor) and reference.shape[0] == len(distorted)
        recorded = torch.is_grad_enabled() and any(
            t.requires_grad for t in (reference, distorted) if isinstance(t, Tensor)
        )
        with exact_arithmetic(distorted.device):
            if recorded:
                return compare(reference, distorted)
            compiled = self.compiled
            most = self.most_pairs(distorted)
            if isinstance(reference, Tensor) and not alone and len(distorted) > most:
                reference = self.remember(reference)

            def run(first: int, last: int) -> Tensor:
                # Plain slices: a batch that is cut nowhere is not even sliced.
                whole = last - first == len(distorted)
                one_each = isinstance(reference, Tensor) and alone and not whole
                x = reference[first:last] if one_each else reference  # type: ignore[index]
                y = distorted if whole else distorted[first:last]
                return compare(x, y) if compiled is None else compiled(compare, x, y)

            return in_chunks(len(distorted), most, run, distorted.device)

    def most_pairs(self, distorted: Tensor) -> int:
        """Return how many of these pairs are computed at once: as many as memory allows."""
        if len(distorted) == 1:
            return 1
        height, width = distorted.shape[-2:]
        return self.memory.available(distorted.device) // max(1, self.pair_bytes(height, width))


class SharedReference:
    """A reference that batches of distorted images are compared with, looked at once.

    Made by :meth:`PairModule.reference`. What is kept of it is made with the first batch.

    Parameters
    ----------
    metric
        The metric.
    image
        The reference, ``[1, 3, H, W]``, already checked.
    """

    def __init__(self, metric: PairModule, image: Tensor) -> None:
        self._metric = metric
        self._image: Tensor | None = image
        self._remembered: Reference | None = None

    def __enter__(self) -> "SharedReference":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free what is kept of the reference; scoring is over."""
        self._image = self._remembered = None

    def score(self, distorted: Tensor, *, map: bool = False) -> Any:
        """Return what calling the metric returns: the value of each distorted image, ``[N]``.

        With ``map`` it is the map of each, ``[N, 1, H, W]``. Values are those of calling the
        metric, up to rounding. A reference that asks for its gradient is passed again each time.

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
        compare = metric._compare(map)
        metric._check_images("distorted", distorted)
        metric._check_together(image, distorted)
        if torch.is_grad_enabled() and image.requires_grad:
            return metric.presented(metric._streamed(image, distorted, compare))
        if self._remembered is None:
            # Made outside inference mode: a later batch may ask for its gradient.
            with exact_arithmetic(image.device), torch.inference_mode(False), torch.no_grad():
                self._remembered = metric.remember(image)
        return metric.presented(metric._streamed(self._remembered, distorted, compare))


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Let nothing that surrounds a metric lower its precision without a word.

    An enclosing autocast is switched off and, on a GPU, TF32 for convolutions, torch's default
    there. The latter is a flag of the whole process, put back at the end.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            cudnn = torch.backends.cudnn
            stack.enter_context(
                cudnn.flags(
                    enabled=cudnn.enabled,
                    benchmark=cudnn.benchmark,
                    deterministic=cudnn.deterministic,
                    allow_tf32=False,
                )
            )
        yield
