"""Plans: what a study measures, from TOML and from Python, and what is refused."""

import pytest
from study_material import small_network, small_plan, write_pairs

from iqa_metrics import UnknownNameError, WeightsError, backbone
from iqa_metrics.datasets import DatasetError, read_opinions
from iqa_metrics.study import Network, PlanError, Statistics, network, read_plan, with_controls

DATABASE = '[[databases]]\npairs = "images/pairs.csv"\nhigher_is = "worse"\nname = "mine"\n'
NETWORK = '[[backbones]]\nname = "efficientnet_lite0"\n'


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plans")
    write_pairs(folder / "images", references=2, levels=1)
    return folder


@pytest.fixture
def plan(images):
    def made(text, **options):
        file = images / "plan.toml"
        file.write_text(text)
        return read_plan(file, images / "ladder", **options)

    return made


def test_a_whole_plan(plan):
    found = plan(
        'title = "Mine"\nlayers = ["block3", "stem"]\nreadouts = ["cosine", "gram"]\n'
        'concatenations = ["pairs:sum"]\nbaselines = ["psnr", "default"]\nuntrained = true\n'
        f"[statistics]\ndraws = 20\nseed = 3\nconfidence = 0.9\nmargin = 0.05\n{DATABASE}{NETWORK}"
        '[[backbones]]\nname = "squeezenet1_1.untrained"\nlayers = "named"\n'
    )
    assert found.title == "Mine"
    assert found.statistics == Statistics(20, 3, 0.9, 0.05)
    assert found.baselines == ("psnr", "default")
    assert found.readouts == ("cosine", "gram")
    assert found.concatenations == ("pairs:sum",)
    assert list(found.databases) == ["mine"]
    assert found.databases["mine"].facts.title == "mine"
    assert len(found.databases["mine"].pairs) == 6
    names = {one.record.name: one.layers for one in found.networks}
    assert names["efficientnet_lite0"] == ("stem", "block3")
    assert names["efficientnet_lite0.untrained"] == ("stem", "block3")
    assert len(names["squeezenet1_1.untrained"]) > 5
    assert len(names) == 3


def test_lists_of_a_plan_can_be_added_to(plan):
    more = {
        "backbones": [{"name": "efficientnet_lite0"}, {"name": "squeezenet1_1.untrained"}],
        "readouts": ["euclidean", "gram"],
        "concatenations": ["pairs:sum"],
        "baselines": ["mse", "ssim"],
    }
    found = plan(DATABASE + NETWORK, more=more)
    names = [one.record.name for one in found.networks]
    assert names == ["efficientnet_lite0", "squeezenet1_1.untrained"]
    assert found.readouts == ("euclidean", "gram")
    assert found.concatenations == ("pairs:sum",)
    assert found.baselines == ("psnr", "ssim", "ms_ssim", "mse")
    with pytest.raises(UnknownNameError, match="unknown list of a plan 'title'"):
        plan(DATABASE + NETWORK, more={"title": ["x"]})


def test_what_a_plan_does_not_say(plan):
    found = plan(DATABASE + NETWORK)
    assert (found.title, found.readouts, found.concatenations) == ("plan", ("euclidean",), ())
    assert found.baselines == ("psnr", "ssim", "ms_ssim")
    assert found.networks[0].layers == tuple(x.name for x in backbone("efficientnet_lite0").layers)
    every = plan(f'layers = "all"\n{DATABASE}{NETWORK}').networks[0].layers
    assert every == tuple(x.name for x in backbone("efficientnet_lite0").modules)


def test_networks_by_their_factors_and_by_records(plan, images):
    queried = plan(
        f'{DATABASE}[[backbones]]\nwhere = {{ goal = "untrained", family = "AlexNet" }}\n'
        '[[backbones]]\nname = "alexnet.untrained"\n'
    )
    names = [one.record.name for one in queried.networks]
    assert "alexnet.untrained" in names
    assert len(names) == len(set(names))
    (images / "own.toml").write_text(
        'name = "own"\nnetwork = "efficientnet_lite0"\ngoal = "mine"\n'
        '[weights]\nfile = "own.safetensors"\n'
    )
    with pytest.raises(WeightsError, match="own"):
        plan(f'{DATABASE}[[backbones]]\nrecord = "own.toml"\n')


def test_networks_without_weights_are_refused_with_their_names_or_skipped(plan):
    text = f'{DATABASE}{NETWORK}[[backbones]]\nname = "vgg16"\n[[backbones]]\nname = "alexnet"\n'
    with pytest.raises(WeightsError, match=r"on this machine \(2\): vgg16 alexnet"):
        plan(text)
    for found in (plan(text, missing="skip"), plan(f'missing = "skip"\n{text}')):
        assert [one.record.name for one in found.networks] == ["efficientnet_lite0"]


