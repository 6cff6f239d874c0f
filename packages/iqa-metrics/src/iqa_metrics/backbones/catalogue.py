"""Every network that has a name: this package's, timm's, and records in the user's own files."""

from pathlib import Path

from iqa_metrics.backbones.efficientnet_lite import efficientnet_lites
from iqa_metrics.backbones.perceptnet import PERCEPTNET
from iqa_metrics.backbones.record import Backbone
from iqa_metrics.backbones.record_files import record_in, user_backbones
from iqa_metrics.backbones.scaling import InputScaling
from iqa_metrics.backbones.timm_models import PREFIX, timm_backbone
from iqa_metrics.backbones.torchvision_models import torchvision_backbones
from iqa_metrics.backbones.zoos import zoo_backbones
from iqa_metrics.registry import Registry, expect
from iqa_metrics.weights.files import WeightsFile

BACKBONES: tuple[Backbone, ...] = (
    *efficientnet_lites(),
    PERCEPTNET,
    *torchvision_backbones(),
    *zoo_backbones(),
)
"""What this package knows by itself; the first is the embedded one. :func:`all_backbones` has
those that are registered, too."""


def _check(record: Backbone) -> None:
    """Raise PluginError unless a record can be used."""
    what = f"backbone {record.name!r}"
    for name in ("build", "trunk", "names"):
        value = getattr(record, name)
        expect(callable(value), f"{what}: {name}", "a function", value)
    expect(
        isinstance(record.scaling, InputScaling),
        f"{what}: scaling",
        "an InputScaling",
        record.scaling,
    )
    expect(
        record.weights is None or isinstance(record.weights, WeightsFile),
        f"{what}: weights",
        "a WeightsFile or None",
        record.weights,
    )


REGISTRY: Registry[Backbone] = Registry(
    "backbone", Backbone, BACKBONES, name=lambda record: record.name, check=_check
)


def all_backbones() -> tuple[Backbone, ...]:
    """Return :data:`BACKBONES`, the registered backbones, and those in the user's own files.

    Raises
    ------
    ValueError
        If one of the user's files is not a record, or its name is taken.
    """
    own = user_backbones(_base)
    for record in own:
        if REGISTRY.find(record.name) is not None:
            taken = REGISTRY.provider(record.name)
            whose = f"registered by {taken}" if taken else "built in"
            raise ValueError(
                f"the name of the record {record.name!r} is taken by a backbone that is {whose}; "
                "choose another name"
            )
    return (*REGISTRY.all(), *own)


def backbone(name: str) -> Backbone:
    """Return the backbone of that name.

    ``timm:NAME`` is any network of timm. Other names are those of built-in backbones, of
    registered ones, and of the TOML records in the files and folders that the environment variable
    ``IQA_BACKBONES`` lists.

    Raises
    ------
    UnknownNameError
        If there is none; the message gives the nearest names.
    ValueError
        If one of the user's files is not a record.
    """
    if name.startswith(PREFIX):
        return timm_backbone(name)
    found = REGISTRY.find(name)
    if found is not None:
        return found
    own = {record.name: record for record in all_backbones()}
    if name in own:
        return own[name]
    raise REGISTRY.unknown(name, others=own)


def read_record(file: str | Path) -> Backbone:
    """Read a record from a TOML file, whose form :mod:`iqa_metrics.backbones.record_files` shows.

    Raises
    ------
    ValueError
        If the file can't be read or is no record; the message says what was expected.
    """
    return record_in(file, backbone)


def _base(name: str) -> Backbone:
    return timm_backbone(name) if name.startswith(PREFIX) else REGISTRY.get(name)
