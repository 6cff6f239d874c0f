"""Archives: the same bytes each time, and refused when damaged."""

import json
import shutil
import sys
import time
import zipfile

import pytest
import seeded
import torch
from material import encoded
from registering import own_catalogues, write_package
from study_material import write_pairs
from typer.testing import CliRunner

from iqa_metrics import (
    Backbone,
    PluginWarning,
    UnknownNameError,
    create_metric,
    register_backbone,
)
from iqa_metrics.channel_weights import (
    learn_channel_weights,
    read_channel_weights,
    save_channel_weights,
)
from iqa_metrics.datasets import read_opinions
from iqa_torchserve.archive import (
    ArchiveError,
    build_archive,
    check_archive,
    load_metrics,
    read_contents,
    unpack_archive,
)
from iqa_torchserve.cli import app
from iqa_torchserve.config import PORTS, ServerConfig
from iqa_torchserve.scorer import Scorer
from iqa_torchserve.server import free_port, start


@pytest.fixture
def unpacked(archive, tmp_path):
    with zipfile.ZipFile(archive) as mar:
        mar.extractall(tmp_path)
    return tmp_path


def test_the_same_input_gives_the_same_bytes(archive, tmp_path):
    time.sleep(2.1)  # a zip file tells times in steps of two seconds
    again = build_archive(tmp_path / "made" / "again", limits=check_archive(archive).limits)
    assert again.read_bytes() == archive.read_bytes()
    assert [p.name for p in again.parent.iterdir()] == ["iqa.mar"]
    other = build_archive(tmp_path, metrics=["psnr"])
    assert other.read_bytes() != archive.read_bytes()


