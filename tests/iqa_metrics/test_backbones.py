"""Every backbone: its layers are where and what its record says, its weights are checked."""

import pytest
import torch

from iqa_metrics import BACKBONES, FeatureExtractor, UnknownNameError, WeightsError, backbone
from iqa_metrics.weights import read_state_dict


@pytest.fixture
def here(real_weights, monkeypatch):
    """Let the library find the real networks."""
    monkeypatch.setenv("IQA_WEIGHTS", str(real_weights))


def untrained(record):
    torch.manual_seed(0)
    return FeatureExtractor(
        record.trunk(record.build()), {layer.name: layer.module for layer in record.layers}
    )


@pytest.mark.parametrize("record", BACKBONES, ids=lambda b: b.name)
def test_layers_have_the_stated_channels_and_stride(record):
    # At this size little but floor and ceiling of a division by the stride is left open.
    size = 256
    seen = {}
    extractor = untrained(record)
    with torch.no_grad():
        extractor.visit(
            torch.rand(1, 3, size, size),
            extractor.layers,
            lambda name, response: seen.__setitem__(name, response.shape),
        )
    assert list(seen) == [layer.name for layer in record.layers]
    for layer in record.layers:
        _, channels, height, width = seen[layer.name]
        assert channels == layer.channels
        assert height == width
        # PerceptNet pads less than its convolutions take.
        assert abs(height - size / layer.stride) <= (3 if record.name == "perceptnet" else 1)


@pytest.mark.parametrize("record", BACKBONES, ids=lambda b: b.name)
def test_the_smallest_input_is_the_smallest(record):
    extractor = untrained(record)
    assert record.smallest_input == max(layer.smallest_input for layer in record.layers)
    for name, n in ((layer.name, layer.smallest_input) for layer in record.layers):
        with torch.no_grad():
            assert extractor.responses(torch.rand(1, 3, n, n), [name])[name].numel() > 0
            if n > 1:
                with pytest.raises(RuntimeError):
                    extractor.responses(torch.rand(1, 3, n - 1, n - 1), [name])


def test_records_are_distinct_and_name_their_weights():
    assert len({record.name for record in BACKBONES}) == len(BACKBONES)
    for record in BACKBONES:
        names = [layer.name for layer in record.layers]
        assert len(set(names)) == len(names)
        assert record.weights.licence
        assert record.weights.source
        if record.weights.url:
            assert record.weights.url.endswith(f"-{record.weights.sha256}.pth")


def test_torchvision_still_publishes_the_same_files():
    from torchvision.models import get_model_weights

    published = {
        record.name: {member.url for member in get_model_weights(record.name)}
        for record in BACKBONES
        if record.weights.url
    }
    for name, urls in published.items():
        assert backbone(name).weights.url in urls


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'mobilenet_v2'"):
        backbone("mobilenetv2")
    with pytest.raises(UnknownNameError, match="did you mean 'block12'"):
        backbone("efficientnet_lite0").layer("blok12")


def test_the_network_is_frozen_and_in_eval_mode():
    network = backbone("efficientnet_lite0").network()
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(m.training for m in network.modules())
    assert not any(t.is_meta for t in network.state_dict().values())


def test_the_embedded_network_names_what_it_sees(photographs):
    """It says what scikit-image's photographs show: scaling and weights are right."""
    from skimage import data

    record = backbone("efficientnet_lite0")
    whole = record.build().eval()
    whole.load_state_dict(read_state_dict(record.weights.verified()))
    for image, classes in ((data.chelsea(), range(281, 286)), (data.coffee(), (504, 967, 968))):
        rgb = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        rgb = torch.nn.functional.interpolate(rgb, (224, 224), mode="area")
        with torch.no_grad():
            assert int(whole(record.scaling.apply(rgb)).argmax()) in classes


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("IQA_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        backbone("vgg16").network()
    for words in ("iqa weights fetch", "vgg16-397923af.pth", "https://", "IQA_WEIGHTS"):
        assert words in str(caught.value)


def test_damaged_weights_are_refused(tmp_path, monkeypatch, here, real_weights):
    name = backbone("mobilenet_v2").weights.filename
    damaged = bytearray((real_weights / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / name).write_bytes(damaged)
    monkeypatch.setenv("IQA_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"expected SHA-256 b0353104\.\.\., got [0-9a-f]{64}"):
        backbone("mobilenet_v2").network()


def test_weights_of_another_network_are_refused_with_the_keys(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"0.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="does not fit") as caught:
        backbone("mobilenet_v2").network(path)
    assert "Missing key" in str(caught.value)
    assert "Unexpected key" in str(caught.value)


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path):
    path = tmp_path / "code.pth"
    torch.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(WeightsError, match="can't be read as weights"):
        read_state_dict(path)
