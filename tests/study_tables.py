"""A study's folder with all its tables, made from seeded numbers without networks or images."""

import csv
import hashlib
import itertools
import json
import math

import numpy as np
import pyarrow
import pyarrow.parquet

KINDS = ("gaussian blur", "jpeg", "noise", "contrast")
FAMILIES = ("VGG", "ResNet", "AlexNet", "EfficientNet-Lite", "ConvNeXt", "DenseNet", "RegNet")
BASELINES = ("ssim", "psnr", "ms_ssim", "lpips_vgg", "dists")
HIGHER = ("ssim", "psnr", "ms_ssim")
TOO_FEW = "there are pairs of only 1 reference image: expected at least 4"
VGG = tuple(
    f"{kind}{block}_{number}" if kind == "relu" else f"pool{block}"
    for block, many in ((1, 2), (2, 2), (3, 3))
    for kind, number in (*(("relu", n + 1) for n in range(many)), ("pool", 0))
)


def number(value):
    return "" if value is None or math.isnan(value) else repr(float(value))


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def database(name="tid2013", *, title="TID 2013", higher_is="better", references=12, **other):
    return {
        "name": name,
        "title": title,
        "higher_is": higher_is,
        "pairs": references * 12,
        "references": references,
        "failed": 0,
        "opinion": True,
        "source": "made up",
        "licence": "none",
    } | other


def backbone(name, family, index=0, *, trained=True, layers=VGG, **other):
    return {
        "name": name,
        "architecture": name.split(".")[0].upper(),
        "family": family,
        "kind": "convolutional",
        "depth": 16,
        "weighted_layers": len(layers),
        "goal": "classification" if trained else "untrained",
        "method": "supervised",
        "data": "ImageNet-1k" if trained else "",
        "environment": "torchvision",
        "recipe": "v1",
        "start": "random",
        "parameters": 1_000_000 * (index + 1),
        "score": 60.0 + 3.1 * index % 29 if trained else None,
        "score_of": "ImageNet-1k top-1 accuracy, %" if trained else "",
        "paper": "",
        "note": "",
        "network": hashlib.sha256(name.encode()).hexdigest(),
        "layers": [
            {"name": layer, "depth": (i + 1) / len(layers), "channels": 8}
            for i, layer in enumerate(layers)
        ],
    } | other


def networks(count=3, untrained=True):
    """``count`` trained networks, the first of them vgg16, each with its control."""
    found = []
    for index in range(count):
        family = FAMILIES[index % len(FAMILIES)]
        name = "vgg16" if index == 0 else f"{family.lower().replace('-', '_')}_{index}"
        found.append(backbone(name, family, index))
        if untrained:
            found.append(backbone(f"{name}.untrained", family, index, trained=False))
    return found


def write_study(
    folder,
    *,
    databases=None,
    backbones=None,
    baselines=BASELINES,
    kinds=KINDS,
    intervals=True,
    held_out=True,
    seed=0,
):
    """Write all tables, and return the folder.

    Several databases get pooled rows. Without ``intervals`` all of them are empty. Without
    ``held_out`` there are too few references: no intervals, and nothing was held out.
    """
    stream = np.random.default_rng(seed)
    databases = [database()] if databases is None else databases
    backbones = networks() if backbones is None else backbones
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "format": "iqa-metrics study, 1",
        "title": "A made-up study",
        "made_with": {"iqa_metrics": "0.1.0", "torch": "2.9.0"},
        "settings": {
            "draws": 1000,
            "seed": 0,
            "confidence": 0.95,
            "margin": 0.02,
            "plain": "euclidean",
            "readouts": ["euclidean", "gram"],
            "concatenations": [],
        },
        "databases": databases,
        "backbones": backbones,
        "baselines": [
            {
                "name": name,
                "higher_is_better": name in HIGHER,
                "source": "made up",
                "tuned": name in ("lpips_vgg", "dists"),
            }
            for name in baselines
        ],
    }
    (folder / "study.json").write_text(json.dumps(record), encoding="utf-8")
    names = [one["name"] for one in databases]
    pooled = ["pooled"] if len(databases) > 1 else []
    worse = {one["name"]: one["higher_is"] == "worse" for one in databases} | {"pooled": True}
    correlations, models, winners = [], [], []
    for where in [*pooled, *names]:
        rows = list(_correlations(stream, where, worse[where], backbones, baselines, kinds))
        correlations += rows
        of = _models(stream, where, rows, backbones, baselines)
        winners += _winners(where, of, baselines)
        models += of
    comparisons = [
        row for where in [*pooled, *names] for row in _comparisons(stream, where, backbones)
    ]
    intervals = intervals and held_out
    if not held_out:
        for row in models:
            row["held_out"] = "" if row["layers"] else row["held_out"]
        for row in comparisons:
            row |= {"p": math.nan, "p_corrected": math.nan, "verdict": "undecided"}
        for row in winners:
            row |= {"held_out": math.nan, "stability": math.nan, "why": TOO_FEW}
    tables = {
        "correlations": correlations,
        "models": models,
        "comparisons": comparisons,
        "claims": [row for where in [*pooled, *names] for row in _claims(where)],
        "winners": winners,
    }
    for name, rows in tables.items():
        for row in rows:
            for column, value in row.items():
                if isinstance(value, float):
                    gone = not intervals and column.endswith(("low", "high"))
                    row[column] = "" if gone else number(value)
        write_csv(folder / f"{name}.csv", rows)
    _write_distances(folder / "distances.parquet", stream, databases, backbones, baselines, kinds)
    return folder


