"""The figure of a slab of water: charge fluctuations and electrostatic potential, with and without a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from openmm_duality.report.style import MUTED, REFERENCE, RULE, colour, house_style

_CURVES = (
    ("reference", "reference", REFERENCE),
    ("without", "losses alone", colour(0)),
    ("with", "losses beside a baseline", colour(1)),
)


def slab_figure(content: Mapping[str, Any]) -> Figure:
    """Charge fluctuations by wave vector along the normal, and the potential across the slab, with standard errors.

    Parameters
    ----------
    content : mapping
        What ``scripts/water_slab.py`` writes: for ``reference``, ``without`` and ``with`` the baseline,
        ``wave_vector_per_nm``, ``charge_fluctuations``, ``z_nm`` and ``potential_V``.
    """
    with house_style():
        figure = Figure(figsize=(7.4, 3.4), layout="constrained")
        fluctuations, potential = figure.subplots(1, 2)
        for key, name, shade in _CURVES:
            of = content[key]
            k, z = np.array(of["wave_vector_per_nm"]), np.array(of["z_nm"])
            mean, error = (np.array(of["charge_fluctuations"][what]) for what in ("mean", "standard_error"))
            fluctuations.errorbar(k, mean, yerr=error, fmt="o-", color=shade, markersize=4, linewidth=1.0, label=name)
            mean, error = (np.array(of["potential_V"][what]) for what in ("mean", "standard_error"))
            potential.plot(z, mean, color=shade, linewidth=1.2, label=name)
            potential.fill_between(z, mean - error, mean + error, color=shade, alpha=0.2, linewidth=0)
        fluctuations.set(title="Charge fluctuations ⟨|δρ|²⟩/ε₀VkTk²", yscale="log")
        fluctuations.set_xlabel("wave vector along the normal / nm⁻¹", color=MUTED)
        fluctuations.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        fluctuations.yaxis.set_major_formatter(ScalarFormatter())
        fluctuations.yaxis.set_minor_locator(NullLocator())
        potential.set(title="Electrostatic potential / V")
        potential.set_xlabel("distance from the middle of the slab / nm", color=MUTED)
        for axes in (fluctuations, potential):
            axes.grid(color=RULE, linewidth=0.6)
        fluctuations.legend(loc="upper right", fontsize=8)
    return figure
