"""The model file: saving and loading are exact, and other files are refused."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from openmm_duality.container import read_container, write_container
from openmm_duality.errors import DualityError
from openmm_duality.losses import FORMS, AgentLosses, evaluate_agents
from openmm_duality.losses.cores import core_onsets, wall_onsets
from openmm_duality.losses.forms import check_gradient, form_of
from openmm_duality.reference import Frames
from tests.systems import CELL, RANKED, laws, random_frames, random_losses, random_positions, random_species

SPECIES = random_species(15)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    random_losses("moment").save(path)
    return path


@pytest.mark.parametrize(("form", "gradient"), laws([*FORMS, *RANKED]))
def test_a_loaded_model_has_the_same_forces_bit_by_bit(form, gradient, tmp_path):
    losses = replace(
        random_losses(form, gradient),
        bond_lengths={("Ar", "Kr"): 0.2},
        coordinations=frozenset([("Ar", (("Kr", 1), ("Xe", 2))), ("Xe", ())]),
        metadata={"data": [{"name": "Wasser, 5 % dünner", "frames": 3}], "errors": {"test": None}},
    )
    shortest = losses.shortest.copy()
    shortest[0, 2] = shortest[2, 0] = np.nan
    losses = replace(losses, shortest=shortest)
    losses.save(tmp_path / "m.safetensors")
    again = AgentLosses.load(tmp_path / "m.safetensors")
    assert (again.species, again.form, again.gradient) == (losses.species, losses.form, losses.gradient)
    assert again.bond_lengths == losses.bond_lengths
    assert again.coordinations == losses.coordinations
    assert again.metadata == losses.metadata
    assert again.cutoff == losses.cutoff
    np.testing.assert_array_equal(again.shortest, losses.shortest)
    positions = random_positions(15, CELL)
    one, other = (evaluate_agents(model, positions, SPECIES, CELL) for model in (losses, again))
    np.testing.assert_array_equal(one.forces, other.forces)
    np.testing.assert_array_equal(one.losses, other.losses)


def test_the_identity_of_a_model_is_what_it_computes(saved):
    losses = random_losses("moment")
    same = replace(losses, bond_lengths={("Ar", "Kr"): 0.2}, equations={"gram": np.eye(2)}, metadata={"name": "other"})
    assert AgentLosses.load(saved).sha256() == same.sha256() == losses.sha256()
    assert replace(losses, species=tuple(np.array(losses.species))).sha256() == losses.sha256()
    weights = {rank: w.copy() for rank, w in losses.weights.items()}
    weights[1][0, 1, 1] *= 1 + 1e-15
    changes = [
        {"species": ("Ar", "Kr", "Ne")},
        {"masses": 2 * losses.masses},
        {"form": form_of("moment", [0, 1, 3])},
        {"gradient": "agent"},
        {"pair_basis": replace(losses.pair_basis, grid=replace(losses.grid, cutoff=0.6))},
        {"basis": replace(losses.basis, coefficients=2 * losses.basis.coefficients)},
        {"pair_coefficients": 2 * losses.pair_coefficients},
        {"weights": weights},
        {"shortest": 1.1 * losses.shortest},
        {"core_strength": 1.1 * losses.core_strength},
        {"wall_strength": 1.1 * losses.wall_strength},
    ]
    assert len({losses.sha256(), *(replace(losses, **change).sha256() for change in changes)}) == 1 + len(changes)


def test_the_own_part_is_part_of_the_identity_of_a_model_and_belongs_to_one_gradient():
    losses = random_losses("moment", "mutual")
    own = replace(losses.own, pair_coefficients=2 * losses.own.pair_coefficients)
    hashes = {losses.sha256(), replace(losses, own=own).sha256(), replace(losses, own=None, gradient="agent").sha256()}
    assert len(hashes) == 3
    for wrong in ({"own": None}, {"gradient": "collective"}):
        with pytest.raises(ValueError, match="own part"):
            replace(losses, **wrong)


def test_channels_are_part_of_the_identity_of_a_model():
    losses = random_losses("channels")
    mine = losses.channels[1]
    mixing = {rank: w.copy() for rank, w in mine.mixing.items()}
    mixing[2][0, 0] *= 1 + 1e-15
    products, invariants = mine.products.copy(), mine.invariants[::-1].copy()
    products[[0, 1]] = products[[1, 0]]
    changed = [
        replace(mine, mixing=mixing),
        replace(mine, means=2 * mine.means),
        replace(mine, products=products),
        replace(mine, invariants=invariants),
    ]
    changes = [{"channels": (losses.channels[0], one, losses.channels[2])} for one in changed]
    changes.append({"channel_weights": (*losses.channel_weights[:2], 2 * losses.channel_weights[2])})
    assert len({losses.sha256(), *(replace(losses, **change).sha256() for change in changes)}) == 1 + len(changes)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_file_cut_short_is_refused(saved, part):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DualityError, match=r"model\.safetensors.*cut short"):
        AgentLosses.load(saved)


def test_other_files_are_refused(tmp_path, saved):
    text, plain, frames, pickled = (tmp_path / name for name in ("a.txt", "b.safetensors", "c.safetensors", "d.pkl"))
    text.write_text("no model")
    save_file({"x": np.zeros(3)}, plain)
    random_frames(1).save(frames)
    pickled.write_bytes(pickle.dumps(random_losses("pair")))
    for path in (text, plain, frames, pickled, tmp_path, tmp_path / "nothing"):
        with pytest.raises(DualityError, match="expected a file of the format 'openmm_duality losses 4'"):
            AgentLosses.load(path)
    with pytest.raises(DualityError, match="frames 1"):
        Frames.load(saved)


def test_a_model_from_before_there_were_walls_and_contacts_has_none(saved):
    arrays, header = read_container(saved, "openmm_duality losses 4")
    bare = replace(AgentLosses.load(saved), wall_strength=np.zeros((3, 3)))
    write_container(
        saved,
        "openmm_duality losses 3",
        {name: arrays[name] for name in set(arrays) - {"wall_strength", "contacts"}},
        header,
        overwrite=True,
    )
    assert (AgentLosses.load(saved).contacts == bare.shortest).all()
    assert not AgentLosses.load(saved).wall_strength.any()
    assert AgentLosses.load(saved).sha256() == bare.sha256()


def test_a_model_that_lacks_something_or_is_damaged_is_refused(saved):
    kind = "openmm_duality losses 4"
    arrays, header = read_container(saved, kind)
    for name in ("weights_0", "core_strength"):
        fewer = {key: value for key, value in arrays.items() if key != name}
        write_container(saved, kind, fewer, header, overwrite=True)
        with pytest.raises(DualityError, match=name):
            AgentLosses.load(saved)
    for change, message in (
        ({"form": "cubic"}, "cubic"),
        ({"gradient": "both"}, "both"),
        ({"species": 7}, "species: expected a list"),
        ({"bond_lengths": [["H"]]}, "bond_lengths: expected a list of 3"),
        ({"coordinations": [["H", 1]]}, "coordinations: expected numbers of neighbours"),
    ):
        write_container(saved, kind, arrays, {**header, **change}, overwrite=True)
        with pytest.raises(DualityError, match=message):
            AgentLosses.load(saved)


def test_a_model_file_holds_arrays_and_json_only(saved):
    content = saved.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert header.pop("__metadata__").keys() == {"format", "header"}
    assert {entry["dtype"] for entry in header.values()} == {"F64"}
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(content) - 8 - length


def test_opening_a_model_unpickles_and_compiles_nothing(saved):
    script = """
