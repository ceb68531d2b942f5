"""Conditions: temperature, density and pressure of runs and references, and that another one is a difference."""

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.observables import Conclusion, Observable, compare
from openmm_duality.observables.conditions import BAR, Conditions, Origin, conditions_of_frames, same_cell
from openmm_duality.observables.run_log import Conserved
from openmm_duality.reference.state_points import StatePoint
from openmm_duality.report import comparison_to_dict, headline, verdict
from openmm_duality.report.headlines import limitations
from openmm_duality.report.tables import glance
from openmm_duality.units import BOLTZMANN
from tests.observables import made


def thermal(frames, kelvin, seed=0):
    """The frames with velocities at a temperature, the whole drifting by 1 nm/ps, which is no heat."""
    rng = np.random.default_rng(seed)
    velocities = rng.normal(size=frames.positions.shape) * np.sqrt(BOLTZMANN * kelvin / frames.masses)[:, None]
    centre = np.einsum("i,tix->tx", frames.masses / frames.masses.sum(), velocities)
    return replace(frames, velocities=velocities - centre[:, None] + 1.0)


def at(frames, kelvin, seed=0):
    """The frames with the temperatures of an energy file, and the state point that was set."""
    freedom = 3 * frames.n_atoms - 3
    temperatures = kelvin * np.random.default_rng(seed).gamma(freedom / 2, 2 / freedom, len(frames))
    return replace(frames, temperatures=temperatures, state_point=StatePoint("NVT", kelvin))


