"""Name a file that is not one of the images that are read, from its first bytes."""

HEAD = 512
"""Number of first bytes that :func:`what_it_is` looks at."""

_CONVERT = "convert it to PNG"
_VIDEO = "extract the frames as PNG"
_MAP = "map its values to [0, 1] yourself, and pass an array or save it as float TIFF"
_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "a JPEG 2000 image", _CONVERT),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 codestream", _CONVERT),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL image", _CONVERT),
    (b"\xff\x0a", "a JPEG XL codestream", _CONVERT),
    (b"\x76\x2f\x31\x01", "an OpenEXR image", _MAP),
    (b"#?R", "a Radiance HDR image", _MAP),
    (b"\x93NUMPY", "a NumPy file", "load it, and pass the array"),
    (b"8BPS", "a Photoshop document", "export it as PNG"),
    (b"%PDF", "a PDF document", "render it to PNG"),
    (b"%!PS", "a PostScript document", "render it to PNG"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it"),
    (b"\x1f\x8b", "gzip data", "unpack it"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video", _VIDEO),
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the file itself",
        "fetch the file with 'git lfs pull'",
    ),
)
_BRANDS: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "a HEIC image", _CONVERT),
)
_MARKUP: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    (
        (b"<!doctype html", b"<html"),
        "an HTML page, perhaps a server's error message",
        "download the image again",
    ),
    ((b"<svg", b"<?xml"), "an SVG drawing or other XML", "render it to PNG"),
    ((b"{", b"["), "text that looks like JSON", "download the image again"),
)


def what_it_is(head: bytes) -> tuple[str, str] | None:
    """Return what a file is and what to do with it, or None if its first bytes do not tell.

    Parameters
    ----------
    head
        The first :data:`HEAD` bytes of the file, or all if it is shorter.
    """
    for start, name, remedy in _STARTS:
        if head.startswith(start):
            return name, remedy
    if head[4:8] == b"ftyp":  # ISO 14496-12: major brand, version, compatible brands
        size = min(int.from_bytes(head[:4], "big"), len(head))
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]
        for known, name, remedy in _BRANDS:
            if any(brand in known for brand in brands):
                return name, remedy
        return "an MP4 or QuickTime video", _VIDEO
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "an AVI video", _VIDEO
    if head[128:132] == b"DICM":
        return "a DICOM file", "apply its window, and pass an array in [0, 1]"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for starts, name, remedy in _MARKUP:
        if text.startswith(starts):
            return name, remedy
    return None
