"""The handler, in TorchServe's own service but without Java."""

import json
import sys
import zipfile
from pathlib import Path

import pytest
from material import encoded

from iqa_metrics import score
from iqa_torchserve.archive import build_archive

pytest.importorskip("ts")


@pytest.fixture
def service(tmp_path, monkeypatch):
    import ts
    from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
    from ts.model_loader import ModelLoaderFactory

    metrics = MetricsCacheYamlImpl(str(Path(ts.__file__).parent / "configs" / "metrics.yaml"))
    metrics.initialize_cache()

    with zipfile.ZipFile(build_archive(tmp_path / "store")) as mar:
        mar.extractall(tmp_path / "model")
    monkeypatch.syspath_prepend(str(tmp_path / "model"))
    service = ModelLoaderFactory.get_model_loader().load(
        "iqa", str(tmp_path / "model"), "full_reference.py", None, 8, metrics_cache=metrics
    )
    service.set_cl_socket(None)  # carries streamed replies, which this handler has none of
    yield service
    sys.modules.pop("full_reference", None)


def request(number, headers=(), **fields):
    return {
        "requestId": f"id{number}".encode(),
        "headers": [{"name": n.encode(), "value": v.encode()} for n, v in headers],
        "parameters": [
            {"name": name, "contentType": "application/octet-stream", "value": bytearray(value)}
            for name, value in fields.items()
        ],
    }


@pytest.fixture
def answers(service, monkeypatch):
    """What the service passes to TorchServe's frontend."""
    answers = []
    monkeypatch.setattr(
        "ts.service.create_predict_response",
        lambda ret, ids, message, code, context=None: answers.append((ret, code, context)),
    )
    return answers


def test_each_request_gets_its_own_answer(service, answers, photographs):
    image, jpeg = encoded(photographs["cat"]), encoded(photographs["cat"], "JPEG", quality=10)
    good = {"reference": image, "distorted": jpeg}
    service.predict(
        [request(0, **good), request(1, reference=image), request(2, **good, metric=b"psnr")]
    )
    texts, code, context = answers[0]
    assert code == 200
    bodies = [json.loads(text) for text in texts]
    assert [context.get_response_status(i)[0] for i in range(3)] == [200, 400, 200]
    assert context.get_response_content_type(1) == "application/json"
    assert [body["request_id"] for body in bodies] == ["id0", "id1", "id2"]
    assert bodies[1]["code"] == "bad_request"
    for number, metric in ((0, "default"), (2, "psnr")):
        (found,) = bodies[number]["results"][0]["scores"]
        assert found["value"] == pytest.approx(score(image, jpeg, metric), rel=1e-6)
    (found,) = bodies[0]["results"][0]["scores"]
    assert all(len(sha256) == 64 for sha256 in found["weights"].values())
    assert list(found["weights"]) == ["efficientnet_lite0.safetensors"]
    assert bodies[0]["model"] == {"name": "iqa", "version": "1.0"}


def test_only_torchserve_can_ask_for_the_description(service, answers, photographs):
    described = [("describe", "True")]
    service.predict([request(0, described)])
    assert json.loads(answers[0][0][0])["metrics"][0]["metric"] == "default"
    # A header that anyone may send must not have a whole batch described.
    image = encoded(photographs["cat"])
    good = {"reference": image, "distorted": image}
    service.predict([request(0, described, **good), request(1, **good)])
    bodies = [json.loads(text) for text in answers[1][0]]
    assert [body["results"][0]["scores"][0]["value"] for body in bodies] == [0, 0]
