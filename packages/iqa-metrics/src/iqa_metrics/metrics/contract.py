"""The contract that every metric keeps."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from iqa_metrics.decoding import ImageError
from iqa_metrics.images import check_images, check_pair

Check = Literal["error", "off"]


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
    """

    name: str
    smallest_input: int

    def __init__(self, *, check: Check = "error") -> None:
        super().__init__()
        if check not in ("error", "off"):
            raise ValueError(f"check: expected 'error' or 'off', got {check!r}")
        self.check = check

    def check_inputs(self, reference: Tensor, distorted: Tensor) -> None:
        """Raise ImageError unless these can be compared; see :class:`Metric` for what can."""
        for name, images in (("reference", reference), ("distorted", distorted)):
            check_images(images, name, values=self.check == "error")
            if min(images.shape[-2:]) < self.smallest_input:
                raise ImageError(
                    f"{name}: {images.shape[-1]}x{images.shape[-2]} is too small for {self.name}; "
                    f"expected at least {self.smallest_input} pixels each way",
                    "too_small",
                )
        check_pair(reference, distorted)
        homes = {str(t.device) for t in (reference, distorted, *self.parameters())}
        if len(homes) > 1:
            raise ImageError(
                f"metric and images lie on different devices ({', '.join(sorted(homes))}); "
                "move them with .to(device)"
            )

    def extra_repr(self) -> str:
        return self.name


class Metric(PairModule):
    """How different two images look, as a number an image pair.

    Calling a metric takes ``reference`` and ``distorted``, RGB in [0, 1], ``[N, 3, H, W]``, and
    returns ``[N]``: the value of an image depends on nothing else in its batch. One reference
    ``[1, 3, H, W]`` may stand before N distorted images. Where ``differentiable``, the gradient
    reaches the images that ask for one and is finite everywhere, identical images included.

    Parameters
    ----------
    check
        ``"error"`` refuses values outside [0, 1], at the cost of one look at each pixel. ``"off"``
        trusts them, for training loops.

    Attributes
    ----------
    name
        The spec that makes this metric again, given what a spec can't say: a trunk or weights of
        the caller's own.
    higher_is_better
        Whether a larger value means a better looking image.
    range
        Least and greatest value.
    differentiable
        Whether it can serve as a loss.
    smallest_input
        Least height and width, in pixels.
    has_map
        Whether it has a value for each position too.
    source
        The paper to cite.
    """

    higher_is_better: ClassVar[bool]
    range: ClassVar[tuple[float, float]]
    differentiable: ClassVar[bool] = True
    has_map: bool = False
    source: ClassVar[str]

    def forward(self, reference: Tensor, distorted: Tensor, *, map: bool = False) -> Tensor:
        """Return the metric's value for each pair, ``[N]``, or its map, ``[N, 1, H, W]``.

        Parameters
        ----------
        reference, distorted
            The images.
        map
            Return the value at each position instead, of the images' own height and width.

        Raises
        ------
        ImageError
            If the images break the convention above, differ in size, are too small, or lie on
            different devices.
        ValueError
            If a map is asked of a metric that has none.
        """
        if map and not self.has_map:
            raise ValueError(f"{self.name} has no map; has_map says which metrics have one")
        self.check_inputs(reference, distorted)
        with exact_arithmetic(distorted.device):
            return (self.compare_map if map else self.compare)(reference, distorted)

    def compare(self, reference: Tensor, distorted: Tensor) -> Tensor:
        """Return ``[N]`` for images that were already checked. Each metric writes its own."""
        raise NotImplementedError

    def compare_map(self, reference: Tensor, distorted: Tensor) -> Tensor:
        """Return ``[N, 1, H, W]`` likewise, where the metric has a map."""
        raise NotImplementedError


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


def at_least_float32(images: Tensor) -> Tensor:
    """Return images as float32, or as float64 where they are that."""
    return images if images.dtype == torch.float64 else images.float()
