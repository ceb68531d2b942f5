"""Extended XYZ of others: names of forces and energies, units, several compositions, isolated atoms."""

from __future__ import annotations

import warnings
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones

from openmm_duality.errors import DualityError
from openmm_duality.reference import DataKeys, Frames, MixedFrames, read, summarise
from openmm_duality.reference.quantities import means
from openmm_duality.units import ANGSTROM, BOHR, ELECTRONVOLT, HARTREE


def water(seed: int = 0, symbols: str = "OHH", cell: float | None = None) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms(symbols, positions=3.0 * rng.normal(size=(len(Atoms(symbols)), 3)))
    if cell is not None:
        atoms.set_cell([cell] * 3)
        atoms.pbc = True
    atoms.info["energy_of_it"] = -1.0 - seed
    atoms.arrays["forces_of_it"] = rng.normal(size=(len(atoms), 3))
    return atoms


def write(path: Path, images: list[Atoms], forces: str = "forces", energy: str = "energy") -> Path:
    """A file with the given names of forces and energies."""
    renamed = []
    for image in images:
        atoms = image.copy()
        atoms.info[energy] = atoms.info.pop("energy_of_it")
        atoms.arrays[forces] = atoms.arrays.pop("forces_of_it")
        renamed.append(atoms)
    ase.io.write(path, renamed, format="extxyz")
    return path