def test_it_contains_everything_that_scoring_needs(archive, unpacked, pair, monkeypatch):
    contents = check_archive(archive)
    assert contents == read_contents(unpacked)
    assert contents.metrics == ("default", "psnr", "ssim")
    manifest = json.loads((unpacked / "MAR-INF/MANIFEST.json").read_text())
    assert manifest["model"]["modelName"] == "iqa"
    expected = [m(*pair) for m in load_metrics(unpacked, contents).values()]
    # Without the package that ships the weights, the archive's own are used.
    monkeypatch.setattr("iqa_metrics.weights.files.WeightsFile.find", lambda self: None)
    found = [m(*pair) for m in load_metrics(unpacked, contents).values()]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_calibrations_and_trunks_are_packed_once_each(tmp_path, pair, monkeypatch):
    """Networks that can't be fetched here are replaced by seeded ones."""
    images = [image[..., :64, :80] for image in pair]
    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "network", lambda self, weights=None: seeded.trunk(self.name))
        specs = ["lpips_alex", "lpips_alex_baseline", "alexnet:relu5:gram", "perceptnet", "dists"]
        expected = {spec: create_metric(spec)(*images) for spec in specs}
        built = build_archive(tmp_path, metrics=specs)
    with zipfile.ZipFile(built) as mar:
        mar.extractall(tmp_path)
    packed = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert packed == [
        *("alexnet.safetensors", "dists-weights.safetensors", "lpips-v0.1-alex.safetensors"),
        *("perceptnet.safetensors", "vgg16.safetensors"),
    ]
    monkeypatch.setattr("iqa_metrics.weights.files.WeightsFile.find", lambda self: None)
    metrics = load_metrics(tmp_path, read_contents(tmp_path))
    assert list(metrics) == specs
    for spec, metric in metrics.items():
        assert torch.equal(metric(*images), expected[spec])


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A file of channel weights that were learned from a small table of opinions."""
    folder = tmp_path_factory.mktemp("learned")
    table = write_pairs(folder / "images", references=3, levels=2, side=48)
    found = learn_channel_weights("efficientnet_lite0", ["block3"], read_opinions(table, "worse"))
    save_channel_weights(found, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def test_learned_channel_weights_are_packed_and_answer(learned, tmp_path, pair, monkeypatch):
    built = build_archive(tmp_path, metrics=["default"], channel_weights=[learned])
    assert (
        built.read_bytes()
        == build_archive(
            tmp_path / "again", metrics=["default"], channel_weights=[learned]
        ).read_bytes()
    )
    contents = check_archive(built)
    spec = "efficientnet_lite0:block3:weighted_euclidean"
    assert contents.metrics == ("default", spec)
    with zipfile.ZipFile(built) as mar:
        mar.extractall(tmp_path)
    assert len(list(tmp_path.glob("efficientnet*.safetensors"))) == 1
    expected = read_channel_weights(learned).metric(*pair)
    learned_path = tmp_path / contents.channel_weights[spec]
    monkeypatch.setattr("iqa_metrics.weights.files.WeightsFile.find", lambda self: None)
    assert torch.equal(load_metrics(tmp_path, contents)[spec](*pair), expected)
    body = {
        name: encoded((image[0].permute(1, 2, 0) * 255).round().byte().numpy())
        for name, image in zip(("reference", "distorted"), pair, strict=True)
    }
    (reply,) = Scorer.from_archive(tmp_path).answer([{**body, "metric": spec.encode()}])
    assert reply.status == 200
    assert reply.body["results"][0]["scores"][0]["value"] == pytest.approx(
        float(expected), rel=0.02
    )  # 8 bits a colour
    learned_path.write_bytes(learned_path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArchiveError, match="damaged"):
        read_contents(tmp_path)


def test_files_of_channel_weights_that_do_not_fit_are_refused(learned, tmp_path):
    with pytest.raises(ArchiveError, match="already a metric efficientnet_lite0:block3:weighted"):
        build_archive(tmp_path, channel_weights=[learned, learned])
    for content in (b"", b"no weights"):
        (tmp_path / "bad.safetensors").write_bytes(content)
        with pytest.raises(ArchiveError, match=r"bad\.safetensors"):
            build_archive(tmp_path, channel_weights=[tmp_path / "bad.safetensors"])
    with pytest.raises(ArchiveError, match=r"none\.safetensors"):
        build_archive(tmp_path, channel_weights=[tmp_path / "none.safetensors"])


@pytest.mark.parametrize("name", ["efficientnet_lite0.safetensors", "full_reference.py"])
def test_a_flipped_byte_is_found(archive, unpacked, tmp_path, name):
    damaged = bytearray((unpacked / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (unpacked / name).write_bytes(damaged)
    with pytest.raises(ArchiveError, match=f"{name} is damaged"):
        read_contents(unpacked)
    whole = bytearray(archive.read_bytes())
    whole[whole.index(b"class FullRef" if name.endswith("py") else b"weight") + 200] ^= 1
    packed = tmp_path / "damaged.mar"
    packed.write_bytes(whole)
    with pytest.raises(ArchiveError, match="build it again"):
        check_archive(packed)


@pytest.mark.parametrize("name", ["iqa-archive.json", "efficientnet_lite0.safetensors"])
def test_a_missing_file_is_named(unpacked, name):
    (unpacked / name).unlink()
    with pytest.raises(ArchiveError, match=f"{name} is missing"):
        read_contents(unpacked)


def test_other_files_than_archives_are_refused(tmp_path):
    with pytest.raises(ArchiveError, match="'iqa-serve build' makes it"):
        check_archive(tmp_path / "gone.mar")
    (tmp_path / "text.mar").write_text("hello")
    with pytest.raises(ArchiveError, match="not a zip file"):
        check_archive(tmp_path / "text.mar")
    with zipfile.ZipFile(tmp_path / "other.mar", "w") as mar:
        mar.writestr("iqa-archive.json", "[]")
    with pytest.raises(ArchiveError, match="can't be read"):
        check_archive(tmp_path / "other.mar")


def test_bad_options_are_refused_and_write_nothing(tmp_path):
    store = tmp_path / "store"
    with pytest.raises(ArchiveError, match="letters, digits"):
        build_archive(store, name="../iqa")
    with pytest.raises(ArchiveError, match="at least one spec"):
        build_archive(store, metrics=[])
    with pytest.raises(UnknownNameError, match="did you mean 'ssim'"):
        build_archive(store, metrics=["ssmi"])
    with pytest.raises(ArchiveError, match="iqa weights fetch"):
        build_archive(store, metrics=["alexnet:relu1:rmse"])
    with pytest.raises(ArchiveError, match=r"weighted_lpips: .*expected {layer: \[C\]} for stem"):
        build_archive(store, metrics=["efficientnet_lite0:stem:weighted_lpips"])
    with pytest.raises(ArchiveError, match="expected digits and dots"):
        build_archive(store, metrics=["psnr"], version="1.0-beta")
    assert not store.exists()
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ArchiveError, match="can't be written"):
        build_archive(blocked, metrics=["psnr"])


PLUGIN = """
from torch import nn
from iqa_metrics import (
    Backbone, Metric, MetricRecord, Readout,
    register_backbone, register_metric, register_readout,
)

