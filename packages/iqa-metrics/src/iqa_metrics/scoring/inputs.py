"""The forms in which callers give pairs and metrics, and the one form in which they are scored."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Union

import numpy as np
import torch
from PIL import Image

from iqa_metrics.compute.devices import pick_device
from iqa_metrics.io.tables import PAIR_COLUMNS, Pair, bad_conventions, is_blank
from iqa_metrics.metrics import Metric, MetricSpec, create_metric, parse_spec

OneMetric = Union[str, MetricSpec, Metric]
Metrics = Union[OneMetric, Sequence[OneMetric], Mapping[str, OneMetric]]
Pairs = Union[Iterable[Any], Any]
"""An iterable of pairs, or a table of pandas, polars or pyarrow."""

_EXPECTED = "(reference, distorted), a mapping with the keys reference and distorted, or a Pair"
_MEMORY = (bytes, bytearray, memoryview, Image.Image, np.ndarray, torch.Tensor)


def metrics_of(metrics: Metrics, device: str = "auto") -> dict[str, Metric]:
    """Return metric objects by the names that rows give them.

    Parameters
    ----------
    metrics
        A spec or metric object, several in a sequence, or a mapping of names to them. A spec that
        is given twice counts once.
    device
        Where metrics that are given as specs are made.

    Raises
    ------
    TypeError
        If one is neither a spec nor a metric.
    ValueError
        If there are none, or two metric objects have one name.
    UnknownNameError, WeightsError
        As by :func:`iqa_metrics.create_metric`.
    """
    if isinstance(metrics, Mapping):
        named = list(metrics.items())
    else:
        listed: Iterable[Any]
        if isinstance(metrics, (str, Metric)) or _is_spec(metrics):
            listed = [metrics]
        elif isinstance(metrics, Iterable):
            listed = metrics
        else:
            raise TypeError(
                "metrics: expected a spec, a metric, a list of them or a mapping of names to them, "
                f"got {type(metrics).__name__}"
            )
        named = [(_name(metric), metric) for metric in listed]
        if not named:
            raise ValueError("metrics: expected at least one, got none")
    made: dict[str, Metric] = {}
    given: dict[str, Any] = {}
    for name, metric in named:
        if name in given and (isinstance(metric, Metric) or isinstance(given[name], Metric)):
            if metric is given[name]:
                continue
            raise ValueError(
                f"metrics: two have the name {name!r}; give a mapping of names of your own"
            )
        if name in given:
            continue
        given[name] = metric
        _name(metric)  # what a mapping holds is checked as well
        if isinstance(metric, Metric):
            made[name] = metric
        else:
            made[name] = create_metric(metric, device=pick_device(device))
    return made


def _is_spec(metric: object) -> bool:
    return isinstance(metric, MetricSpec)


def _name(metric: Any) -> str:
    if isinstance(metric, Metric):
        return metric.name
    if isinstance(metric, str) or _is_spec(metric):
        return str(parse_spec(str(metric)))
    made = isinstance(metric, type) and issubclass(metric, Metric)
    hint = f"; call it: {metric.__name__}()" if made else ""
    shown = metric.__name__ if made else type(metric).__name__
    raise TypeError(f"metrics: expected a spec or a metric object, got {shown}{hint}")


def pairs_of(pairs: Pairs) -> Iterator[Pair]:
    """Yield pairs in their one form, as they are read.

    Parameters
    ----------
    pairs
        An iterable of tuples, lists, mappings, named tuples or :class:`Pair` objects, or a table
        with columns ``reference`` and ``distorted``.

    Raises
    ------
    TypeError
        If it is neither, at once; or if a pair is of another kind, when it is reached.
    ValueError
        If a table lacks a column, at once; or if a pair has not two images, when it is reached.
    """
    if isinstance(pairs, (str, os.PathLike)):
        raise TypeError(
            f"pairs: expected an iterable of pairs, got the path {os.fspath(pairs)!r}; "
            "score_table() scores a CSV table, PairTable.open() reads its pairs"
        )
    if isinstance(pairs, (Mapping, Pair)):
        raise TypeError(
            f"pairs: expected an iterable of pairs, got one {type(pairs).__name__}; put a single "
            "pair into a list, and columns into a table: zip(references, distorted)"
        )
    if _is_table(pairs):
        return _numbered(_rows(pairs))
    if not isinstance(pairs, Iterable):
        raise TypeError(
            f"pairs: expected an iterable of pairs or a table, got {type(pairs).__name__}; each "
            f"pair is {_EXPECTED}"
        )
    return _numbered(pairs)


def _is_table(pairs: object) -> bool:
    # pandas, polars and pyarrow, none of which is imported for this. Looked up in the class: a
    # column of pandas is an attribute too.
    kind = type(pairs)
    return hasattr(kind, "columns") and any(
        hasattr(kind, name) for name in ("itertuples", "iter_rows", "to_pylist", "collect")
    )


def _rows(table: Any) -> Iterator[dict[str, Any]]:
    if hasattr(type(table), "collect"):
        raise TypeError(f"pairs: {type(table).__name__} is not read yet; call its collect() first")
    names = list(table.column_names if hasattr(type(table), "to_pylist") else table.columns)
    missing = [name for name in PAIR_COLUMNS if name not in names]
    if missing:
        raise ValueError(
            f"pairs: no column {' and no column '.join(missing)}; expected the columns reference "
            f"and distorted, got {', '.join(map(str, names)) or 'none'}"
        )
    if len(set(names)) != len(names):
        raise ValueError(f"pairs: two columns have the same name in {', '.join(map(str, names))}")
    columns = (table[name] for name in names)
    values = [col.to_pylist() if hasattr(col, "to_pylist") else col for col in columns]
    return (dict(zip(names, row, strict=True)) for row in zip(*values, strict=True))


def _numbered(items: Iterable[Any]) -> Iterator[Pair]:
    for number, item in enumerate(items):
        if isinstance(item, Pair):
            problem = item.problem or bad_conventions(item.carried)
            mask = _mask(item.carried) if item.mask is None else item.mask
            yield replace(item, problem=problem, mask=mask)
        else:
            yield _pair(number, item)


def _pair(number: int, item: Any) -> Pair:
    where = f"pairs: item {number} (from 0)"
    if hasattr(item, "_asdict"):  # a named tuple
        fields = item._asdict()
        item = fields if set(PAIR_COLUMNS) <= set(fields) else item
    if isinstance(item, Mapping):
        missing = [name for name in PAIR_COLUMNS if name not in item]
        if missing:
            raise ValueError(
                f"{where}: no key {' and no key '.join(missing)}; expected the keys reference and "
                f"distorted, got {', '.join(map(str, item)) or 'none'}"
            )
        sources = tuple(item[name] for name in PAIR_COLUMNS)
        carried = {str(key): value for key, value in item.items() if key not in PAIR_COLUMNS}
    else:
        if isinstance(item, np.ndarray) and item.dtype.kind in "UO" and item.ndim == 1:
            item = item.tolist()
        if not isinstance(item, (tuple, list)):
            hint = "; put a single pair into a list: [(reference, distorted)]"
            is_image = isinstance(item, (str, os.PathLike, *_MEMORY))
            raise TypeError(
                f"{where}: expected {_EXPECTED}, got {_shown(item)}{hint if is_image else ''}"
            )
        if len(item) != 2:
            raise ValueError(
                f"{where}: expected {_EXPECTED}, got a {type(item).__name__} of {len(item)}"
            )
        sources, carried = tuple(item), {}
    names: list[str] = []
    images: list[object | None] = []
    problem = ""
    for role, source in zip(PAIR_COLUMNS, sources, strict=True):
        if is_blank(source):
            problem = problem or f"bad_row: {role} is missing, got {source!r}"
        elif not isinstance(source, (str, os.PathLike, *_MEMORY)):
            raise TypeError(
                f"{where}: {role}: expected a path, bytes, a PIL image, an array or a tensor, got "
                f"{_shown(source)}"
            )
        in_memory = isinstance(source, _MEMORY)
        images.append(source if in_memory else None)
        names.append(_shown(source) if in_memory else "" if problem else os.fspath(source))
    mask = _mask(carried)
    if isinstance(mask, _MEMORY):
        del carried["mask"]  # rows that a caller keeps would keep its pixels
    return Pair(
        names[0],
        names[1],
        carried=carried,
        problem=problem or bad_conventions(carried),
        sources=(images[0], images[1]),
        mask=mask,
    )


def _mask(carried: Mapping[str, Any]) -> object | None:
    mask = carried.get("mask")
    return None if is_blank(mask) else mask


def _shown(value: object) -> str:
    """Return what rows and messages call an image in memory, or another value."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return f"{type(value).__name__} {list(value.shape)} {value.dtype}"
    if isinstance(value, Image.Image):
        return f"PIL image {value.width}x{value.height} {value.mode}"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value)} bytes"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