def _agreement(stream, index, trained, depth):
    peak = 0.9 - 0.012 * index if trained else 0.68 - 0.01 * index
    return peak - (0.4 if trained else 0.25) * (depth - 0.6) ** 2 + stream.normal(0, 0.004)


def _correlations(stream, where, worse, backbones, baselines, kinds):
    series = [
        *(
            (one["name"], layer["name"], layer["depth"], readout, one["goal"] != "untrained", index)
            for index, one in enumerate(backbones)
            for layer in one["layers"]
            for readout in ("euclidean", "gram")
        ),
        *((name, "", math.nan, "", True, 3 + 4 * i) for i, name in enumerate(baselines)),
    ]
    for name, layer, depth, readout, trained, index in series:
        for kind in ["", *kinds]:
            value = _agreement(stream, index, trained, 0.5 if math.isnan(depth) else depth)
            value -= 0.03 * (readout == "gram") + (stream.uniform(0, 0.5) if kind else 0)
            sign = 1 if worse != (not layer and name in HIGHER) else -1
            low, high = sorted((sign * (value - 0.03), sign * (value + 0.025)))
            yield {
                "database": where,
                "distortion": kind,
                "backbone": name,
                "layer": layer,
                "depth": depth,
                "readout": readout,
                "n": 100,
                "srocc": sign * value,
                "srocc_low": low,
                "srocc_high": high,
                "plcc": sign * (value - 0.02),
                "plcc_logistic": value,
                "krocc": sign * value * 0.75,
                "rmse": 1 - value,
                "srocc_within": sign * value,
                **{
                    f"{name}_{end}": number + way
                    for name, number in (
                        ("plcc", sign * value),
                        ("plcc_logistic", value),
                        ("krocc", 0.7 * sign * value),
                        ("rmse", 1 - value),
                    )
                    for end, way in (("low", -0.03), ("high", 0.03))
                },
                "outlier_ratio": 0.1,
            }


def _models(stream, where, rows, backbones, baselines):
    found = []
    whole = [row for row in rows if not row["distortion"]]
    for one in backbones:
        for readout in ("euclidean", "gram"):
            of = [r for r in whole if (r["backbone"], r["readout"]) == (one["name"], readout)]
            best, last = max(of, key=lambda r: abs(r["srocc"])), of[-1]
            flattery = float(abs(stream.normal(0.01, 0.004)))
            held_out = abs(best["srocc"]) - flattery
            found.append(
                {
                    "database": where,
                    "backbone": one["name"],
                    "readout": readout,
                    "layers": len(of),
                    "last_layer": last["layer"],
                    "last": abs(last["srocc"]),
                    "last_low": abs(last["srocc"]) - 0.03,
                    "last_high": abs(last["srocc"]) + 0.025,
                    "best_layer": best["layer"],
                    "best_depth": best["depth"],
                    "best": abs(best["srocc"]),
                    "held_out": held_out,
                    "held_out_low": held_out - 0.03,
                    "held_out_high": held_out + 0.025,
                }
            )
    for name in baselines:
        (row,) = [r for r in whole if r["backbone"] == name]
        value = abs(row["srocc"])
        found.append(
            dict.fromkeys(found[0], "")
            | {"database": where, "backbone": name, "layers": 0, "best_depth": math.nan}
            | dict.fromkeys(("last", "best", "held_out"), value)
            | dict.fromkeys(("last_low", "held_out_low"), value - 0.03)
            | dict.fromkeys(("last_high", "held_out_high"), value + 0.025)
        )
    return found


