"""The raw body: what is packed can be unpacked, and nothing else is accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqa_torchserve.container import ContainerError, TooManyError, pack, unpack

images = st.lists(st.binary(max_size=60), min_size=2, max_size=5)
metrics = st.lists(st.text(max_size=20), max_size=4)


def opened(body):
    return unpack(body, most_images=5, most_metrics=4)


@given(images, metrics, st.booleans())
def test_what_is_packed_comes_back(images, metrics, maps):
    body = pack(images, metrics, maps=maps)
    assert opened(body) == opened(bytearray(body)) == (images, metrics, maps)


@given(images, metrics, st.data())
def test_a_truncated_or_longer_body_is_refused(images, metrics, data):
    body = pack(images, metrics)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(ContainerError, match="cut off"):
        opened(body[:cut])
    with pytest.raises(ContainerError, match="1 bytes follow"):
        opened(body + b"x")


@given(st.binary(max_size=200))
def test_anything_else_is_refused_with_a_container_error(body):
    for content in (body, b"IQAR" + body, b"IQAR\x01\x00" + body):
        try:
            found, names, _ = opened(content)
        except ContainerError:
            continue
        assert pack(found, names, maps=bool(content[5])) == content


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({0: 0x58}, "expected b'IQAR'"),
        ({4: 2}, "version 2, expected 1"),
        ({5: 2}, "flags 0x02"),
        ({8: 1}, "1 images"),
        ({14: 0xFF}, "is not UTF-8"),
    ],
)
def test_what_is_wrong_is_said(change, words):
    body = bytearray(pack([b"a", b"b"], ["psnr"]))
    for place, value in change.items():
        body[place] = value
    with pytest.raises(ContainerError, match=words):
        opened(body)


def test_counts_in_the_body_are_not_trusted():
    body = bytearray(pack([b"a", b"b"]))
    body[8:12] = b"\xff\xff\xff\x7f"
    with pytest.raises(TooManyError, match="at most 5 and 4"):
        opened(body)


def test_a_request_has_a_distorted_image():
    with pytest.raises(ValueError, match="expected a reference and a distorted image"):
        pack([b"a"])
    with pytest.raises(ValueError, match="too long"):
        pack([b"a", b"b"], ["x" * 70_000])
