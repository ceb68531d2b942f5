"""Trajectories of other engines, written by other libraries, with topologies and structures beside them or named."""

from __future__ import annotations

from dataclasses import replace

import ase.io
import mdtraj
import numpy as np
import pytest
from openmm import app, unit

from openmm_duality.errors import DualityError
from openmm_duality.reference import read, summarise
from tests.command import call, refused
from tests.observables.made import frames as made_frames
from tests.observables.made import water, write_run

FRAMES = water(4, seed=2, n_molecules=8)
STEP = 0.01  # ps


def topology_of(frames):
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for first in range(0, frames.n_atoms, 3):
        residue = topology.add_residue("HOH", chain)
        for k, name in enumerate(("O", "H1", "H2")):
            topology.add_atom(name, mdtraj.element.get_by_symbol(frames.species[first + k]), residue)
    return topology


def trajectory_of(frames, times=None):
    found = mdtraj.Trajectory(frames.positions, topology_of(frames), time=times)
    found.unitcell_vectors = frames.cells
    return found


@pytest.mark.filterwarnings("ignore:Warning. The 'netCDF4' Python package")
@pytest.mark.parametrize(
    ("suffix", "structure"),
    [
        (".dcd", "top.pdb"),
        (".xtc", "top.gro"),
        (".trr", "top.pdb"),
        (".nc", "top.pdb"),
        (".pdb", "top.pdb"),
        (".gro", "top.gro"),
        (".xtc", "top.xyz"),
    ],
)
def test_every_format_with_every_structure(tmp_path, suffix, structure):
    times = 5.0 + STEP * np.arange(4)
    written, named = trajectory_of(FRAMES, times), tmp_path / structure
    if structure == "top.xyz":
        ase.io.write(named, FRAMES.to_ase()[0], format="extxyz")
    else:
        written[0].save(str(named))
    path = tmp_path / f"run{suffix}"
    written.save(str(path))
    found = read(path, topology=named)
    assert found.species == FRAMES.species
    np.testing.assert_allclose(found.masses, FRAMES.masses, atol=0.002)
    np.testing.assert_allclose(found.positions, FRAMES.positions, atol=6e-4)  # XTC and PDB round
    np.testing.assert_allclose(found.cells, FRAMES.cells, atol=1e-4)
    if suffix in (".xtc", ".trr", ".nc"):
        np.testing.assert_allclose(found.times, times, atol=1e-5)
        assert np.ptp(np.diff(found.times)) < 1e-9
    else:  # mdtraj writes no times there
        assert not found.times.any()
    assert found.velocities is None
    assert "velocities" in summarise(found, progress=False).missing


def test_a_structure_beside_is_found_by_its_name_or_as_the_only_one(tmp_path):
    path = tmp_path / "run.dcd"
    trajectory_of(FRAMES).save(str(path))
    with pytest.raises(DualityError, match=r"does not name its atoms.*--topology"):
        read(path)
    trajectory_of(FRAMES)[0].save(str(tmp_path / "start.pdb"))
    with pytest.warns(UserWarning, match=r"its atoms are those of start\.pdb"):
        assert read(path).species == FRAMES.species
    trajectory_of(FRAMES)[0].save(str(tmp_path / "other.gro"))
    with pytest.raises(DualityError, match="does not name its atoms"):
        read(path)
    trajectory_of(FRAMES)[0].save(str(tmp_path / "run.pdb"))
    with pytest.warns(UserWarning, match=r"its atoms are those of run\.pdb"):
        read(path)


