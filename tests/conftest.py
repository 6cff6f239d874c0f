"""Fixtures of both packages' tests: photographs, and the real data beside the repository."""

import os

import pytest
import torch
from hypothesis import settings
from material import REPOSITORY, SHARED, tensor
from safetensors.torch import load_file
from seeded import save_trunk, trunk
from skimage import data

from iqa_metrics import backbone, create_metric, needs

# No test asserts a time.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")


def pytest_configure(config):
    """Leave each of several workers, and the processes that its tests start, one core."""
    if getattr(config.option, "numprocesses", None):
        os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items):
    """Begin with real servers: they leave cores idle, and other workers are glad of the rest."""
    items.sort(key=lambda item: item.get_closest_marker("server") is None)


@pytest.fixture(scope="session", autouse=True)
def isolated(tmp_path_factory):
    """Keep tests from seeing or changing the user's weights and servers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        patch.setenv("IQA_SERVE_STATE", str(tmp_path_factory.mktemp("state")))
        patch.setenv("IQA_WEIGHTS", "")
        patch.delenv("IQA_SERVE_TOKEN", raising=False)
        yield


@pytest.fixture(scope="session")
def photographs():
    """Three RGB photographs, uint8 [H, W, 3], of different sizes."""
    return {
        "astronaut": data.astronaut()[:256, :320],
        "coffee": data.coffee()[100:340, 200:420],
        "cat": data.chelsea()[:200, 100:300],
    }


@pytest.fixture(scope="session")
def pair(photographs):
    """A photograph and a noisy copy, float32 [1, 3, H, W]."""
    reference = tensor(photographs["astronaut"])
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(0))
    return reference, (reference + 0.05 * noise).clamp(0, 1)


@pytest.fixture(scope="session")
def live():
    """The folder with image pairs of the LIVE database."""
    return _beside("data/live")


@pytest.fixture(scope="session")
def real_weights():
    """The folder with real pretrained networks."""
    return _beside("weights")


@pytest.fixture(scope="session")
def edge_network(real_weights):
    """The trunk of VGG-16 with real weights, fine-tuned to find edges."""
    network = trunk("vgg16")
    state = load_file(real_weights / "vgg16-hed-edges.safetensors")
    network.load_state_dict(
        {key.removeprefix("features."): value.float() for key, value in state.items()}
    )
    return network


def _beside(name):
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{os.path.relpath(folder, REPOSITORY)} is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def make(tmp_path_factory):
    """Return a function that makes any metric, with seeded networks where real ones are missing."""
    folder, paths = tmp_path_factory.mktemp("trunks"), {}

    def make(name, **options):
        trunk = needs(name).backbone
        file = None if trunk is None else backbone(trunk).weights
        if file is None or file.find() is not None:
            return create_metric(name, **options)
        if trunk not in paths:
            paths[trunk] = save_trunk(trunk, folder)
        return create_metric(name, weights=paths[trunk], **options)

    return make
