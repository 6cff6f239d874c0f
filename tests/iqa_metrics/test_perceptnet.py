"""PerceptNet against plain numpy in float64."""

import numpy as np
import pytest
import torch
from material import tensor
from safetensors.torch import load_file
from seeded import save_trunk, trunk

from iqa_metrics import PerceptNet, WeightsError


def gdn(x, gamma, beta):
    gamma = np.maximum(gamma[:, :, 0, 0], 2.0**-18)
    beta = np.maximum(beta, np.sqrt(1e-6 + 2.0**-36))
    energy = np.diag(gamma[:, 0]) if gamma.shape[1] == 1 else gamma
    return x / np.sqrt(np.einsum("oc,chw->ohw", energy, x**2) + beta[:, None, None])


def conv(x, weight, bias):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(1, 2))
    return np.einsum("chwij,ocij->ohw", windows, weight, optimize=True) + bias[:, None, None]


def pool(x):
    c, h, w = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(c, h // 2, 2, w // 2, 2).max((2, 4))


def plain(image, state):
    s = {key: value.double().numpy() for key, value in state.items()}
    x = gdn(image, s["gdn1.gamma"], s["gdn1.beta"])
    x = pool(conv(x, s["conv1.weight"], s["conv1.bias"]))
    x = gdn(x, s["gdn2.gamma"], s["gdn2.beta"])
    x = pool(conv(x, s["conv2.weight"], s["conv2.bias"]))
    x = gdn(x, s["gdn3.gamma"], s["gdn3.beta"])
    x = conv(x, s["conv3.weight"], s["conv3.bias"])
    return gdn(x, s["gdn4.gamma"], s["gdn4.beta"])


@pytest.fixture
def real(real_weights):
    return real_weights / "perceptnet.safetensors"


def check(state, metric, photographs):
    for photograph in photographs.values():
        reference = tensor(photograph)[..., :101, :90]
        distorted = torch.nn.functional.avg_pool2d(reference, 3, stride=1, padding=1)
        x, y = (plain(i[0].double().numpy(), state) for i in (reference, distorted))
        expected = np.sqrt(((x - y) ** 2).mean())
        assert float(metric(reference, distorted)) == pytest.approx(expected, rel=1e-5)


def test_the_real_network(real, photographs, monkeypatch):
    monkeypatch.setenv("IQA_WEIGHTS", str(real.parent))
    check(load_file(real), PerceptNet(), photographs)


def test_a_seeded_network(tmp_path, photographs):
    """Its divisive normalisation mixes channels, unlike that of the public weights."""
    network = trunk("perceptnet")
    check(network.state_dict(), PerceptNet(trunk=network), photographs)
    from_file = PerceptNet(weights=save_trunk("perceptnet", tmp_path))
    check(network.state_dict(), from_file, photographs)


def test_more_noise_gives_a_worse_value(real, photographs):
    metric = PerceptNet(weights=real)
    for photograph in photographs.values():
        reference = tensor(photograph)
        noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(1))
        values = [
            float(metric(reference, (reference + s * noise).clamp(0, 1)))
            for s in (0.01, 0.03, 0.1, 0.3)
        ]
        assert values == sorted(values)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_is_at_distance_0_from_itself_in_any_number_of_threads(real, photographs, threads):
    metric = PerceptNet(weights=real)
    images = tensor(photographs["astronaut"]).expand(3, -1, -1, -1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert metric(images, images).tolist() == [0.0] * 3
    finally:
        torch.set_num_threads(before)


def test_parameters_too_small_are_raised():
    network = trunk("perceptnet")
    with torch.no_grad():
        for module in (network.gdn1, network.gdn4):
            module.gamma.fill_(-1)
            module.beta.fill_(-1)
    x = torch.rand(1, 3, 20, 20)
    value = PerceptNet(trunk=network)(x, 1 - x)
    assert bool(torch.isfinite(value).all())


def test_missing_weights_say_where_they_are():
    with pytest.raises(WeightsError, match=r"alexhepburn/perceptnet.*IQA_WEIGHTS"):
        PerceptNet()
