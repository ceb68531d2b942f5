"""Folders of runs from elsewhere: damage is found before a resume, and nothing outside of the folder is touched."""

from __future__ import annotations

import hashlib
import json
import os
import random
import struct
from dataclasses import replace

import pytest
from openmm import app

from openmm_duality.dynamics.checkpoint import GrowingFile, measured, read_checkpoint
from openmm_duality.dynamics.integrators import LangevinLearningIntegrator
from openmm_duality.dynamics.integrity import Limits
from openmm_duality.dynamics.running import simulate
from openmm_duality.errors import DualityError
from openmm_duality.observables.runs import read_run
from openmm_duality.schema import to_plain
from tests.command import refused
from tests.dynamics.systems import water
from tests.observables import made

COUNTS = {*range(8, 12), *range(20, 24)}  # of a DCD file, which are derived anew


@pytest.fixture(scope="module")
def liquid():
    return water(1.0)


def run(liquid, directory, steps):
    return simulate(
        *liquid,
        LangevinLearningIntegrator(300.0, 5.0, 0.0005),
        directory,
        steps=steps,
        report_interval=5,
        checkpoint_interval=10,
        platform="Reference",
        seed=3,
        limits=Limits(bond_lengths={("H", "O"): 0.14}),
        save_velocities=True,
        progress=False,
    )


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", ["checkpoint.chk", "trajectory.dcd", "velocities.dcd", "log.csv"])
def test_one_flipped_bit_is_found_before_a_resume(liquid, tmp_path, name):
    run(liquid, tmp_path, 20)
    whole = (tmp_path / name).read_bytes()
    beginning = set(range(64)) - COUNTS if name.endswith(".dcd") else set(range(40))
    chance = random.Random(1)
    for at in [*beginning, *(chance.randrange(len(whole)) for _ in range(30)), *range(len(whole) - 40, len(whole))]:
        spoilt = bytearray(whole)
        spoilt[at] ^= 1 << chance.randrange(8)
        (tmp_path / name).write_bytes(spoilt)
        before = contents(tmp_path)
        with pytest.raises(DualityError, match=f"{name} (is damaged|is not a checkpoint)"):
            run(liquid, tmp_path, 40)
        assert contents(tmp_path) == before
    (tmp_path / name).write_bytes(whole)
    assert run(liquid, tmp_path, 40).resumed_from == 20


def test_the_counts_in_the_header_of_a_trajectory_are_derived_anew(liquid, tmp_path):
    run(liquid, tmp_path, 20)
    path = tmp_path / "trajectory.dcd"
    whole = path.read_bytes()
    for at in COUNTS:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        run(liquid, tmp_path, 20)  # complete: nothing is read
        assert path.read_bytes() != whole
    run(liquid, tmp_path, 25)
    assert path.read_bytes()[24 : len(whole)] == whole[24:]
    assert path.read_bytes()[8:12] == (5).to_bytes(4, "little")


def test_checksums_grow_with_their_files(tmp_path):
    for name in ("log.csv", "t.dcd"):
        path, found = tmp_path / name, GrowingFile(0, 0)
        for size in (0, 200, 1, 3000):
            with open(path, "ab") as file:
                file.write(random.Random(size).randbytes(size))
            found = measured(path, found)
            assert found == measured(path)


def forge(path, trailer):
    """Replace the trailer of a checkpoint, with a right hash."""
    magic = path.read_bytes()[-16:]
    text = json.dumps(trailer).encode()
    content = read_checkpoint(path).state + text + struct.pack("<Q", len(text))
    path.write_bytes(content + hashlib.sha256(content).digest() + magic)


@pytest.mark.parametrize("name", ["../victim", "{absolute}", "..", "run.json", "sub/trajectory.dcd", ""])
def test_a_checkpoint_that_names_other_files_touches_none(liquid, tmp_path, name):
    victim, directory = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    run(liquid, directory, 20)
    path = directory / "checkpoint.chk"
    data, honest = path.read_bytes(), to_plain(read_checkpoint(path))
    for size in (0, 3):
        path.write_bytes(data)
        foreign = {name.format(absolute=victim): {"size": size, "checksum": 0}}
        forge(path, {**honest, "files": honest["files"] | foreign})
        before = contents(directory)
        with pytest.raises(DualityError, match=r"which no run writes|expected a name"):
            run(liquid, directory, 40)
        assert victim.read_text() == "precious"
        assert contents(directory) == before


