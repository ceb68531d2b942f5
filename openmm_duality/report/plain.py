"""A comparison as plain numbers, lists and strings, for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_duality.observables.curves import Curve, Distribution
from openmm_duality.observables.differences import MeanDifference
from openmm_duality.observables.findings import Observable, Quantity
from openmm_duality.observables.motion import Motion
from openmm_duality.observables.results import Comparison, CurveComparison, DistributionComparison, Window
from openmm_duality.observables.statistics import Estimate, Reason, curve_error
from openmm_duality.observables.time_correlations import LaggedFit
from openmm_duality.report.formatting import label
from openmm_duality.report.headlines import headline, standing
from openmm_duality.report.notes import drift_of, note_sentence
from openmm_duality.report.sentences import INTEGRITY, verdict

_SIDES = ("run", "reference")


def comparison_to_dict(c: Comparison) -> dict[str, Any]:
    """Every number of a comparison, with the unit in its name where there is one; None in the place of NaN.

    Parameters
    ----------
    c : Comparison
    """
    plain: dict[str, Any] = {
        "name": c.name,
        "headline": headline(c),
        "conclusion": c.conclusion.value,
        "standing": standing(c),
        "verdict": verdict(c),
        "agrees": c.agrees,
        "joint_p_value": c.joint_p_value,
        "tests": {
            label(f): {"p_value": f.p_value, "adjusted_p_value": f.adjusted_p_value, "differs": f.failed}
            for f in c.tests
        },
        "differs_in": [label(finding) for finding in c.failures],
        "conditions": {
            "run": c.conditions.to_dict(),
            "reference": c.reference_conditions.to_dict(),
            **{observable.value: _quantity(q) for observable, q in c.state.items()},
        },
        "rdf": {pair: {**_curves(d), "with_intramolecular": _curves(c.rdf_whole[pair])} for pair, d in c.rdf.items()},
        "coordination": {
            pair: {
                **_curves(d),
                "first_shell": {"edge_nm": c.shells[pair].edge, **_quantity(c.shells[pair].number)}
                if pair in c.shells
                else None,
            }
            for pair, d in c.coordination.items()
        },
        "bond_length": {name: _distributions(d) for name, d in c.bond_length.items()},
        "angle": {name: _distributions(d) for name, d in c.angle.items()},
        "tetrahedral_order": {name: _distributions(d) for name, d in c.tetrahedral_order.items()},
        "neighbour_angle": {name: _distributions(d) for name, d in c.neighbour_angle.items()},
        "hydrogen_bonds": None if c.hydrogen_bonds is None else _quantity(c.hydrogen_bonds),
        "reactions": {
            "frames_apart_ps": c.hop_spacing or None,
            "populations": {name: _distributions(d) for name, d in c.population.items()},
            "hops_per_ps": {name: _distributions(d) for name, d in c.hops.items()},
            "lifetimes_ps": {name: _quantity(q) for name, q in c.lifetime.items()},
            "hops_up_to_time": {
                name: {
                    side: {"time_ps": curve.centres, "hops": curve.mean}
                    for side, curve in zip(_SIDES, both, strict=True)
                }
                for name, both in c.hop_counts.items()
            },
        },
        "own_observables": {name: _distributions(d) for name, d in c.own.items()},
        "diffusion": _fits(c, Observable.DIFFUSION, "nm^2/ps", "squared_displacement_nm2"),
        "reorientation": _fits(c, Observable.REORIENTATION, "ps", "p2"),
        "spectrum": {
            "unit": "1/cm",
            "bands": [
                {"from": band[0], "to": band[1], **_quantity(q), "share": _quantity(c.band_shares[band])}
                for band, q in c.bands.items()
            ],
            "run": _spectra(c.motion),
            "reference": _spectra(c.reference_motion),
        },
        "energetics": None if c.energetics is None else {**c.energetics.to_dict(), "drift_of": drift_of(c.energetics)},
        "forces_along_run": None if c.force_errors is None else c.force_errors.to_dict(),
        "integrity": _integrity(c),
        "run": {**_window(c.run_window), "source": c.source, "settings": c.run.settings if c.run else None},
        "reference": {
            **_window(c.reference_window),
            "source": c.reference_source,
            "source_of_motion": c.dynamics_source or c.reference_source,
        },
        "least_block_time_ps": c.block_time,
        "untested": {
            label(finding): {
                "correlation_time_ps": finding.correlation_time,
                "why": None if finding.reason is None else finding.reason.value,
            }
            for finding in c.untested
        },
        "notes": [note_sentence(note) for note in c.notes],
        "more": [comparison_to_dict(other) for other in c.more],
    }
    return dict(_plain(plain))


def _curves(c: CurveComparison) -> dict[str, Any]:
    return {
        "p_value": c.difference.p_value,
        "max_difference": c.difference.max_difference,
        "max_difference_at_nm": c.run.centres[c.difference.at],
        "band_half_width": c.difference.band_half_width,
        "mean_absolute_difference": c.difference.mean_absolute_difference,
        "reference_halves": {
            "max_difference": c.halves.max_difference,
            "mean_absolute_difference": c.halves.mean_absolute_difference,
        },
        "blocks": {"run": len(c.run.blocks), "reference": len(c.reference.blocks)},
        "r_nm": c.run.centres,
        "run": c.run.mean,
        "run_interval_95": curve_error(c.run.blocks),
        "reference": c.reference.mean,
        "reference_interval_95": curve_error(c.reference.blocks),
    }


def _distributions(c: DistributionComparison) -> dict[str, Any]:
    def moments(d: Distribution) -> dict[str, Estimate]:
        return {"mean": d.average, "standard_deviation": d.spread}

    return {
        **_quantity(c.number),
        "run": moments(c.run),
        "reference": moments(c.reference),
        "standard_deviation_difference": c.spread.difference,
        "standard_deviation_p_value": c.spread.p_value,
    }


def _quantity(q: Quantity) -> dict[str, Any]:
    d = q.difference
    return {
        "run": q.run,
        "reference": q.reference,
        "difference": None if d is None else d.difference,
        "difference_interval_95": None if d is None else d.interval,
        "p_value": None if d is None else d.p_value,
        "no_test": None if d is not None and d.p_value is not None else _why(d),
    }


def _why(difference: MeanDifference | None) -> str:
    """Why a difference has no p value."""
    return (Reason.ONE_SIDED if difference is None else difference.reason or Reason.TOO_SHORT).value


def _integrity(c: Comparison) -> dict[str, Any] | None:
    record = c.integrity
    if record is None:
        return None
    return {
        "sound": not any(finding.observable in INTEGRITY for finding in c.failures),
        "status": record.status,
        "reason": record.reason,
        "time_ps": record.time,
        "shortest_nm": {
            pair: {
                "run": closest.run,
                "time_ps": closest.time,
                "reference": closest.reference,
                "collapsed": c.failed(Observable.SHORTEST_DISTANCE, pair),
            }
            for pair, closest in record.shortest.items()
        },
        "most_atoms_left_molecule": record.most_left,
        "first_left_ps": record.first_left,
        "alarms": record.alarms,
        "checks": record.checks,
        "unknown_bonds": record.unknown_bonds,
    }


def _window(w: Window) -> dict[str, Any]:
    return {
        "atoms": w.atoms,
        "frames": w.frames,
        "frames_for_structure": w.structure_frames,
        "analysed_ps": w.duration,
        "discarded_ps": w.discarded,
        "long_enough": w.enough,
        "correlation_time_ps": {label(measured): time for measured, time in w.correlation_times.items()},
    }


def _fits(c: Comparison, observable: Observable, unit: str, name: str) -> dict[str, Any]:
    def plain(fit: LaggedFit | None) -> dict[str, Any] | None:
        if fit is None:
            return None
        correction = {"finite_size_correction": fit.correction} if observable is Observable.DIFFUSION else {}
        curve = {"lag_ps": fit.curve.centres, name: fit.curve.mean, "interval_95": curve_error(fit.curve.blocks)}
        return {"fitted_ps": fit.window, **correction, **curve}

    run, reference = (getattr(motion, observable.value) for motion in (c.motion, c.reference_motion))
    return {
        subject: {
            "unit": unit,
            **_quantity(q),
            "run_curve": plain(run.get(subject)),
            "reference_curve": plain(reference.get(subject)),
        }
        for subject, q in getattr(c, observable.value).items()
    }


def _spectra(motion: Motion) -> dict[str, Any] | None:
    s = motion.spectra
    if s is None:
        return None
    return {
        "from": s.source,
        "spacing_ps": s.spacing,
        "segment_ps": s.segment,
        "atoms": s.atoms,
        "largest_speed_of_centre_of_mass_nm_per_ps": s.drift,
        "wavenumber": s.total.centres,
        "density_of_states": {"all": s.total, **s.density},
        "lag_ps": next(iter(s.autocorrelation.values())).centres,
        "velocity_autocorrelation": s.autocorrelation,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return _plain(value.to_dict())
    if isinstance(value, Curve):
        return _plain({"mean": value.mean, "interval_95": curve_error(value.blocks)})
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(np.asarray(value, dtype=np.float64).round(9).tolist())
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