def test_times_of_openmm_are_in_the_header_and_others_are_given(tmp_path):
    path, structure = tmp_path / "run.dcd", tmp_path / "top.pdb"
    trajectory_of(FRAMES)[0].save(str(structure))
    topology = topology_of(FRAMES).to_openmm()
    topology.setPeriodicBoxVectors(FRAMES.cells[0] * unit.nanometer)
    with path.open("wb") as handle:
        file = app.DCDFile(handle, topology, 0.5 * unit.femtosecond, firstStep=20, interval=20)
        for positions in FRAMES.positions:
            file.writeModel(positions * unit.nanometer, periodicBoxVectors=FRAMES.cells[0] * unit.nanometer)
    found = read(path, topology=structure)
    np.testing.assert_allclose(found.times, 0.01 * np.arange(1, 5), rtol=1e-6)
    assert found.timestep == pytest.approx(0.0005, rel=1e-6)
    with pytest.warns(UserWarning, match=r"0\.01 ps apart by its own numbers; the 0\.02 ps that were given"):
        given = read(path, topology=structure, timestep="20 fs")
    np.testing.assert_allclose(np.diff(given.times), 0.02)
    trajectory_of(FRAMES).save(str(path))  # by mdtraj, whose header says nothing
    assert not read(path, topology=structure).times.any()
    np.testing.assert_allclose(np.diff(read(path, topology=structure, timestep=0.02).times), 0.02)
    ase.io.write(tmp_path / "run.xyz", FRAMES.to_ase(), format="extxyz")
    np.testing.assert_allclose(read(tmp_path / "run.xyz", timestep=20 * unit.femtosecond).times, 0.02 * np.arange(4))
    for wrong in (0, -1.0, "0 fs"):
        with pytest.raises(DualityError, match="above zero"):
            read(path, topology=structure, timestep=wrong)


def test_a_trajectory_without_a_cell_has_that_of_its_structure_and_virtual_sites_are_left_out(tmp_path):
    bare = trajectory_of(FRAMES)
    bare.unitcell_vectors = None
    bare.save(str(tmp_path / "run.dcd"))
    trajectory_of(FRAMES)[0].save(str(tmp_path / "top.pdb"))
    with pytest.warns(UserWarning, match=r"has no cell; that of top\.pdb"):
        np.testing.assert_allclose(
            read(tmp_path / "run.dcd", topology=tmp_path / "top.pdb").cells, FRAMES.cells, atol=1e-4
        )
    topology = mdtraj.Topology()
    residue = topology.add_residue("HOH", topology.add_chain())
    elements = ("O", "H", "H", "VS")
    for name, symbol in zip(("O", "H1", "H2", "M"), elements, strict=True):
        topology.add_atom(name, mdtraj.element.get_by_symbol(symbol), residue)
    xyz = np.random.default_rng(0).normal(size=(2, 4, 3))
    mdtraj.Trajectory(xyz, topology).save(str(tmp_path / "sites.pdb"))
    with pytest.warns(UserWarning, match="1 virtual sites"):
        found = read(tmp_path / "sites.pdb")
    assert found.species == ("O", "H", "H")
    np.testing.assert_allclose(found.positions, xyz[:, :3], atol=1e-4)


def test_what_does_not_fit_is_refused(tmp_path):
    path, structure = tmp_path / "run.dcd", tmp_path / "top.pdb"
    trajectory_of(FRAMES).save(str(path))
    few = replace(FRAMES, species=FRAMES.species[:3], masses=FRAMES.masses[:3], positions=FRAMES.positions[:, :3])
    trajectory_of(few)[0].save(str(structure))
    assert "top.pdb" in refused("inspect", path, "--topology", structure)
    assert "no such file" in refused("inspect", path, "--topology", tmp_path / "none.pdb")
    assert "no such file" in refused("inspect", tmp_path / "none.xtc", "--topology", structure)
    path.write_bytes(path.read_bytes()[:-100])
    assert "cut short" in refused("inspect", path, "--topology", structure)
    (tmp_path / "bad.xtc").write_text("nothing of the kind")
    assert "bad.xtc" in refused("inspect", tmp_path / "bad.xtc", "--topology", structure)
    structure.write_text("nothing of the kind")
    assert "top.pdb" in refused("inspect", path, "--topology", structure)


def test_inspect_says_what_a_comparison_lacks(tmp_path):
    trajectory_of(FRAMES).save(str(tmp_path / "run.dcd"))
    trajectory_of(FRAMES)[0].save(str(tmp_path / "run.pdb"))
    assert "gives no times that rise" in call("inspect", tmp_path / "run.dcd")
    text = call("inspect", tmp_path / "run.dcd", "--timestep", "10 fs")
    for words in ("too short", "No vibrational spectrum", "temperature of run.dcd is not known"):
        assert words in text
    run = call("inspect", write_run(tmp_path / "npt", FRAMES), "--timestep", "10 fs")
    assert "too short" in run
    assert "temperature of npt" not in run
    open_ends = made_frames(("Ar", "Ar"), np.random.default_rng(0).normal(size=(3, 2, 3)), None)
    open_ends.save(tmp_path / "argon.safetensors")
    assert "no g(r)" in call("inspect", tmp_path / "argon.safetensors")