def _comparisons(stream, where, backbones):
    trained = [one["name"] for one in backbones if one["goal"] != "untrained"]
    pairs = [
        *(("goal", "", name, f"{name}.untrained") for name in trained),
        *(("architecture", "", a, b) for a, b in itertools.pairwise(trained)),
        *(("layer", name, "best layer, pool2", "last layer") for name in trained),
        *(("descriptors", name, "euclidean", "gram") for name in trained),
        *(("baseline", name, name, "ssim") for name in trained),
    ]
    for question, name, first, second in pairs:
        value = float(stream.normal(0.02, 0.05))
        half = float(stream.uniform(0.005, 0.04))
        inside = abs(value) + half <= 0.02
        sure = abs(value) > half
        yield {
            "question": question,
            "database": where,
            "backbone": name,
            "first": first,
            "second": second,
            "n": 100,
            "difference": value,
            "low": value - half,
            "high": value + half,
            "p": min(1.0, half / abs(value) / 20),
            "p_corrected": min(1.0, half / abs(value) / 5),
            "verdict": "same"
            if inside
            else ("undecided" if not sure else "first" if value > 0 else "second"),
        }


def _claims(where):
    for claim, statement, verdict, effect, why in (
        ("all_beat_ssim", "Every network agrees better than SSIM.", "supported", 0.12, ""),
        ("last_is_best", "The last layer agrees best.", "contradicted", -0.08, ""),
        (
            *("jigsaw_is_worst", "Networks that solve jigsaws agree least.", "not tested"),
            *(math.nan, "no jigsaw network was measured"),
        ),
    ):
        yield {
            "claim": claim,
            "version": "preprint, journal",
            "statement": statement,
            "test": "The difference of agreement, over reference images.",
            "database": where,
            "effect": effect,
            "low": effect - 0.02,
            "high": effect + 0.03,
            "evidence": "" if why else "5 of 6 networks",
            "margin": 0.02,
            "verdict": verdict,
            "why": why,
            "get": "iqa weights get resnet50.jigsaw" if verdict == "not tested" else "",
        }


def _winners(where, models, baselines):
    networks = [row for row in models if row["layers"]]
    best = max(networks, key=lambda row: row["held_out"])
    yield {
        "database": where,
        "among": "backbones",
        "candidates": sum(row["layers"] for row in networks),
        "backbone": best["backbone"],
        "layer": best["best_layer"],
        "readout": best["readout"],
        "best": best["best"],
        "held_out": best["held_out"],
        "low": best["held_out_low"],
        "high": best["held_out_high"],
        "stability": 0.75,
        "why": "",
    }
    for among, names in (
        ("tuned", [name for name in baselines if name in ("lpips_vgg", "dists")]),
        ("baselines", [name for name in baselines if name not in ("lpips_vgg", "dists")]),
    ):
        of = [row for row in models if row["backbone"] in names]
        if of:
            top = max(of, key=lambda row: row["held_out"])
            yield {
                "database": where,
                "among": among,
                "candidates": len(of),
                "backbone": top["backbone"],
                "layer": "",
                "readout": "",
                "best": top["best"],
                "held_out": top["held_out"],
                "low": top["held_out_low"],
                "high": top["held_out_high"],
                "stability": 1.0,
                "why": "",
            }


def _write_distances(path, stream, databases, backbones, baselines, kinds):
    columns = {
        name: []
        for name in (
            *("database", "reference", "distorted", "distortion", "level", "opinion"),
            *("backbone", "layer", "depth", "readout", "elements", "value", "error"),
        )
    }
    series = [
        # Two networks are enough for the series that the report shows.
        *((one["name"], layer["name"]) for one in backbones[:2] for layer in one["layers"]),
        *((name, "") for name in baselines),
    ]
    for one in databases:
        for reference in range(one["references"]):
            for pair in range(12):
                severity = pair / 11
                opinion = 9 * severity if one["higher_is"] == "worse" else 9 - 9 * severity
                for name, layer in series:
                    value = severity**2 * 3 + abs(stream.normal(0, 0.12))
                    if name in HIGHER:
                        value = 3 - value
                    failed = (reference, pair) == (0, 3)
                    row = (
                        *(one["name"], f"r{reference}.png", f"r{reference}_{pair}.png"),
                        *(kinds[pair % len(kinds)] if kinds else "", pair, opinion),
                        *(name, layer or None, 0.5 if layer else None),
                        *("euclidean" if layer else None, 64, None if failed else value),
                        "unreadable: made up" if failed else "",
                    )
                    for column, item in zip(columns.values(), row, strict=True):
                        column.append(item)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
