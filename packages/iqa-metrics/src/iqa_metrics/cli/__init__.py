"""The ``iqa`` command."""

import typer

from iqa_metrics.cli import study_estimate  # noqa: F401  # adds a command to study_app
from iqa_metrics.cli.agree import agree
from iqa_metrics.cli.channel_weights import channel_weights_app
from iqa_metrics.cli.datasets import datasets_app
from iqa_metrics.cli.doctor import doctor
from iqa_metrics.cli.lists import list_app
from iqa_metrics.cli.score import score
from iqa_metrics.cli.study import study_app
from iqa_metrics.cli.versions import VersionOption, print_warnings_plainly
from iqa_metrics.cli.weights import weights_app

app = typer.Typer(
    help="Perceptual distances between images, from pretrained networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


@app.callback()
def main(version: VersionOption = False) -> None:
    """Perceptual distances between images, from pretrained networks."""
    print_warnings_plainly()


app.command()(score)
app.command()(agree)
app.command()(doctor)
app.add_typer(list_app, name="list")
app.add_typer(weights_app, name="weights")
app.add_typer(datasets_app, name="datasets")
app.add_typer(study_app, name="study")
app.add_typer(channel_weights_app, name="channel-weights")
