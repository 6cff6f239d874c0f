"""The plug-in packages that an archive's metrics need, whose code is not in the archive."""

import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

import iqa_metrics  # as a module: it loads torch only when one of its names is used


def needed(specs: Iterable[str]) -> dict[str, str]:
    """Return the plug-in packages that metrics need, with their versions.

    Raises
    ------
    PluginError
        If a metric needs something that was registered outside of a plug-in package, which a
        server's process would not know.
    """
    from iqa_metrics.plugins import GROUP, providers_of

    found: dict[str, str] = {}
    for spec in specs:
        for provider in providers_of(spec):
            if not (provider.plugin and provider.distribution):
                raise iqa_metrics.PluginError(
                    f"metric {spec}: a part of it was registered by {provider}, which a server "
                    f"does not run; put it into a package with an entry point of the group {GROUP}"
                )
            found[provider.distribution] = provider.version
    return found


def check(distributions: Mapping[str, str], specs: Iterable[str]) -> None:
    """Check that plug-in packages are installed, and that they define what metrics need.

    Another version than the required one is accepted with a PluginWarning.

    Parameters
    ----------
    distributions
        The required versions, by the packages' names.
    specs
        The metrics that need them.

    Raises
    ------
    PluginError
        If a package is missing or can't be loaded.
    """
    missing, others = [], []
    for name, wanted in distributions.items():
        try:
            here = version(name)
        except PackageNotFoundError:
            missing.append(f"{name}=={wanted}")
            continue
        if here != wanted:
            others.append(
                f"{name} {wanted} is required, but {here} is installed: values may differ"
            )
    if missing:
        raise iqa_metrics.PluginError(
            f"its metrics need {' and '.join(missing)}, which is not installed: "
            f"pip install {' '.join(missing)}"
        )
    for spec in specs if distributions else ():
        try:
            iqa_metrics.needs(spec)
        except iqa_metrics.UnknownNameError as error:
            raise iqa_metrics.PluginError(f"metric {spec}: {error}") from error
    for other in others:
        warnings.warn(other, iqa_metrics.PluginWarning, stacklevel=2)