def test_the_built_in_ladder_is_no_opinion(plan):
    found = plan(f'[[databases]]\nname = "ladder"\n{NETWORK}')
    facts = found.databases["ladder"].facts
    assert (len(found.databases["ladder"].pairs), facts.opinion) == (320, False)


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ("nonsense", PlanError, "can't be read as TOML"),
        (NETWORK, PlanError, "databases: expected at least one"),
        (f"baselines = []\n{DATABASE}", PlanError, "at least one backbone or baseline"),
        (f'layer = "all"\n{DATABASE}', UnknownNameError, "did you mean 'layers'"),
        (f'layers = "al"\n{DATABASE}{NETWORK}', UnknownNameError, "choice of layers"),
        (f'layers = ["blck3"]\n{DATABASE}{NETWORK}', UnknownNameError, "block3"),
        (f"layers = []\n{DATABASE}{NETWORK}", PlanError, "at least one layer"),
        (f"layers = [3]\n{DATABASE}{NETWORK}", PlanError, "expected names"),
        (f"readouts = []\n{DATABASE}{NETWORK}", PlanError, "at least one"),
        (f'readouts = ["euclidian"]\n{DATABASE}{NETWORK}', UnknownNameError, "euclidean"),
        (f'readouts = "gram"\n{DATABASE}{NETWORK}', PlanError, "expected a list, got 'gram'"),
        (f'readouts = ["gram", "gram"]\n{DATABASE}{NETWORK}', PlanError, "named twice: gram"),
        (f'readouts = ["weighted_lpips"]\n{DATABASE}{NETWORK}', PlanError, "needs channel weights"),
        (f'readouts = ["weighted_euclidean"]\n{DATABASE}{NETWORK}', PlanError, "the first"),
        (f'concatenations = ["joint"]\n{DATABASE}{NETWORK}', UnknownNameError, "pairs:joint"),
        (f'baselines = ["sim"]\n{DATABASE}', UnknownNameError, "ssim"),
        (f'baselines = ["ssim", "ssim"]\n{DATABASE}', PlanError, "named twice: ssim"),
        (f"untrained = 1\n{DATABASE}{NETWORK}", PlanError, "expected true or false"),
        (f'missing = "no"\n{DATABASE}{NETWORK}', PlanError, "refuse or skip"),
        (
            f"[statistics]\ndraws = 0\n{DATABASE}",
            PlanError,
            "draws: expected an integer of at least 1",
        ),
        (f"[statistics]\ndraws = true\n{DATABASE}", PlanError, "expected a number"),
        (f"[statistics]\nmargin = 2\n{DATABASE}", PlanError, "margin"),
        (f"[statistics]\nconfidence = 95\n{DATABASE}", PlanError, "confidence"),
        (DATABASE + DATABASE, PlanError, "is named mine already"),
        (DATABASE.replace("mine", "pooled"), PlanError, "can't be the name of a database"),
        (DATABASE.replace("worse", "bad"), PlanError, "better"),
        (DATABASE.replace("pairs.csv", "none.csv"), ValueError, "none.csv"),
        (f'{DATABASE}folder = "x"\n', PlanError, "got both"),
        ('[[databases]]\nname = "tid2013"\n', PlanError, "needs the folder"),
        ('[[databases]]\nname = "tid2013"\nfolder = "images"\n', DatasetError, "mos_with_names"),
        ('[[databases]]\nname = "tid"\nfolder = "images"\n', UnknownNameError, "tid2"),
        ('[[databases]]\nname = "ladder"\nopinion = "x"\n', PlanError, "only go with pairs"),
        ("databases = [3]\n", PlanError, "expected a table"),
        (f"{DATABASE}[[backbones]]\n", PlanError, "expected one of name, record and where, got 0"),
        (f'{DATABASE}{NETWORK}record = "x.toml"\n', PlanError, "got 2"),
        (f'{DATABASE}[[backbones]]\nwhere = {{ gaol = "x" }}\n', UnknownNameError, "goal"),
        (f'{DATABASE}[[backbones]]\nname = "vgg61"\n', UnknownNameError, "vgg16"),
    ],
)
def test_what_can_not_be_carried_out_is_refused(plan, text, error, reason):
    with pytest.raises(error, match=reason) as raised:
        plan(text)
    assert isinstance(raised.value, ValueError | WeightsError)


def test_a_plan_in_python_is_checked_alike(tmp_path):
    with pytest.raises(PlanError, match="named twice: mine"):
        small_plan(tmp_path, networks=[network(small_network()), network(small_network())])
    with pytest.raises(PlanError, match="named twice: ssim"):
        small_plan(tmp_path, networks=[Network(small_network("ssim"), ("pool",))])


def test_a_pair_that_comes_twice_is_refused_before_anything_is_measured(images, tmp_path):
    table = images / "images" / "pairs.csv"
    lines = table.read_text().splitlines()
    for again in (lines[2], lines[2].replace("r0_", "../images/r0_")):
        (images / "images" / "twice.csv").write_text("\n".join([*lines, again]))
        with pytest.raises(PlanError, match="pairs 2 and 7 are the same"):
            small_plan(
                tmp_path,
                databases={"x": read_opinions(images / "images" / "twice.csv", "worse")},
            )


def test_a_control_an_architecture():
    named = ("efficientnet_lite0", "squeezenet1_0", "squeezenet1_0.untrained")
    found = with_controls([network(backbone(name)) for name in named])
    assert [one.record.name for one in found] == [*named, "efficientnet_lite0.untrained"]
    assert with_controls([network(small_network())])[1:] == []
