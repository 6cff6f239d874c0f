"""The error of images that can't be scored."""


class ImageError(ValueError):
    """An image, or a pair of images, that can't be scored.

    Attributes
    ----------
    code
        A stable short name for the reason: ``bad_image``, ``bad_colour``, ``bad_mask``,
        ``not_found``, ``too_large``, ``too_small``, ``too_slow``, ``wrong_size``,
        ``size_mismatch``, ``has_alpha``, ``animated`` or ``out_of_range``.
    """

    def __init__(self, message: str, code: str = "bad_image") -> None:
        super().__init__(message)
        self.code = code


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise ImageError unless an image has pixels, and not too many of them."""
    if width < 1 or height < 1:
        raise ImageError(f"zero-sized, {width}x{height}", "too_small")
    if width * height > max_pixels:
        raise ImageError(
            f"{width}x{height} has {width * height:,} pixels; at most {max_pixels:,} are decoded",
            "too_large",
        )