def said_of(path: Path) -> str:
    """All warnings of reading a file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(path)
    return " ".join(str(w.message) for w in caught)


def quiet(path: Path, keys: DataKeys | None = None) -> Frames | MixedFrames:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(path, keys=keys)


@pytest.mark.parametrize(
    ("forces", "energy"),
    [
        ("REF_forces", "REF_energy"),
        ("dft_force", "dft_energy"),
        ("forces_xtb", "energy_xtb"),
        ("Forces", "Energy"),
        ("DFT-PBE.forces", "total_energy"),
    ],
)
def test_common_names_are_found_and_said(tmp_path: Path, forces: str, energy: str) -> None:
    image = water()
    path = write(tmp_path / "a.xyz", [image, water(1)], forces, energy)
    with pytest.warns(UserWarning, match=f"forces from '{forces}', energy from '{energy}'"):
        frames = read(path)
    assert isinstance(frames, Frames)
    assert frames.forces is not None
    assert frames.energies is not None
    np.testing.assert_allclose(frames.forces[0] / ELECTRONVOLT * ANGSTROM, image.arrays["forces_of_it"], atol=1e-7)
    np.testing.assert_allclose(frames.energies / ELECTRONVOLT, [-1.0, -2.0])


@pytest.mark.parametrize("name", ["free_energy", "energy_error", "kinetic_energy", "energies", "e", "energy_per_atom"])
def test_other_quantities_are_no_energies(name: str) -> None:
    assert not means("energy", name)


def test_what_is_not_used_is_said(tmp_path: Path) -> None:
    image = water()
    image.info |= {"config_type": "liquid", "free_energy": 3.0}
    image.arrays["charge_x"] = np.zeros(3)
    with pytest.warns(UserWarning, match="not used: charge_x, config_type, free_energy"):
        read(write(tmp_path / "a.xyz", [image], "REF_forces", "REF_energy"))


def test_of_two_names_one_has_to_be_chosen(tmp_path: Path) -> None:
    image = water()
    image.arrays["mace_forces"] = 2.0 * image.arrays["forces_of_it"]
    path = write(tmp_path / "a.xyz", [image], "REF_forces")
    with pytest.raises(DualityError, match=r"REF_forces and mace_forces .* --forces-key"):
        quiet(path)
    one, other = (quiet(path, DataKeys(forces=name)).parts[0] for name in ("REF_forces", "mace_forces"))
    assert one.forces is not None
    np.testing.assert_allclose(other.forces, 2.0 * one.forces, atol=1e-4)
    with pytest.raises(DualityError, match="three numbers per atom under the name 'nothing'"):
        quiet(path, DataKeys(forces="nothing"))


def test_units_are_converted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xyz", [water(), water(1)])
    forces, energies = water().arrays["forces_of_it"], np.array([-1.0, -2.0])
    for units, energy, force in (
        ("eV", ELECTRONVOLT, ELECTRONVOLT / ANGSTROM),
        ("kcal/mol", 4.184, 41.84),
        ("kJ/mol", 1.0, 10.0),
        ("hartree", HARTREE, HARTREE / BOHR),
        ("hartree/angstrom", HARTREE, HARTREE / ANGSTROM),
    ):
        (frames,) = quiet(path, DataKeys(units=units)).parts
        assert frames.forces is not None
        np.testing.assert_allclose(frames.forces[0], force * forces, atol=1e-6 * force)
        np.testing.assert_allclose(frames.energies, energy * energies)
    with pytest.raises(DualityError, match="kcal/mol"):
        DataKeys(units="kcal")
    quiet(path).save(tmp_path / "saved.safetensors")
    with pytest.raises(DualityError, match="for extended XYZ files, those of NumPy and those of ASE alone"):
        read(tmp_path / "saved.safetensors", keys=DataKeys(units="kcal/mol"))


def test_a_file_may_hold_any_mixture(tmp_path: Path) -> None:
    images = [
        water(0),
        water(1, "HOH"),
        water(2, "CH4", 7.0),
        water(3),
        water(4, "CH4"),
        water(5, "OHH", 6.0),
        water(6, "OHH", 6.5),
    ]
    frames = quiet(write(tmp_path / "a.xyz", images))
    assert isinstance(frames, MixedFrames)
    assert (len(frames), len(frames.parts)) == (7, 5)
    for number, image in enumerate(images):
        part, t = frames.locate(number)
        assert part.species == tuple(image.get_chemical_symbols())
        np.testing.assert_allclose(part.positions[t], image.positions * ANGSTROM, atol=1e-8)
        assert (part.cells is not None) == bool(image.pbc.all())
        if part.cells is not None:
            np.testing.assert_allclose(part.cells[t], image.cell.array * ANGSTROM)
        assert part.forces is not None
        np.testing.assert_allclose(part.forces[t] * ANGSTROM / ELECTRONVOLT, image.arrays["forces_of_it"], atol=1e-7)


def test_no_two_frames_need_to_be_alike(tmp_path: Path) -> None:
    frames = quiet(write(tmp_path / "a.xyz", [water(0), water(1, "CH4"), water(2, "CO2")]))
    assert len(frames.parts) == len(frames) == 3


def test_isolated_atoms_need_neither_forces_nor_open_boundaries(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xyz", [water(), water(1)])
    atom = Atoms("O", cell=[20.0] * 3, pbc=True, info={"config_type": "IsolatedAtom", "energy": -432.0})
    ase.io.write(path, atom, append=True, format="extxyz")
    frames = quiet(path)
    (oxygen,) = (part for part in frames.parts if part.n_atoms == 1)
    assert oxygen.cells is None
    assert oxygen.forces is not None
    assert not oxygen.forces.any()
    np.testing.assert_allclose(oxygen.energies, -432.0 * ELECTRONVOLT)


def springs(positions: np.ndarray, lengths: np.ndarray, k: float) -> tuple[float, np.ndarray]:
    """Energy and forces of springs between all atoms."""
    d = positions[:, None] - positions
    r = np.linalg.norm(d, axis=-1) + np.eye(len(positions))
    stretch = (r - lengths) * (1.0 - np.eye(len(positions)))
    return 0.25 * k * float(np.sum(stretch**2)), -k * np.sum((stretch / r)[..., None] * d, axis=1)


@pytest.mark.parametrize(
    ("force_unit", "energy_unit", "message"),
    [
        (1.0, 1.0, None),
        (23.06, 23.06, "stiffer"),
        (1.0, 0.0367, "same units"),
        (51.42, 27.21, "same units"),
        (1.0, -1.0, "gradients"),
    ],
)
def test_forces_in_wrong_units_are_noticed(
    tmp_path: Path, force_unit: float, energy_unit: float, message: str | None
) -> None:
    """A molecule of springs with 15 eV/Å²: plausible in eV, not if the numbers are of other units or mixed ones."""
    rng = np.random.default_rng(0)
    start = water(0, "CH4").positions
    lengths = np.linalg.norm(start[:, None] - start, axis=-1) + np.eye(len(start))
    images = []
    for _ in range(40):
        atoms = Atoms("CH4", positions=start + 0.03 * rng.normal(size=start.shape))
        atoms.rotate(rng.uniform(0, 360), rng.normal(size=3))
        energy, forces = springs(atoms.positions, lengths, 15.0)
        atoms.arrays["forces_of_it"] = forces * force_unit
        atoms.info["energy_of_it"] = energy * energy_unit
        images.append(atoms)
    said = said_of(write(tmp_path / "a.xyz", images))
    assert (message in said) if message else not said


def test_stresses_that_some_frames_of_the_same_atoms_lack_are_left_out_and_said(tmp_path: Path) -> None:
    images = [water(k, cell=8.0) for k in range(3)]
    for image in images[:2]:
        image.info["dft_stress"] = 1e-3 * np.eye(3)
    with pytest.warns(UserWarning, match="stresses of 2 frames are left out"):
        assert read(write(tmp_path / "a.xyz", images)).stresses is None
    whole = write(tmp_path / "b.xyz", images[:2])
    assert "left out" not in said_of(whole)
    assert quiet(whole).stresses is not None


@pytest.mark.parametrize(("force_unit", "message"), [(1.0, None), (23.06, "root mean square")])
def test_forces_in_wrong_units_are_noticed_where_no_frames_are_similar(
    tmp_path: Path, force_unit: float, message: str | None
) -> None:
    """Molecules of springs whose atoms are in a different order in every frame."""
    rng = np.random.default_rng(0)
    start = water(0, "CH4").positions
    lengths = np.linalg.norm(start[:, None] - start, axis=-1) + np.eye(len(start))
    images = []
    for order in range(5):
        atoms = Atoms("CH4", positions=start + 0.05 * rng.normal(size=start.shape))
        energy, forces = springs(atoms.positions, lengths, 15.0)
        atoms.arrays["forces_of_it"] = forces * force_unit
        atoms.info["energy_of_it"] = energy
        images.append(atoms[np.roll(np.arange(5), order)])
    said = said_of(write(tmp_path / "a.xyz", images))
    assert (message in said) if message else not said


def strained(tmp_path: Path, virial: bool) -> Path:
    """A crystal of argon atoms at five volumes by ASE's Lennard-Jones calculator, with stresses or virials."""
    images = []
    for scale in np.linspace(0.998, 1.002, 5):
        atoms = bulk("Ar", cubic=True, a=5.0 * scale)
        atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=4.9, smooth=True)
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)
        atoms.calc = None
        atoms.info |= {"dft_energy": energy, "dft_virial" if virial else "dft_stress": stress}
        if virial:
            atoms.info["dft_virial"] = -stress * atoms.get_volume()
        atoms.arrays["dft_forces"] = forces
        images.append(atoms)
    ase.io.write(tmp_path / "a.xyz", images, format="extxyz")
    return tmp_path / "a.xyz"


