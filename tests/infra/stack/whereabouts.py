"""A function that tells where a worker has its code from. It stands alone: workers do not have what tests import."""

from __future__ import annotations


def where() -> tuple[str, str]:
    """The files of cloudexec and of a package of the bundle."""
    import reports  # type: ignore[import-not-found]  # of the bundle

    import cloudexec

    return str(cloudexec.__file__), str(reports.__file__)
