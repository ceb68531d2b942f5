"""Results of other programs and files of ASE, read as any other data."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.db import connect
from ase.io import write
from click.testing import CliRunner

from openmm_duality.cli import main
from openmm_duality.errors import DualityError
from openmm_duality.reference import DataKeys, MixedFrames, read
from openmm_duality.reference.ase_files import ase_format
from openmm_duality.units import ANGSTROM, ELECTRONVOLT, GIGAPASCAL

BASIS = '<crystal><varray name="basis"><v>0 2.7 2.7</v><v>2.7 0 2.7</v><v>2.7 2.7 0</v></varray></crystal>'
CALCULATION = """<calculation>
 <scstep><energy><i name="e_fr_energy">{free}</i><i name="e_0_energy">{zero}</i></energy></scstep>
 <structure>{basis}<varray name="positions"><v>0 0 0</v><v>{x} 0.25 0.25</v></varray></structure>
 <varray name="forces"><v>{f} 0.2 0.3</v><v>-{f} -0.2 -0.3</v></varray>
 <varray name="stress"><v>10 1 2</v><v>1 20 3</v><v>2 3 30</v></varray>
 <energy><i name="e_fr_energy">{free}</i><i name="e_0_energy">{zero}</i></energy>
</calculation>
"""
HEAD = f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
<kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>
<parameters></parameters>
<atominfo><array name="atoms"><set><rc><c>Si</c><c>1</c></rc><rc><c>Si</c><c>1</c></rc></set></array></atominfo>
<structure name="initialpos">{BASIS}<varray name="positions"><v>0 0 0</v><v>0.25 0.25 0.25</v></varray></structure>
"""


@pytest.fixture
def vasprun(tmp_path):
    """The head of a vasprun.xml and two steps."""
    path = tmp_path / "vasprun.xml"
    steps = [CALCULATION.format(basis=BASIS, free=-10.81 - k, zero=-10.8 - k, x=0.26 + k / 100, f=0.1) for k in (0, 1)]
    path.write_text(HEAD + "".join(steps) + "</modeling>\n")
    return path