@pytest.mark.parametrize("virial", [False, True])
def test_stresses_are_derivatives_of_the_energy(tmp_path: Path, virial: bool) -> None:
    with pytest.warns(UserWarning, match="stress from 'dft_virial'" if virial else "stress from 'dft_stress'"):
        frames = read(strained(tmp_path, virial))
    assert isinstance(frames, Frames)
    assert frames.stresses is not None
    assert frames.cells is not None
    assert frames.energies is not None
    volumes = np.linalg.det(frames.cells)
    slope = np.gradient(frames.energies, volumes, edge_order=2)
    np.testing.assert_allclose(np.trace(frames.stresses, axis1=1, axis2=2)[1:-1] / 3, slope[1:-1], rtol=1e-3)
    pressure = summarise(frames).pressure
    assert pressure == pytest.approx(-np.trace(frames.stresses.mean(axis=0)) / 3 / 602.214, rel=1e-4)


def test_six_numbers_are_in_the_order_of_voigt_and_unclear_names_are_not_used(tmp_path: Path) -> None:
    atoms = Atoms("Ar", cell=[5.0] * 3, pbc=True, info={"stress": np.arange(6.0)})
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    stresses = quiet(tmp_path / "a.xyz").parts[0].stresses
    assert stresses is not None
    factor = ELECTRONVOLT / ANGSTROM**3
    np.testing.assert_allclose(stresses[0] / factor, [[0, 5, 4], [5, 1, 3], [4, 3, 2]])
    for names in (["virial_stress"], ["dft_stress", "xtb_stress"], ["stress_GPa"]):
        atoms.info = {name: np.arange(6.0) for name in names}
        ase.io.write(tmp_path / "b.xyz", atoms, format="extxyz")
        with pytest.warns(UserWarning, match=f"not used: {', '.join(names)}"):
            assert read(tmp_path / "b.xyz").parts[0].stresses is None


