"""gRPC gives the same answers as HTTP, from the same real server."""

import json

import pytest
import requests
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from material import encoded

from iqa_metrics import score
from iqa_torchserve.container import pack

grpc = pytest.importorskip("grpc")
pytest.importorskip("ts")
pytestmark = pytest.mark.server

PACKAGE = "org.pytorch.serve.grpc.inference"
STRING, BYTES, MESSAGE = 9, 12, 11
OPTIONAL, REPEATED = 1, 3


def messages():
    """TorchServe's request and reply messages, from its inference.proto."""
    file = descriptor_pb2.FileDescriptorProto(
        name="inference.proto", package=PACKAGE, syntax="proto3"
    )
    request = file.message_type.add(name="PredictionsRequest")
    request.field.add(name="model_name", number=1, type=STRING, label=OPTIONAL)
    entry = request.nested_type.add(name="InputEntry")
    entry.field.add(name="key", number=1, type=STRING, label=OPTIONAL)
    entry.field.add(name="value", number=2, type=BYTES, label=OPTIONAL)
    entry.options.map_entry = True
    request.field.add(
        name="input",
        number=3,
        type=MESSAGE,
        label=REPEATED,
        type_name=f".{PACKAGE}.PredictionsRequest.InputEntry",
    )
    reply = file.message_type.add(name="PredictionResponse")
    reply.field.add(name="prediction", number=1, type=BYTES, label=OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return tuple(
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in ("PredictionsRequest", "PredictionResponse")
    )


def test_grpc_gives_the_librarys_values_and_the_codes(server, photographs):
    request_class, reply_class = messages()
    image, jpeg = encoded(photographs["cat"]), encoded(photographs["cat"], "JPEG", quality=10)
    with grpc.insecure_channel(f"127.0.0.1:{server.config.port + 3}") as channel:
        call = channel.unary_unary(
            f"/{PACKAGE}.InferenceAPIsService/Predictions",
            request_serializer=request_class.SerializeToString,
            response_deserializer=reply_class.FromString,
        )

        def ask(token, **fields):
            metadata = [("protocol", "gRPC"), ("channel", "inference")]
            metadata.append(("authorization", f"Bearer {token}"))
            request = request_class(model_name="iqa", input=fields)
            return json.loads(call(request, metadata=metadata, timeout=60).prediction)

        def over_http(**fields):
            # Bytes as files; text as form fields, which would be files, too, with a file's name.
            files = {n: (n if n != "metric" else None, v) for n, v in fields.items()}
            headers = {"Authorization": f"Bearer {server.token()}"}
            url = f"{server.inference_url}/predictions/iqa"
            return requests.post(url, files=files, headers=headers, timeout=60).json()

        token = server.token()
        raw = pack([image, jpeg, b"broken", image], ["psnr", "default"], maps=True)
        for fields in (
            {"reference": image, "distorted": jpeg},
            {"reference": image, "distorted": jpeg, "metric": b"psnr,ssim"},
            {"reference": image, "distorted_1": jpeg, "distorted_2": image},
            {"reference": image, "distorted": b"broken"},
            {"reference": image},
            {"reference": image, "distorted": jpeg, "metric": b"nonsense"},
        ):
            said, expected = ask(token, **fields), over_http(**fields)
            for body in (said, expected):
                assert body.pop("request_id")
            assert said == expected
        body = ask(token, body=raw)
        results = body["results"]
        assert [result["status"] for result in results] == [200, 400, 200]
        value = results[0]["scores"][1]["value"]
        assert value == pytest.approx(score(image, jpeg), rel=1e-6)
        assert ask(token, reference=image)["status"] == 400
        with pytest.raises(grpc.RpcError) as caught:
            ask("wrong", reference=image, distorted=jpeg)
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
