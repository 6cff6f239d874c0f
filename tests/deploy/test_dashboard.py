"""The dashboard and the autoscaler's rule use metrics and labels that the server has."""

import json
import re

import pytest
import yaml
from material import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
PROMETHEUS = {"instance", "pod", "namespace"}  # labels that a scrape adds
THEIRS = {"model_name", "model_version", "hostname"}
COUNTERS = {
    "iqa_pairs_scored_total": {"ModelName", "Metric"},
    "iqa_errors_total": {"ModelName", "Code"},
    "ts_inference_requests_total": THEIRS,
    "ts_inference_latency_microseconds": THEIRS,
    "ts_queue_latency_microseconds": THEIRS,
    "Requests2XX": {"Level", "Hostname"},
    "Requests4XX": {"Level", "Hostname"},
    "Requests5XX": {"Level", "Hostname"},
}
HISTOGRAMS = {
    "iqa_batch_requests": {"ModelName"},
    "iqa_batch_pairs": {"ModelName"},
    "iqa_decode_seconds": {"ModelName"},
    "iqa_forward_seconds": {"ModelName", "Metric"},
}
GAUGES = {"iqa_worker_memory_bytes": {"ModelName", "Worker"}}
LABELS = {
    **COUNTERS,
    **GAUGES,
    **{
        f"{name}_{part}": labels | ({"le"} if part == "bucket" else set())
        for name, labels in HISTOGRAMS.items()
        for part in ("bucket", "sum", "count")
    },
}
FUNCTIONS = {"sum", "rate", "histogram_quantile", "clamp_min"}


def wrong(expression):
    """Return the parts of an expression that no metric of the server matches; empty if none."""
    problems = []
    groupings = [
        {label.strip() for label in labels.split(",")}
        for labels in re.findall(r"\bby \(([^)]*)\)", expression)
    ]
    rest = re.sub(r"\bby \([^)]*\)", "", expression)
    selectors = re.findall(r"(\w+)(\{[^}]*\})?(\[[^\]]*\])?", rest)
    names = {name for name, *_ in selectors if re.match("[A-Za-z_]", name)}
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", rest)
    words = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", bare))
    metrics = words - FUNCTIONS
    problems += sorted(metrics - set(LABELS))
    for name, matchers, interval in selectors:
        if name not in LABELS or name not in names:
            continue
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        problems += [f"{name}{{{label}}}" for label in sorted(used - LABELS[name] - PROMETHEUS)]
        if bool(interval) is (name in GAUGES):
            problems.append(f"{name}{interval}")
    known = set().union(PROMETHEUS, *(LABELS[name] for name in metrics & set(LABELS)))
    problems += [f"by {label}" for labels in groupings for label in sorted(labels - known)]
    if not metrics:
        problems.append("no metric")
    return problems


@pytest.fixture(scope="module")
def dashboard():
    return json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("sum(rate(iqa_pairs_total[5m]))", "iqa_pairs_total"),
        ("sum(rate(iqa_errors_total{model_name='iqa'}[5m]))", "iqa_errors_total{model_name}"),
        ("sum by (Metric) (rate(iqa_errors_total[5m]))", "by Metric"),
        ("sum(iqa_errors_total)", "iqa_errors_total"),
        ("rate(iqa_worker_memory_bytes[5m])", "iqa_worker_memory_bytes[5m]"),
        ("sum(rate(iqa_decode_seconds[5m]))", "iqa_decode_seconds"),
        ("1 / 1e6", "no metric"),
    ],
)
def test_an_invalid_expression_is_found(expression, problem):
    assert problem in wrong(expression)


def test_each_panel_uses_existing_metrics(dashboard):
    for panel in dashboard["panels"]:
        assert panel["targets"]
        for target in panel["targets"]:
            assert wrong(target["expr"]) == [], panel["title"]


def test_all_of_our_metrics_are_shown(dashboard):
    text = " ".join(one["expr"] for panel in dashboard["panels"] for one in panel["targets"])
    assert [name for name in {**COUNTERS, **HISTOGRAMS, **GAUGES} if name not in text] == []


def test_each_panel_has_a_title_a_unit_and_its_own_place(dashboard):
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    places = set()
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & places
        places |= cells
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_quantiles_keep_the_buckets(dashboard):
    quantiles = [
        one["expr"]
        for panel in dashboard["panels"]
        for one in panel["targets"]
        if "histogram_quantile" in one["expr"]
    ]
    assert quantiles
    for expression in quantiles:
        assert re.search(r"by \(le\b[^)]*\) \(rate\(\w+_bucket", expression)


def test_it_can_be_imported_anywhere(dashboard):
    assert dashboard["id"] is None
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    name, label = re.fullmatch(
        r"label_values\((\w+), (\w+)\)", variables["model"]["query"]["query"]
    ).groups()
    assert label in LABELS[name]
    sources = [variables["model"]["datasource"]]
    for panel in dashboard["panels"]:
        sources += [panel["datasource"], *(one["datasource"] for one in panel["targets"])]
    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in sources)


def test_the_autoscalers_rule_uses_existing_metrics(manifests):
    (rule,) = yaml.safe_load((DEPLOY / "prometheus" / "adapter-rules.yaml").read_text())["rules"]
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
    assert wrong(query.replace("<<.LabelMatchers>>", 'namespace="iqa",pod=~"a|b"')) == []
    assert wrong(rule["seriesQuery"] + "[1m]") == []


def test_the_dashboard_draws_the_line_where_the_autoscaler_aims(dashboard, manifests):
    (metric,) = manifests["HorizontalPodAutoscaler"]["spec"]["metrics"]
    target = metric["pods"]["target"]["averageValue"]
    assert target.endswith("m")
    (queue,) = [one for one in dashboard["panels"] if one["title"].startswith("Mean queue time")]
    steps = queue["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps[-1]["value"] == int(target[:-1]) / 1000
