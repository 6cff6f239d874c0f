"""ICC profiles and PNG chunks, built from their definitions without the code under test."""

import struct
import zlib

import numpy as np

D65 = (0.3127, 0.3290)
PRIMARIES = {
    "sRGB": (0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    "Display P3": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    "Adobe RGB": (0.64, 0.33, 0.21, 0.71, 0.15, 0.06),
    "BT.2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
}
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def colorants(primaries, white=D65):
    """The XYZ of red, green and blue, adapted to D50 by the Bradford method, as columns."""
    xy = np.array([*primaries, *white]).reshape(4, 2)
    xyz = np.stack([xy[:, 0] / xy[:, 1], np.ones(4), (1 - xy.sum(1)) / xy[:, 1]])
    scaled = xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])
    bradford = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    gain = (bradford @ [0.9642, 1, 0.8249]) / (bradford @ xyz[:, 3])
    return np.linalg.inv(bradford) @ np.diag(gain) @ bradford @ scaled


def fixed(*values):
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def parametric(*parameters):
    kind = {1: 0, 3: 1, 4: 2, 5: 3, 7: 4}[len(parameters)]
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + fixed(*parameters)


def sampled(values):
    steps = np.round(np.asarray(values) * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(steps)) + steps.tobytes()


def gamma(exponent):
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(exponent * 256))


def text(name):
    content = name.encode("utf-16-be")
    head = struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(content), 28)
    return b"mluc" + bytes(4) + head + content


def old_text(name):
    """A description as in version 2 of ICC."""
    content = name.encode() + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(content)) + content + bytes(78)


def profile(tags, *, space=b"RGB ", kind=b"mntr", connection=b"XYZ ", version=4):
    """An ICC profile of tags by their four letters."""
    tags = {"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249), "cprt": text("none"), **tags}
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name.encode(), start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">I4sB3x4s4s4s", start + len(body), bytes(4), version, kind, space, connection
    )
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += fixed(0.9642, 1, 0.8249)
    return head + bytes(128 - len(head)) + table + body


def rgb_profile(name, primaries=None, curve=None, xyz=None, **options):
    """A profile of a matrix and tone curves; by default with the curve of sRGB."""
    curves = curve if isinstance(curve, tuple) else (curve or parametric(*SRGB_CURVE),) * 3
    xyz = colorants(primaries or PRIMARIES[name]) if xyz is None else np.array(xyz)
    tags = {"desc": text(name)}
    for at, letter in enumerate("rgb"):
        tags[f"{letter}XYZ"] = b"XYZ " + bytes(4) + fixed(*xyz[:, at])
        tags[f"{letter}TRC"] = curves[at]
    return profile({**tags, **options.pop("more", {})}, **options)


def grey_profile(name, curve, **options):
    return profile({"desc": text(name), "kTRC": curve}, space=b"GRAY", **options)


def table_profile(name, light, steps=17):
    """A profile of tables: a function from values ``[N, 3]`` to XYZ, sampled on a grid."""
    axes = np.linspace(0, 1, steps)
    grid = np.stack(np.meshgrid(axes, axes, axes, indexing="ij"), -1).reshape(-1, 3)
    table = np.round(np.clip(light(grid) * 32768 / 65535, 0, 1) * 65535).astype(">u2").tobytes()
    straight = struct.pack(">2H", 0, 65535) * 3
    content = b"mft2" + bytes(4) + bytes([3, 3, steps, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    content += struct.pack(">HH", 2, 2) + straight + table + straight
    return profile({"desc": text(name), "A2B0": content}, kind=b"scnr")


P3 = rgb_profile("Display P3")


def srgb_light(values):
    values = np.asarray(values, np.float64)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_values(light):
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def to_space(srgb, primaries, encode=srgb_values):
    """sRGB ``[..., 3]`` in [0, 1] as values of another space."""
    there = np.linalg.inv(colorants(primaries)) @ colorants(PRIMARIES["sRGB"])
    return encode(srgb_light(srgb) @ there.T)


def from_space(values, primaries, decode=srgb_light):
    """Values ``[..., 3]`` of a space as sRGB in [0, 1]."""
    back = np.linalg.inv(colorants(PRIMARIES["sRGB"])) @ colorants(primaries)
    return srgb_values(decode(values) @ back.T)


def steps(values, peak=255, dtype=np.uint8):
    return np.round(np.asarray(values) * peak).astype(dtype)


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(array, *chunks):
    """A PNG of 8 or 16 bits with chunks before its pixels; Pillow can't write 16-bit colour."""
    height, width, *rest = array.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[rest[0] if rest else 1]
    depth = array.dtype.itemsize * 8
    rows = b"".join(b"\0" + row.astype(array.dtype.newbyteorder(">")).tobytes() for row in array)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)),
            *chunks,
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


def iccp(content):
    return chunk(b"iCCP", b"icc\0\0" + zlib.compress(content))


def cicp(*points):
    return chunk(b"cICP", bytes(points))


def gama(value):
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def chrm(primaries, white=D65):
    return chunk(b"cHRM", struct.pack(">8I", *(round(v * 100_000) for v in (*white, *primaries))))


RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (12, 16, 3), dtype=np.uint16)
GREY = RNG.integers(0, 256, (12, 16), dtype=np.uint8)
WIDE = PRIMARIES["Display P3"]
TABLES = table_profile("scanner", lambda v: srgb_light(v) @ colorants(WIDE).T)
