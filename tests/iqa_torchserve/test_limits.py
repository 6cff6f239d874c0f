"""Limits: one typed record, read from the command line and from an archive."""

import pytest

from iqa_torchserve.limits import Limits


def test_limits_survive_json_and_the_command_line():
    limits = Limits(pixels=1000, decode_seconds=1.5)
    assert Limits.from_json(limits.as_json()) == limits
    assert Limits.parse(["pixels=1000", "decode_seconds=1.5"]) == limits
    assert Limits.parse([]) == Limits()


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["pixel=1"], "unknown limit pixel; expected batch_seconds"),
        (["pixels"], "expected NAME=NUMBER"),
        (["pixels=many"], "expected NAME=NUMBER"),
        (["pixels=1.5"], "expected NAME=NUMBER"),
        (["pixels=0"], "expected more than 0"),
        (["decode_seconds=-1"], "expected more than 0"),
        (["decode_seconds=nan"], "expected more than 0"),
    ],
)
def test_what_is_wrong_is_said(texts, words):
    with pytest.raises(ValueError, match=words):
        Limits.parse(texts)


@pytest.mark.parametrize("value", [True, "5", 2.0, None])
def test_a_count_is_a_whole_number(value):
    with pytest.raises(ValueError, match="images: expected a whole number"):
        Limits(images=value)