import sys
from openmm_duality.losses import AgentLosses
AgentLosses.load(sys.argv[1])
stopped = ("pickle.find_class", "compile", "exec", "subprocess.Popen", "os.system")
def watch(event, arguments):
    if event in stopped:
        raise SystemExit(event)
sys.addaudithook(watch)
AgentLosses.load(sys.argv[1])
"""
    subprocess.run([sys.executable, "-c", script, str(saved)], check=True)


def test_a_model_is_not_overwritten_unless_asked(saved):
    before = saved.read_bytes()
    with pytest.raises(DualityError, match="overwritten"):
        random_losses("pair").save(saved)
    assert saved.read_bytes() == before
    random_losses("pair").save(saved, overwrite=True)
    assert AgentLosses.load(saved).form.name == "pair"
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_wall_acts_below_its_onset_only_and_is_smooth_there():
    losses = random_losses("pair")
    bare = replace(losses, wall_strength=np.zeros((3, 3)))
    onset = wall_onsets(losses.shortest, losses.grid)[0, 1]
    assert losses.shortest[0, 1] - losses.grid.spacing < onset <= losses.shortest[0, 1]
    r = np.linspace(0.4 * onset, 1.2 * onset, 50)[None]
    (v, slope), (v_bare, slope_bare) = (
        model.pair_potentials.evaluate(r, np.zeros(1, dtype=int), 1) for model in (losses, bare)
    )
    x = np.maximum(1.0 - r[0] / onset, 0.0)
    scale = losses.wall_strength[0, 1]
    np.testing.assert_allclose((v - v_bare)[0, :, 0], scale * x**4, atol=1e-4 * scale)
    np.testing.assert_allclose((slope - slope_bare)[0, :, 0], -4.0 * scale / onset * x**3, atol=1e-3 * scale / onset)
    np.testing.assert_array_equal(v[0, r[0] >= onset], v_bare[0, r[0] >= onset])


def test_a_core_acts_below_its_onset_only_and_the_potential_is_smooth_there():
    losses = replace(random_losses("pair"), wall_strength=np.zeros((3, 3)))
    bare = replace(losses, core_strength=np.zeros((3, 3)))
    grid, onset = losses.grid, core_onsets(losses.shortest, losses.grid)[0, 1]
    assert onset < losses.shortest[0, 1]
    r = np.linspace(0.03, 0.2, 300)[None]
    species_index = np.zeros(1, dtype=int)
    (v, slope), (v_bare, slope_bare) = (model.pair_potentials.evaluate(r, species_index, 1) for model in (losses, bare))
    np.testing.assert_array_equal(v[0, r[0] >= onset], v_bare[0, r[0] >= onset])
    below = r[0] < onset - 2 * grid.spacing
    assert (slope[0, below] < slope_bare[0, below]).all()
    # without the core the slope decays below the onset and keeps its sign
    inner = slope_bare[0, r[0] < onset - grid.spacing, 0]
    assert (np.sign(inner) == np.sign(inner[-1])).all()
    assert (np.diff(np.abs(inner)) > 0.0).all()
    # f'' does not jump at the grid points around the onset
    for k in range(-3, 3):
        point = (grid.below(onset) + k) * grid.spacing
        sides = np.array([[point - 3e-6, point - 1e-6, point + 1e-6, point + 3e-6]])
        slopes = losses.pair_potentials.evaluate(sides, species_index, 1)[1][0, :, 0]
        left, right = (slopes[1] - slopes[0]) / 2e-6, (slopes[3] - slopes[2]) / 2e-6
        assert abs(left - right) < 1e-2 * max(abs(left), abs(right)) + 1.0


def test_unknown_forms_and_gradients_are_named():
    with pytest.raises(DualityError, match="pair, quadratic, moment"):
        form_of("cubic")
    for name, ranks, coupled, message in (
        ("quadratic", [0, 1], None, "moment, coupled, channels"),
        ("moment", [0, 4], None, "0 to 3"),
        ("moment", [1, 1], None, "increasing"),
        ("moment", [], None, "at least one"),
        ("moment", [0], [1], "belong to the form 'coupled'"),
        ("coupled", [0], [], "at least one"),
    ):
        with pytest.raises(DualityError, match=message):
            form_of(name, ranks, coupled)
    with pytest.raises(DualityError, match="'agent'"):
        check_gradient("both")
