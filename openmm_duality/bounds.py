"""Bounds of physical quantities in MD units: a number beyond them is a mistake, and is refused by name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openmm_duality.errors import DualityError

LENGTH = 1e4  # nm, of coordinates and cells; single precision resolves 1e-3 nm there
WIDTH = 0.05  # nm, between opposite faces of a cell; less than any bond, and images grow with its inverse cube
DENSITY = 2000.0  # atoms per nm³ of a cell, ten times that of diamond
STEPS = 10**12  # of a run

BOUNDS = {
    "positions": ("nm", -LENGTH, LENGTH),
    "forces": ("kJ/mol/nm", -1e9, 1e9),
    "velocities": ("nm/ps", -1e4, 1e4),
    "energies": ("kJ/mol", -1e12, 1e12),
    "stresses": ("kJ/mol/nm³", -1e9, 1e9),
    "times": ("ps", -1e12, 1e12),
    "masses": ("dalton", 1e-3, 1e4),
    "timestep": ("ps", 1e-9, 1e3),
    "temperature": ("K", 0.0, 1e9),
    "temperatures": ("K", 0.0, 1e9),
    "pressure": ("bar", -1e9, 1e9),
    "cutoff": ("nm", 0.05, 5.0),
    "bond length": ("nm", 0.01, 1.0),
    "shortest distance": ("nm", 1e-3, LENGTH),
    "core strength": ("kJ/mol", 0.0, 1e12),
    "wall strength": ("kJ/mol", 0.0, 1e12),
    "coefficients": ("kJ/mol", -1e18, 1e18),
    "weight": ("", 1e-9, 1e9),
}


def require_bounds(values: npt.ArrayLike, quantity: str, where: str) -> None:
    """Refuse numbers that are not finite or beyond the bounds of a quantity.

    Parameters
    ----------
    values : array
    quantity : str
        One of `BOUNDS`.
    where : str
        Where the numbers were read, for the message.

    Raises
    ------
    DualityError
        With the first of the numbers.
    """
    unit, least, most = BOUNDS[quantity]
    array = np.asarray(values, dtype=np.float64)
    right = (array >= least) & (array <= most)
    if not right.all():
        unit, wrong = f" {unit}" if unit else "", array[~right].flat[0]
        raise DualityError(f"{where}: {quantity} of {wrong:g}{unit}; expected numbers from {least:g} to {most:g}{unit}")
