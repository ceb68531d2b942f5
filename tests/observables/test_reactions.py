"""Molecules that change: species, hops and lifetimes of trajectories whose reactions are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.observables.comparison import compare
from openmm_duality.observables.decisions import judge
from openmm_duality.observables.differences import MeanDifference
from openmm_duality.observables.findings import Observable, Outcome
from openmm_duality.observables.reaction_comparison import Followed, compare_reactions
from openmm_duality.observables.reactions import follow_bonds
from openmm_duality.observables.statistics import Reason
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.reference.molecules import bond_lengths, terminal_species
from tests.command import call, refused
from tests.observables.made import EDGE, frames, water

LENGTHS, TERMINAL = {("H", "O"): 0.125}, frozenset("H")
SPACING = 0.04  # ps


def proton(there, seed=0, n_molecules=6, spacing=SPACING):
    """Waters, and two more that share an excess proton, which is at the second one where `there` is true."""
    rng, count = np.random.default_rng(seed), len(there)
    others = water(count, seed, n_molecules=n_molecules)
    # two oxygens 0.25 nm apart in a corner of a cell that is larger by half
    oxygens = np.array([[1.6, 1.6, 1.6], [1.85, 1.6, 1.6]])
    hydrogens = oxygens[:, None] + 0.1 * np.array([[[-0.5, 0.8, 0], [-0.5, -0.8, 0]], [[0.5, 0.8, 0], [0.5, -0.8, 0]]])
    pair = np.concatenate([np.concatenate([o[None], h]) for o, h in zip(oxygens, hydrogens, strict=True)])
    moving = oxygens[0] + np.where(there, 0.15, 0.1)[:, None] * [1.0, 0, 0]
    positions = np.concatenate([others.positions, np.tile(pair, (count, 1, 1)), moving[:, None]], axis=1)
    positions = positions + rng.normal(0, 5e-4, positions.shape)
    species = (*others.species, "O", "H", "H", "O", "H", "H", "H")
    return frames(species, positions, 1.6 * EDGE * np.eye(3), spacing)


def telegraph(count, rate, seed):
    """A proton that hops with a rate per ps."""
    hops = np.random.default_rng(seed).random(count) < rate * SPACING
    return np.cumsum(hops) % 2 == 1


def followed(source, spacing=None):
    trajectory = Trajectory.from_frames(source)
    return Followed(trajectory, follow_bonds(trajectory, LENGTHS, TERMINAL, progress=False))


def test_hops_species_and_what_lasts():
    there = np.repeat([False, True, False], [5, 3, 4])
    found = followed(proton(there)).reactions
    assert found.occurred
    assert {name: set(values) for name, values in found.populations.items()} == {"H2O": {7.0}, "H3O": {1.0}}
    assert np.flatnonzero(found.hops["H"]).tolist() == [5, 8]
    for name in ("H2O", "H3O"):  # one of each ends at every hop
        assert np.flatnonzero(found.ends[name]).tolist() == [5, 8]
        assert found.ends[name].sum() == 2
    # the molecules of the first frame are there again in the last one, but have not lasted
    assert np.flatnonzero(~found.lasting).tolist() == list(range(18, 25))
    assert found.at(4) is found.at(0)
    changed = found.at(5).pairs.tolist()
    assert [18, 24] in found.at(0).pairs.tolist()
    assert [18, 24] not in changed
    assert [21, 24] in changed
    assert found.names(()) == (["H-O"], ["H-O-H"])


def test_nothing_happens_in_water():
    found = followed(water(6, 3))
    assert not found.reactions.occurred
    assert found.reactions.lasting.all()
    assert not found.reactions.ends
    assert found.lifetime("H2O") is None
    nothing = compare_reactions(found, found, lambda trajectory: found.reactions, 1.5)
    assert (nothing.population, nothing.hops, nothing.lifetime, nothing.notes) == ({}, {}, {}, ())


def test_an_atom_that_leaves_and_comes_back_has_not_hopped():
    source = water(6, 1, n_molecules=4)
    source.positions[2:4, 1] += [0.0, 0.0, 0.3]
    found = followed(source).reactions
    assert not any(values.any() for values in found.hops.values())
    assert found.populations["HO"].tolist() == [0, 0, 1, 1, 0, 0]
    assert found.populations["H"].tolist() == [0, 0, 1, 1, 0, 0]


def test_terminal_species_come_from_the_data():
    source = proton(telegraph(40, 5.0, 1))
    lengths = bond_lengths(source)
    assert terminal_species(source, lengths) == {"H"}
    bridged = np.array([[0.0, 0, 0], [0.12, 0, 0], [0.24, 0, 0]])  # F–H–F
    positions = np.tile(bridged, (20, 1, 1))
    assert "H" not in terminal_species(frames(("Ar", "H", "Ar"), positions, None), {("Ar", "H"): 0.13})


def test_rates_and_lifetimes_are_those_of_the_process_and_scale_with_the_size():
    rate = 4.0
    found = followed(proton(telegraph(900, rate, 2), n_molecules=1))
    lifetime = found.lifetime("H3O")
    assert lifetime is not None
    assert lifetime.mean == pytest.approx(1 / rate, abs=3 * lifetime.error)
    assert 0.05 / rate < lifetime.error < 0.2 / rate  # 140 hops
    assert found.hops("H").values.mean() == pytest.approx(rate, rel=0.3)
    twice = Followed(found.trajectory, found.reactions, 2.0)
    assert twice.hops("H").values.mean() == pytest.approx(2 * found.hops("H").values.mean())
    assert twice.lifetime("H3O").mean == lifetime.mean
    assert found.hop_count("H").mean[-1] == found.reactions.hops["H"].sum()


def test_events_are_counted_in_frames_equally_far_apart():
    there = telegraph(120, 4.0, 3)
    fine, coarse = followed(proton(there, n_molecules=1)), followed(proton(there, n_molecules=1)[::2])

    def follow(trajectory):
        return follow_bonds(trajectory, LENGTHS, TERMINAL, progress=False)

    both = compare_reactions(fine, coarse, follow, 1.5)
    assert both.spacing == pytest.approx(2 * SPACING)
    assert both.hops["H"].mean.difference == 0.0
    assert not both.notes
    uneven = compare_reactions(fine, followed(proton(there, n_molecules=1, spacing=1.3 * SPACING)), follow, 1.5)
    assert [note.remark.value for note in uneven.notes] == ["hops_coarse"]


OWN = '''
import numpy as np

def shared_distance(frames):
    """Distance of the last atom from the first oxygen of its pair, in nm."""
    return np.linalg.norm(frames.positions[:, -1] - frames.positions[:, -7], axis=1)

shared_distance.unit = "nm"

def wrong(frames):
    return frames.positions[:, 0]

def _helper():
    pass
'''


def test_another_rate_is_a_difference_and_the_same_is_none():
    fast, slow, same = (
        followed(proton(telegraph(250, rate, seed), seed, n_molecules=1))
        for rate, seed in ((4.0, 4), (0.1, 5), (4.0, 6))
    )
    differs, alike = (compare_reactions(run, fast, lambda trajectory: fast.reactions, 1.5) for run in (slow, same))
    assert differs.hops["H"].mean.p_value < 0.03
    assert alike.hops["H"].mean.p_value > 0.03
    assert differs.lifetime["H3O"].run.mean > 3 * differs.lifetime["H3O"].reference.mean


def test_what_never_changes_is_the_same_or_not():
    source = proton(telegraph(40, 4.0, 4), 4, n_molecules=1)

    def protons(frames):
        return np.full(len(frames), float(frames.species.count("H")))

    found = compare(source, source, observables=[protons], progress=False)
    for observable, name in ((Observable.POPULATION, "H3O"), (Observable.OWN, "protons")):
        finding = found.finding(observable, name)
        assert (finding.outcome, finding.difference) == (Outcome.REPORTED, 0.0)
    moved = replace(
        found, own={"protons": replace(found.own["protons"], mean=MeanDifference(1.0, None, None, Reason.CONSTANT))}
    )
    assert judge(moved).failed(Observable.OWN, "protons")


def test_own_observables_on_the_command_line(tmp_path, monkeypatch):
    source = proton(telegraph(40, 3.0, 7), 7, n_molecules=1)
    source.save(tmp_path / "a.safetensors")
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    both = ("compare", "a.safetensors", "a.safetensors")
    text = call(*both, "--observable", "own.py:shared_distance")
    assert "too short" in text.lower()
    plain = json.loads((tmp_path / "a-report" / "compare.json").read_text())
    own = plain["own_observables"]["shared distance (nm)"]
    expected = np.linalg.norm(source.positions[:, -1] - source.positions[:, -7], axis=1).mean()
    assert own["run"]["mean"]["mean"] == pytest.approx(expected, abs=1e-6)
    assert own["difference"] == 0.0
    assert list((tmp_path / "a-report").glob("own-1.svg"))
    assert plain["reactions"]["populations"]["H3O"]["run"]["mean"]["mean"] == 1.0
    assert any("temperature" in note for note in plain["notes"])
    page = (tmp_path / "a-report" / "report.html").read_text()
    for words in ("<h2>Reactions</h2>", "Hops of H", "H₃O", "<h2>Own observables</h2>", "shared distance (nm)"):
        assert words in page
    assert "<h2>Integrity</h2>" not in page
    for name, words in (
        ("own:wrong", "one number for each"),
        ("own.py", "one number for each"),
        ("own:none", "has no 'none'"),
        ("none.py", "no file none.py"),
        ("own", "expected module:function"),
        ("no_such_module:f", "cannot be imported"),
    ):
        assert words in refused(*both, "--observable", name, "-o", "other")