class Largest(Metric):
    name = "largest"
    higher_is_better = False
    range = (0.0, 1.0)
    smallest_input = 1
    source = "a test"

    def compare(self, reference, distorted):
        return (reference - distorted).abs().flatten(1).amax(1)

def register():
    register_metric(MetricRecord(name="largest", metric=Largest, summary="largest difference"))
    register_readout(
        Readout(name="most", function=lambda x, y: (x - y).abs().flatten(1).amax(1),
                summary="largest difference", source="a test")
    )
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    register_backbone(Backbone.from_module(network, {"relu": "1"}, name="tiny"))
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A folder with a package that registers a metric, a readout and a backbone."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    write_package(folder, "iqa-largest", PLUGIN, version="1.2")
    with own_catalogues():
        yield folder


SPECS = ["largest", "efficientnet_lite0:stem:most", "tiny:relu:rmse", "tiny:relu:most"]


def test_packages_that_registered_something_are_recorded_and_needed(plugin, tmp_path, pair):
    assert check_archive(build_archive(tmp_path, metrics=["psnr", "default"])).plugins == {}
    for spec in SPECS:
        built = build_archive(tmp_path, metrics=["psnr", spec])
        assert check_archive(built).plugins == {"iqa-largest": "1.2"}
    built = build_archive(tmp_path, metrics=["psnr", *SPECS])
    contents = unpack_archive(built, tmp_path / "unpacked")
    found = load_metrics(tmp_path / "unpacked", contents)
    assert list(found) == ["psnr", *SPECS]
    for spec in SPECS:
        assert torch.allclose(found[spec](*pair), create_metric(spec)(*pair), rtol=1e-5)
    # A machine without the package, as far as Python can tell.
    shutil.rmtree(plugin)
    with own_catalogues():
        assert check_archive(built) == contents  # the file itself is whole
        words = r"iqa 1\.0: its metrics need iqa-largest==1\.2.*: pip install iqa-largest==1\.2"
        for load in (load_metrics, lambda folder, _: Scorer.from_archive(folder)):
            with pytest.raises(ArchiveError, match=words):
                load(tmp_path / "unpacked", contents)
        result = CliRunner().invoke(app, ["check", str(built)])
        assert (result.exit_code, "pip install iqa-largest==1.2" in result.stderr) == (2, True)
        with pytest.raises(ArchiveError, match=words):
            start(ServerConfig(built, state=tmp_path / "state", port=free_port(PORTS)))


def test_another_version_is_taken_with_a_warning(plugin, tmp_path):
    contents = unpack_archive(build_archive(tmp_path, metrics=["largest"]), tmp_path / "unpacked")
    (plugin / "iqa_largest-1.2.dist-info").rename(plugin / "iqa_largest-1.3.dist-info")
    metadata = plugin / "iqa_largest-1.3.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.2", "1.3"))
    with pytest.warns(PluginWarning, match="iqa-largest 1.2 is required, but 1.3 is installed"):
        assert list(load_metrics(tmp_path / "unpacked", contents)) == ["largest"]


def test_a_package_that_does_not_load_is_named(plugin, tmp_path):
    contents = unpack_archive(build_archive(tmp_path, metrics=["largest"]), tmp_path / "unpacked")
    (plugin / "iqa_largest.py").write_text("import no_such_module")
    sys.modules.pop("iqa_largest")
    with (
        own_catalogues(),
        pytest.raises(ArchiveError, match=r"largest.*plug-in 'iqa-largest' .*no_such_module"),
        pytest.warns(PluginWarning, match="no_such_module"),
    ):
        load_metrics(tmp_path / "unpacked", contents)


def test_what_no_package_registers_is_not_packed(tmp_path):
    with own_catalogues():
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
        register_backbone(Backbone.from_module(network, {"relu": "1"}, name="tiny"))
        words = rf"tiny:relu:rmse: .*by module {__name__}, .*group iqa_metrics\.plugins"
        with pytest.raises(ArchiveError, match=words):
            build_archive(tmp_path, metrics=["psnr", "tiny:relu:rmse"])
    assert not (tmp_path / "iqa.mar").exists()