def quick(run, reference, **settings):
    return compare(run, reference, r_max=0.5, progress=False, **settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made.write_run(tmp_path_factory.mktemp("conditions") / "run", made.water(120, 2))


def test_temperatures_are_those_of_the_energy_file_else_of_the_velocities():
    frames = made.water(200, 1)
    assert conditions_of_frames(frames).temperature is None
    moving = thermal(frames, 320.0)
    found = conditions_of_frames(moving)
    assert found.origin is Origin.VELOCITIES
    assert found.temperature.mean == pytest.approx(320.0, abs=4 * found.temperature.error)
    stated = conditions_of_frames(at(moving, 300.0))
    assert stated.origin is Origin.ENERGY_FILE
    assert stated.temperature.mean == pytest.approx(300.0, abs=4 * stated.temperature.error)
    assert stated.set_temperature == 300.0


def test_the_density_is_that_of_the_cell_and_the_pressure_that_of_stress_and_heat():
    frames = made.water(50, 1)
    found = conditions_of_frames(frames)
    assert found.density.mean == pytest.approx(24 * 18.015 * 1.66053907e-3 / made.EDGE**3, rel=1e-6)
    assert found.fixed_cell
    assert found.pressure is None
    ideal = replace(at(frames, 300.0), stresses=np.zeros((50, 3, 3)))
    found = conditions_of_frames(ideal)
    expected = (3 * 72 - 3) / 3 * BOLTZMANN * found.temperature.mean / made.EDGE**3 / BAR
    assert found.pressure.mean == pytest.approx(expected)
    pulled = replace(ideal, stresses=np.tile(100 * BAR * np.eye(3), (50, 1, 1)))
    assert conditions_of_frames(pulled).pressure.mean == pytest.approx(expected - 100)
    assert pytest.approx(1 / 16.6053907, rel=1e-6) == BAR


def test_equal_conditions_are_no_difference(run):
    found = quick(run, at(made.water(120, 1), 300.0))
    assert found.conclusion is Conclusion.NO_DIFFERENCE, verdict(found)
    for observable in (Observable.SET_TEMPERATURE, Observable.DENSITY, Observable.MEAN_TEMPERATURE):
        assert found.finding(observable) is not None
    assert any("share one cell" in text for text in limitations(found))


@pytest.mark.parametrize("known", ["set", "measured"])
def test_another_temperature_is_a_difference_and_stated_first(run, known):
    reference = at(made.water(120, 1), 330.0)
    if known == "measured":
        reference = replace(reference, state_point=None)
    found = quick(run, reference)
    assert found.conclusion is Conclusion.DIFFERS
    word = {"set": "temperature set", "measured": "mean temperature"}[known]
    assert headline(found).startswith(f"The run differs in {word}")
    assert verdict(found)[0].startswith("The temperature of the heat bath" if known == "set" else "The mean kinetic")
    first = comparison_to_dict(found)["differs_in"][0]
    assert first == word
    cells = {row.name.split(" (")[0]: row.cells[0] for row in glance(found)[0].rows}
    assert cells["Temperature, mean"].bad
    assert cells["Temperature, mean"].test.startswith("p ")
    assert cells["Temperature, set"].test == ("no test: set, not measured" if known == "set" else "not in both")


def test_another_density_is_a_difference_whatever_the_number_of_atoms(tmp_path):
    reference = made.water(120, 1)
    for name, edge, molecules, same in (("a", 1.01, 24, False), ("b", 2 ** (1 / 3), 48, True)):
        source = made.water(120, 3, edge=made.EDGE * edge, n_molecules=molecules)
        found = quick(made.write_run(tmp_path / name, source), reference)
        assert found.failed(Observable.DENSITY) != same
        assert ("differs in density" in headline(found)) != same
        assert not any("share one cell" in text for text in limitations(found))


def test_cells_are_the_same_up_to_rotation_and_rounding():
    cell = np.array([[1.2, 0.0, 0.0], [0.1, 1.3, 0.0], [0.0, 0.2, 1.4]])
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    assert same_cell(cell, cell @ turn)
    assert same_cell(cell, cell * (1 + 1e-5))
    assert not same_cell(cell, cell * 1.003)
    assert not same_cell(cell, None)
    assert same_cell(None, None)
    assert Conditions().fixed_cell is False


def test_a_run_with_a_barostat_is_npt_and_conserves_nothing(tmp_path):
    """Whatever its record calls it: the System says which forces acted."""
    forces = {"forces": ["Force", "MonteCarloBarostat", "CMMotionRemover"], "pressure_bar": 1.0}
    directory = made.write_run(tmp_path / "run", made.water(120, 2), **forces)
    text = (directory / "log.csv").read_text().split("\n")
    volumes = made.EDGE**3 * (1 + 0.01 * np.random.default_rng(3).normal(size=120))
    rows = [row.replace("nan", f"{v:.6f}") for row, v in zip(text[1:-1], volumes, strict=True)]
    (directory / "log.csv").write_text("\n".join([text[0], *rows]) + "\n")
    found = quick(directory, at(made.water(120, 1), 300.0))
    assert found.conditions.state_point == StatePoint("NPT", 300.0, 1.0)
    assert found.energetics.conserved is Conserved.BAROSTAT
    assert found.energetics.drift is None
    assert found.energetics.canonical_mean is not None
    assert not found.failed(Observable.ENERGY_DRIFT)
    density = found.finding(Observable.DENSITY)
    assert density.p_value is not None
    assert density.run.error > 0
    plain = comparison_to_dict(found)
    assert plain["conditions"]["run"]["ensemble"] == "NPT"
    assert any("samples NPT and the reference NVT" in note for note in plain["notes"])
    far = quick(directory, replace(at(made.water(120, 1), 300.0), state_point=StatePoint("NPT", 300.0, 2000.0)))
    assert far.failed(Observable.SET_PRESSURE)


def test_other_time_steps_are_noted(run):
    found = quick(run, replace(made.water(120, 1), timestep=1e-3))
    assert any(
        "time step of run is 0.5 fs and that of the reference 1 fs" in n for n in comparison_to_dict(found)["notes"]
    )


def test_a_reference_with_a_heat_bath_for_every_atom_is_noted_where_it_is_that_of_the_motion(run):
    massive = replace(made.water(120, 1), state_point=StatePoint("NVT", 300.0, massive=True))
    said = "Every degree of freedom of the reference has a heat bath of its own"
    assert any(said in note for note in comparison_to_dict(quick(run, massive))["notes"])
    assert not any(said in note for note in comparison_to_dict(quick(run, made.water(120, 1)))["notes"])
    longer = replace(made.water(240, 1), state_point=StatePoint("NVE"))
    assert not any(said in note for note in comparison_to_dict(quick(run, massive, dynamics=longer))["notes"])
