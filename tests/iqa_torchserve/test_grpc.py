"""gRPC gives the same answers as HTTP, from the same real server."""

import json

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from material import encoded

from iqa_metrics import score
from iqa_torchserve.archive import build_archive
from iqa_torchserve.config import PORTS, ServerConfig
from iqa_torchserve.server import free_port, start

grpc = pytest.importorskip("grpc")
pytest.importorskip("ts")
pytestmark = pytest.mark.server

PACKAGE = "org.pytorch.serve.grpc.inference"
STRING, BYTES, MESSAGE = 9, 12, 11
OPTIONAL, REPEATED = 1, 3


def messages():
    """TorchServe's request and reply, as its inference.proto describes them."""
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


def test_grpc_gives_the_librarys_values_and_the_codes(tmp_path, photographs):
    request_class, reply_class = messages()
    image, jpeg = encoded(photographs["cat"]), encoded(photographs["cat"], "JPEG", quality=10)
    port = free_port(PORTS)
    server = start(ServerConfig(build_archive(tmp_path), state=tmp_path / "state", port=port))
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port + 3}") as channel:
            call = channel.unary_unary(
                f"/{PACKAGE}.InferenceAPIsService/Predictions",
                request_serializer=request_class.SerializeToString,
                response_deserializer=reply_class.FromString,
            )

            def ask(token, **fields):
                metadata = [("protocol", "gRPC"), ("channel", "inference")]
                metadata.append(("authorization", f"Bearer {token}"))
                answer = call(
                    request_class(model_name="iqa", input=fields), metadata=metadata, timeout=60
                )
                return json.loads(answer.prediction)

            token = server.token()
            body = ask(token, reference=image, distorted=jpeg)
            assert body["value"] == pytest.approx(score(image, jpeg), rel=1e-6)
            body = ask(token, reference=image, distorted=jpeg, metric=b"psnr")
            assert body["value"] == pytest.approx(score(image, jpeg, "psnr"), rel=1e-6)
            assert ask(token, reference=image, distorted=b"broken")["code"] == "bad_image"
            assert ask(token, reference=image)["code"] == "bad_request"
            with pytest.raises(grpc.RpcError) as caught:
                ask("wrong", reference=image, distorted=jpeg)
            assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    finally:
        server.stop()