def test_stresses_of_another_name_sign_unit_and_order_are_read_as_their_keys_say(tmp_path: Path) -> None:
    """As VASP prints them: pressures in kbar, xx, yy, zz, xy, yz, zx."""
    atoms = Atoms("Ar", cell=[5.0] * 3, pbc=True, info={"virial_stress": np.arange(6.0)})
    atoms.arrays["forces"] = np.zeros((1, 3))
    ase.io.write(tmp_path / "a.xyz", atoms)
    keys = DataKeys(stress="virial_stress", stress_units="-kbar", stress_order="xx yy zz xy yz zx")
    stresses = quiet(tmp_path / "a.xyz", keys).parts[0].stresses
    assert stresses is not None
    np.testing.assert_allclose(stresses[0] / -60.2214076, [[0, 3, 5], [3, 1, 4], [5, 4, 2]], rtol=1e-6)
    for wrong in ("xx yy zz", "xx yy zz xy yz zz", "xx yy zz xy yz zy", "1 2 3 4 5 6"):
        with pytest.raises(DualityError, match="stress_order: expected the six components"):
            DataKeys(stress_order=wrong)
    with pytest.raises(DualityError, match="stress_units"):
        DataKeys(stress_units="psi")


def test_a_key_of_stresses_that_no_frame_has_and_a_unit_without_a_key_are_refused(tmp_path: Path) -> None:
    atoms = Atoms("Ar", cell=[5.0] * 3, pbc=True, info={"virial_stress": np.arange(6.0), "total": 1.0})
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    for name in ("nosuch", "total"):
        with pytest.raises(DualityError, match=f"numbers under the name '{name}'; the file holds total, virial_stress"):
            read(tmp_path / "a.xyz", keys=DataKeys(stress=name))
    with pytest.raises(DualityError, match="give stress_key too"):
        DataKeys(stress_units="-kbar")


def test_a_comment_in_words_is_no_data(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "he.xyz").write_text("1\none atom, as built\nHe 0.0 0.0 0.0\n")
    assert read(tmp_path / "he.xyz").species == ("He",)
    assert not recwarn


def test_a_frame_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    good, columns = "1\nProperties=species:S:1:pos:R:3\nH 0.0 0.0 0.0\n", "Properties=species:S:1:pos:R:3"
    for text, said in (
        (f"1\n{columns}\nD 0.0 0.0 0.0\n", "'D' is no chemical element"),
        (f"1\n{columns}\nH 0.0 0.0\n", "after 1 frames"),
        (f'1\n{columns} pbc="T T T"\nH 0.0 0.0 0.0\n', "frame 1, .* gives no lattice vector"),
    ):
        (tmp_path / "a.xyz").write_text(good + text)
        with pytest.raises(DualityError, match=said):
            read(tmp_path / "a.xyz", forces=False)


def test_states_of_the_electrons_that_differ_are_told(tmp_path: Path) -> None:
    for charges, differ in (((0, 1), True), ((1, 1), False), ((1, 1.0), False)):
        images = [Atoms("OH", positions=np.eye(3)[:2], info={"charge": charge}) for charge in charges]
        images.append(Atoms("OH2", positions=np.eye(3), info={"charge": 5}))
        ase.io.write(tmp_path / "a.xyz", images, format="extxyz")
        with pytest.warns(UserWarning, match="not used: charge") as said:
            read(tmp_path / "a.xyz")
        assert any("same atoms differ in charge" in str(w.message) for w in said) == differ
