"""Names of a package that load their modules when they are first used."""

from collections.abc import Callable

import lazy_loader


def attach(
    package: str, file: str
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` for the names in a package's stub.

    An AttributeError that is raised while a module loads would reach the caller as "cannot import
    name", without its cause. It becomes an ImportError that says what failed, with its cause.

    Parameters
    ----------
    package, file
        The package's ``__name__`` and ``__file__``; the stub lies beside it as ``__init__.pyi``.
    """
    load, directory, names = lazy_loader.attach_stub(package, file)
    known = frozenset(names)

    def get(name: str) -> object:
        if name not in known:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return load(name)
        except AttributeError as error:
            raise ImportError(f"{package}.{name} can't be loaded: {error}") from error

    return get, directory, names