@pytest.mark.parametrize(
    "trailer",
    [
        {},
        [],
        {"step": -1, "files": {}, "seconds": 0},
        {"step": 0, "files": 3, "seconds": 0},
        {"step": 0, "files": {"log.csv": {"size": -1, "checksum": 0}}, "seconds": 0},
        {"step": 0, "files": {}, "seconds": float("nan")},
        {"step": 0, "files": {}, "seconds": 0, "state": ""},
        {"step": 0, "files": {}, "seconds": 0, "list_bytes": -1},
        {"step": 0, "files": {}, "seconds": 0, "list_bytes": 240},
        {"step": 0, "files": {}, "seconds": 0, "list_bytes": 10**12},
    ],
)
def test_a_checkpoint_with_another_trailer_is_refused(liquid, tmp_path, trailer):
    run(liquid, tmp_path, 20)
    path = tmp_path / "checkpoint.chk"
    forge(path, trailer)
    with pytest.raises(DualityError, match=r"checkpoint\.chk"):
        run(liquid, tmp_path, 40)


@pytest.mark.parametrize("link", ["symbolic", "hard"])
@pytest.mark.parametrize(
    "name", [".lock", "log.csv", "trajectory.dcd", "run.json", "checkpoint.chk", "alarms.csv", "final.pdb"]
)
def test_links_in_a_folder_are_refused_and_not_followed(liquid, tmp_path, name, link):
    directory = tmp_path / "run"
    run(liquid, directory, 20)
    victim = tmp_path / "victim"
    victim.write_bytes((directory / name).read_bytes() if (directory / name).exists() else b"precious")
    before = victim.read_bytes()
    (directory / name).unlink(missing_ok=True)
    (directory / name).symlink_to(victim) if link == "symbolic" else os.link(victim, directory / name)
    with pytest.raises(DualityError, match=f"{name} is a link"):
        run(liquid, directory, 40)
    assert victim.read_bytes() == before


@pytest.mark.parametrize("name", ["report", "report/recomputed", "report/recomputed/run", "report/recomputed/run/cp2k"])
def test_a_report_is_not_written_through_links_in_the_folder_of_a_run(tmp_path, name):
    source = made.water(6, 3)
    source.save(tmp_path / "data.safetensors")
    directory, victim = made.write_run(tmp_path / "run", source), tmp_path / "victim"
    victim.mkdir()
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).symlink_to(victim)
    for overwrite in ([], ["--overwrite"]):
        assert f"{name} is a link" in refused("compare", directory, tmp_path / "data.safetensors", *overwrite)
    (directory / name).rename(tmp_path / "chosen")  # a link that the user names is followed: the data are read next
    assert "nothing.xyz" in refused("compare", directory, tmp_path / "nothing.xyz", "-o", tmp_path / "chosen")
    assert not list(victim.iterdir())


def test_what_is_no_file_is_refused(liquid, tmp_path):
    run(liquid, tmp_path, 20)
    (tmp_path / "log.csv").unlink()
    os.mkfifo(tmp_path / "log.csv")
    with pytest.raises(DualityError, match=r"log\.csv is neither a file nor a folder"):
        run(liquid, tmp_path, 40)


@pytest.mark.parametrize("name", ["X/../../../pwned", "..", ".", "", "a b", "O\n", "x" * 33, "<b>", "a,b", 7, None])
def test_species_whose_names_are_paths_are_refused(tmp_path, name):
    source = made.water(6, 0)
    species = [name, *source.species[1:]]
    directory = made.write_run(tmp_path / "run", source, species=species)
    with pytest.raises(DualityError, match="cannot name a species"):
        read_run(directory)
    with pytest.raises(DualityError, match="cannot name a species"):
        replace(source, species=tuple(species))


def test_the_topology_of_a_run_may_hold_names_of_its_own(tmp_path):
    source = made.water(6, 0)
    species = tuple({"O": "O_w", "H": "H-w+1'*"}[name] for name in source.species)
    masses = {"O_w": [15.999], "H-w+1'*": [1.008]}
    directory = made.write_run(tmp_path / "run", source, species=list(species), masses=masses)
    assert read_run(directory).trajectory.species == species
    assert app.PDBFile(str(directory / "topology.pdb")).topology.getNumAtoms() == len(species)
