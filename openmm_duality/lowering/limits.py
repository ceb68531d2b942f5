"""What a back end and a running System must keep to, the same wherever they compute."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openmm_duality.errors import DualityError
from openmm_duality.reference.cells import widths

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


def check_box(box: npt.NDArray[np.float64], cutoff: float) -> None:
    """Refuse a box that is too small for the losses; the forward of `torchscript` says the same in TorchScript.

    Parameters
    ----------
    box : array, shape (3, 3)
        In nm.
    cutoff : float
        In nm.

    Raises
    ------
    DualityError
        If the box is less than twice the cutoff wide, or no box.
    """
    if np.shape(box) != (3, 3) or not np.isfinite(box).all() or np.linalg.det(box) == 0.0:
        raise DualityError(f"the box is {np.asarray(box).tolist()}; expected three vectors in nm that span a volume")
    width = float(widths(np.asarray(box, dtype=np.float64)).min())
    if 2.0 * cutoff > width * (1.0 + 1e-6):
        raise DualityError(
            f"the box is {width:.6g} nm wide, less than twice the cutoff of the losses ({cutoff:.6g} nm): use a larger "
            "box, or infer with a shorter cutoff"
        )
