"""What a back end and a running System must keep to, the same wherever they compute."""

from __future__ import annotations

from openmm_duality.errors import DualityError

PRECISIONS = ("single", "double")


def check_precision(name: str) -> str:
    """The name of a precision of the arithmetic, checked.

    Raises
    ------
    DualityError
        If it is neither ``single`` nor ``double``.
    """
    if name not in PRECISIONS:
        raise DualityError(f"precision {name!r} is not known; it is one of {', '.join(PRECISIONS)}")
    return name