def test_results_of_vasp_have_its_forces_free_energies_and_stresses(vasprun):
    frames = read(vasprun)
    assert frames.species == ("Si", "Si")
    np.testing.assert_allclose(frames.cells[0], 0.27 * (1.0 - np.eye(3)))
    np.testing.assert_allclose(frames.positions[1, 1], [0.27 * 0.5, 0.27 * 0.52, 0.27 * 0.52])
    np.testing.assert_allclose(frames.forces[0, 0], np.array([0.1, 0.2, 0.3]) * ELECTRONVOLT / ANGSTROM, rtol=1e-5)
    # of the energies in the file the forces are the derivative of the free one
    np.testing.assert_allclose(frames.energies, np.array([-10.81, -11.81]) * ELECTRONVOLT, rtol=1e-5)
    pressures = -0.1 * GIGAPASCAL * np.array([[10.0, 1.0, 2.0], [1.0, 20.0, 3.0], [2.0, 3.0, 30.0]])  # printed in kbar
    np.testing.assert_allclose(frames.stresses[0], pressures, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:a.traj. forces from 'forces'")  # and the energies of atoms are not used
@pytest.mark.parametrize("name", ["a.traj", "a.db"])
def test_files_of_ase_may_hold_several_compositions(tmp_path, name):
    images = []
    for k in range(4):
        atoms = bulk("Cu", cubic=True) if k % 2 else molecule("C2H6")
        atoms.rattle(0.05, seed=k)
        atoms.calc = EMT()
        atoms.get_forces()
        images.append(atoms)
    path = tmp_path / name
    if name.endswith(".db"):
        with connect(path) as database:
            for atoms in images:
                database.write(atoms)
    else:
        write(path, images)
    frames = read(path)
    assert isinstance(frames, MixedFrames)
    assert sorted(len(part.species) for part in frames.parts) == [4, 8]
    for k, atoms in enumerate(images):
        one = frames[[k]].parts[0]
        np.testing.assert_allclose(one.positions[0], atoms.positions * ANGSTROM)
        np.testing.assert_allclose(one.forces[0], atoms.get_forces() * ELECTRONVOLT / ANGSTROM, rtol=1e-5, atol=1e-9)
        assert one.energies[0] == pytest.approx(atoms.get_potential_energy() * ELECTRONVOLT, rel=1e-5)
        assert (one.cells is not None) == bool(atoms.pbc.all())


def test_a_file_that_is_cut_off_or_is_of_no_program_is_named(vasprun, tmp_path):
    whole = vasprun.read_text()
    vasprun.write_text(whole[: whole.index("<atominfo>")])
    with pytest.raises(DualityError, match=r"vasprun\.xml"):
        read(vasprun)
    other = tmp_path / "notes.xml"
    other.write_text("<a></a>")
    assert ase_format(other) is None
    assert ase_format(tmp_path) is None


def test_a_result_is_inspected(vasprun):
    result = CliRunner().invoke(main, ["inspect", str(vasprun)])
    assert result.exit_code == 0, result.output
    assert "2 Si" in result.output


DUMP = """ITEM: TIMESTEP
{step}
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS xy xz yz pp pp pp
0 8 1
0 7 0
0 6 0
ITEM: ATOMS id {kind} x y z fx fy fz
2 {second} 1 2 3 {force} 0 0
1 {first} 0 0 0 -{force} 0 0
"""


def test_a_dump_of_lammps_is_read_in_the_order_of_its_numbers_and_without_an_energy(tmp_path):
    path = tmp_path / "md.dump"
    path.write_text("".join(DUMP.format(step=k, kind="element", first="Cl", second="Na", force=k + 1) for k in (0, 1)))
    frames = read(path)
    assert frames.species == ("Cl", "Na")
    np.testing.assert_allclose(frames.positions[0, 1], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(frames.cells[1], [[0.7, 0, 0], [0.1, 0.7, 0], [0, 0, 0.6]])
    np.testing.assert_allclose(frames.forces[:, 1, 0], np.array([1.0, 2.0]) * ELECTRONVOLT / ANGSTROM)
    assert frames.energies is None  # which ASE gives as zero
    path.write_text(DUMP.format(step=0, kind="type", first=1, second=2, force=1))
    with pytest.raises(DualityError, match="types of atoms and no elements"):
        read(path)
    path.write_bytes(b"ITEM: TIMESTEP\n0\n\xff\n")
    with pytest.raises(DualityError, match=r"md\.dump: cannot be read as a dump"):
        read(path)
    path.write_text(DUMP.format(step=0, kind="element", first="Owat", second="Na", force=1))
    with pytest.raises(DualityError, match="'Owat' is no chemical element"):
        read(path)


def test_a_dump_of_lammps_may_name_its_units_and_is_read_where_it_is_compressed(tmp_path):
    content = DUMP.format(step=0, kind="element", first="Cl", second="Na", force=1)
    bare, named, packed = tmp_path / "a.dump", tmp_path / "b.dump", tmp_path / "c.dump.gz"
    bare.write_text(content)
    named.write_text("ITEM: UNITS\nreal\n" + content)
    packed.write_bytes(gzip.compress(content.encode()))
    kcal = 4.184 / ANGSTROM
    assert read(named).forces[0, 1, 0] == pytest.approx(kcal, rel=1e-4)
    assert read(bare, keys=DataKeys(units="kcal/mol")).forces[0, 1, 0] == pytest.approx(kcal, rel=1e-4)
    assert read(packed).forces[0, 1, 0] == pytest.approx(ELECTRONVOLT / ANGSTROM)
    with pytest.raises(DualityError, match="says that its units are 'real'"):
        read(named, keys=DataKeys(units="kcal/mol"))
    named.write_text("ITEM: UNITS\nlj\n" + content)
    with pytest.raises(DualityError, match="has units 'lj'"):
        read(named)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DualityError, match=r"c\.dump\.gz"):
        read(packed)


def test_a_crystal_whose_sites_are_occupied_in_part_is_refused(tmp_path):
    crystal = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    write(tmp_path / "a.cif", crystal)
    text = (tmp_path / "a.cif").read_text()
    (tmp_path / "a.cif").write_text(text.replace("1.0000", "0.5000", 1))
    with pytest.raises(DualityError, match="occupied in part"):
        read(tmp_path / "a.cif")


@pytest.mark.parametrize("name", ["POSCAR", "a.cif", "a.gen", "a.xsf", "geometry.in"])
def test_files_of_structures_are_frames_without_forces(tmp_path, name):
    crystal = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    write(tmp_path / name, crystal)
    frames = read(tmp_path / name, forces=False)
    assert frames.forces is None
    np.testing.assert_allclose(frames.cells[0], 0.56 * np.eye(3), atol=1e-6)
    assert sorted(frames.species) == 4 * ["Cl"] + 4 * ["Na"]
