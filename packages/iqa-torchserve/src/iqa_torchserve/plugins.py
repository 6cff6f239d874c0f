"""Packages beside ours that an archive's metrics need: their code is not in the archive."""

import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

import iqa_metrics  # by its own name: it loads torch only where one of its names is used


def needed(specs: Iterable[str]) -> dict[str, str]:
    """Return the distributions that registered what metrics are made of, and their versions.

    Raises
    ------
    PluginError
        If something was registered by code that a server's process does not run.
    """
    from iqa_metrics.plugins import GROUP, providers_of

    found: dict[str, str] = {}
    for spec in specs:
        for provider in providers_of(spec):
            if not (provider.plugin and provider.distribution):
                raise iqa_metrics.PluginError(
                    f"metric {spec}: {provider} has registered a part of it, and a server does not "
                    f"run that; put it into a package with an entry point of the group {GROUP}"
                )
            found[provider.distribution] = provider.version
    return found


def check(distributions: Mapping[str, str], specs: Iterable[str]) -> None:
    """Check that distributions are installed here, and that metrics can be named with them.

    Another version than the one that is asked for is taken, with a PluginWarning.

    Parameters
    ----------
    distributions
        Names to versions.
    specs
        The metrics that need them.

    Raises
    ------
    PluginError
        If one is missing, or does not load.
    """
    missing, others = [], []
    for name, wanted in distributions.items():
        try:
            here = version(name)
        except PackageNotFoundError:
            missing.append(f"{name}=={wanted}")
            continue
        if here != wanted:
            others.append(f"{name} {wanted} is asked for, and {here} is here: values may differ")
    if missing:
        raise iqa_metrics.PluginError(
            f"its metrics need {' and '.join(missing)}, not installed here: "
            f"pip install {' '.join(missing)}"
        )
    for spec in specs if distributions else ():
        try:
            iqa_metrics.needs(spec)
        except iqa_metrics.UnknownNameError as error:
            raise iqa_metrics.PluginError(f"metric {spec}: {error}") from error
    for other in others:
        warnings.warn(other, iqa_metrics.PluginWarning, stacklevel=2)
