"""A part of the catalogue of damaged input, and inputs with random bytes changed, by every verb of the command line.

`scripts/fuzz.py` runs all of it, with other seeds.
"""

from __future__ import annotations

import lzma
import random
import shutil

import pytest

from openmm_duality.files import open_text
from openmm_duality.schema import load_yaml
from tests.fuzz import catalogue
from tests.fuzz.harness import run_case
from tests.fuzz.imports import import_everything
from tests.fuzz.material import write_material
from tests.fuzz.noise import NOISE

GOOD = {
    "inspect": catalogue.INSPECT,
    "inspect, CP2K": ["inspect", "cp2k"],
    "inspect, DeePMD": ["inspect", "deepmd"],
    "infer": catalogue.INFER,
    "infer, configuration": catalogue.CONFIG,
    "evaluate": catalogue.EVALUATE,
    "simulate": catalogue.SIMULATE,
    "simulate, resumed": catalogue.RESUME,
    "export": catalogue.EXPORT,
    "compare": catalogue.COMPARE,
    **({"reference": catalogue.REFERENCE} if shutil.which("cp2k.psmp") else {}),
}
SEED = 1
QUICK = 160  # kinds of a test session, the same in all of them


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    import_everything()
    folder = tmp_path_factory.mktemp("material")
    write_material(folder)
    return folder


@pytest.mark.parametrize("name", GOOD)
def test_the_material_itself_is_accepted(material, name):
    outcome = run_case(lambda folder, rng: GOOD[name], material, SEED)
    assert (outcome.code, outcome.message.count("Traceback")) == (0, 0), outcome.message


def test_nonsense_is_refused_by_name(material):
    chosen = sorted(random.Random(SEED).sample(sorted(catalogue.KINDS), QUICK))
    faults = {}
    for name in chosen:
        outcome = run_case(catalogue.KINDS[name], material, SEED)
        if found := outcome.faults(refused=True):
            faults[name] = (found, outcome.message[-300:])
    assert not faults


def test_changed_bytes_end_in_no_traceback_signal_or_half_a_file(material):
    faults = {}
    for name, kind in NOISE.items():
        outcome = run_case(kind, material, SEED)
        if found := outcome.faults(refused=False):
            faults[name] = (found, outcome.message[-300:])
    assert not faults


@pytest.mark.parametrize("name", ["export", "compare", "infer"])
def test_a_disk_that_is_full_leaves_nothing_behind(material, name):
    """As the kernel has it: no file may grow beyond a size."""
    outcome = run_case(lambda folder, rng: GOOD[name], material, SEED, largest_file=9000)
    assert (outcome.code, outcome.changed) == (2, [])
    assert "cannot be written" in outcome.message


def test_aliases_of_a_configuration_still_work(tmp_path):
    (tmp_path / "c.yaml").write_text("a: &a {x: 1, y: [2, 3]}\nb: *a\nc: {<<: *a, x: 4}\n")
    assert load_yaml(tmp_path / "c.yaml")["c"] == {"x": 4, "y": [2, 3]}


def test_compressed_files_may_repeat_themselves(tmp_path):
    """Up to what no data expand to."""
    text = "".join(f"{k:10d} 0.0 0.0 0.0\n" for k in range(20_000))
    with lzma.open(tmp_path / "a.xz", "wt") as file:
        file.write(text)
    with open_text(tmp_path / "a.xz") as file:
        assert file.read() == text
    with open_text(tmp_path / "a.xz") as file:
        assert "".join(file) == text
