"""The stated catalogue: kinds of damaged or nonsensical input, each of which must be refused by name.

A kind damages files in a folder of good ones (see `material`), at random places, and gives the command to run there.
"""

from __future__ import annotations

import gzip
import json
import lzma
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from openmm_duality.container import write_container
from openmm_duality.losses.model import _KIND as MODEL
from openmm_duality.reference.frames import FORMAT as FRAMES
from tests.fuzz.harness import Kind

KINDS: dict[str, Kind] = {}

INSPECT = ["inspect", "frames.xyz"]
INFER = ["infer", "--data", "frames.safetensors", "--form", "pair", "--cutoff", "0.4", "-o", "new.safetensors"]
EVALUATE = ["evaluate", "model.safetensors", "frames.safetensors"]
SIMULATE = [
    *("simulate", "model.safetensors", "--start", "start.pdb", "-o", "new", "--timestep", "1 fs"),
    *("--platform", "Reference", "--monitor", "off", "--seed", "3", "--time", "4 fs", "--report", "2 fs"),
]
EXPORT = ["export", "model.safetensors", "--start", "start.xyz", "-o", "new"]
COMPARE = ["compare", "run", "trajectory.safetensors", "-o", "new"]
RESUME = [
    *("simulate", "model.safetensors", "--start", "start.safetensors", "-o", "run", "--timestep", "1 fs"),
    *("--integrator", "langevin", "--platform", "Reference", "--monitor", "off", "--seed", "3", "--time", "40 fs"),
    *("--report", "2 fs"),
]
REFERENCE = ["reference", "campaign.yaml", "-o", "campaign"]


def kind(name: str, damage: Callable[[Path, random.Random], object], command: list[str]) -> None:
    """Add a kind: what it does to the folder, and the command behind that."""
    assert name not in KINDS

    def case(folder: Path, rng: random.Random) -> list[str]:
        damage(folder, rng)
        return list(command)

    KINDS[name] = case


# --- text ------------------------------------------------------------------------------------------------------------


def field(path: str, column: int, value: str, row: int | None = None) -> Callable[[Path, random.Random], object]:
    """Replace a field of a row of atoms of an XYZ file."""

    def damage(folder: Path, rng: random.Random) -> None:
        lines = (folder / path).read_text().split("\n")
        count = int(lines[0])
        frames = len(lines) // (count + 2)
        at = rng.randrange(frames) * (count + 2) + 2 + (rng.randrange(count) if row is None else row)
        words = lines[at].split()
        words[column] = value
        lines[at] = " ".join(words)
        (folder / path).write_text("\n".join(lines))

    return damage


def replaced(path: str, old: str, new: str) -> Callable[[Path, random.Random], object]:
    """Replace a text that the file must hold."""

    def damage(folder: Path, rng: random.Random) -> None:
        text = (folder / path).read_text()
        assert old in text, (path, old)
        (folder / path).write_text(text.replace(old, new))

    return damage


def written(path: str, content: bytes | str) -> Callable[[Path, random.Random], object]:
    """Write another content."""
    return lambda folder, rng: (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)


def lattice(value: str) -> Callable[[Path, random.Random], object]:
    """Another cell in every frame of frames.xyz and start.xyz."""

    def damage(folder: Path, rng: random.Random) -> None:
        for name in ("frames.xyz", "start.xyz"):
            lines = (folder / name).read_text().split("\n")
            changed = [f'Lattice="{value}"' + x[x.index('" Prop') + 1 :] if x[:7] == "Lattice" else x for x in lines]
            (folder / name).write_text("\n".join(changed))

    return damage


COORDINATES = {
    "nan": "nan",
    "infinite": "inf",
    "of 1e12": "1e12",
    "of 1e300": "1e300",
    "a word": "here",
    "of -1e7": "-1e7",
}
for name, value in COORDINATES.items():
    kind(f"xyz: a coordinate {name}", field("frames.xyz", 2, value), INSPECT)
    kind(f"xyz start: a coordinate {name}", field("start.xyz", 1, value), EXPORT)
for name, value in {"nan": "nan", "infinite": "-inf", "of 1e30": "1e30", "of 1e300": "1e300", "a word": "x"}.items():
    kind(f"xyz: a force {name}", field("frames.xyz", 5, value), INSPECT)
kind("xyz: an unknown element", field("frames.xyz", 0, "Qq"), INSPECT)
kind("xyz: a path for an element", field("frames.xyz", 0, "X/../../../pwned"), INSPECT)
LATTICES = {
    "flat": "13 0 0 0 12.5 0 13 12.5 0",
    "zero": "0 0 0 0 0 0 0 0 0",
    "nearly flat": "13 0 0 0 12.5 0 13 12.5 1e-9",
    "of 1e200": "1e200 0 0 0 1e200 0 0 0 1e200",
    "of 1e-200": "1e-200 0 0 0 1e-200 0 0 0 1e-200",
    "of 1e9": "1e9 0 0 0 1e9 0 0 0 1e9",
    "of 1e-6": "1e-6 0 0 0 1e-6 0 0 0 1e-6",
    "too small for its atoms": "1.3 0 0 0 1.25 0 0 0 1.4",
    "nan": "nan 0 0 0 12 0 0 0 12",
    "infinite": "inf 0 0 0 12 0 0 0 12",
    "of four numbers": "1 2 3 4",
    "of words": "a b c d e f g h i",
}
for name, value in LATTICES.items():
    kind(f"xyz: a cell {name}", lattice(value), INSPECT)
    kind(f"xyz start: a cell {name}", lattice(value), EXPORT)
for name, value in {
    "negative": "-3",
    "0": "0",
    "10 million": "10000000",
    "1e30": f"{10**30}",
    "a word": "many",
}.items():
    kind(f"xyz: {name} atoms", replaced("frames.xyz", "12\nLat", f"{value}\nLat"), INSPECT)
kind("xyz: columns that are not there", replaced("frames.xyz", "forces:R:3", "forces:R:3:more:R:9"), INSPECT)
kind("xyz: a column of 10 million", replaced("frames.xyz", "forces:R:3", "forces:R:10000000"), INSPECT)
kind("xyz: energies nan", replaced("frames.xyz", "energy=", "energy=nan other="), INSPECT)
kind("xyz: an energy of 1e300", replaced("frames.xyz", "energy=", "energy=1e300 other="), INSPECT)
kind("xyz: empty", written("frames.xyz", ""), INSPECT)
kind("xyz: noise", lambda f, rng: (f / "frames.xyz").write_bytes(rng.randbytes(4000)), INSPECT)
kind("xyz: zeros", written("frames.xyz", bytes(100_000)), INSPECT)


def cut(path: str) -> Callable[[Path, random.Random], object]:
    """Cut a file somewhere in its second half, not at a line end."""

    def damage(folder: Path, rng: random.Random) -> None:
        data = (folder / path).read_bytes()
        at = rng.randrange(len(data) // 2, len(data) - 40)
        (folder / path).write_bytes(data[: at - (data[at - 1 : at] == b"\n")])

    return damage


kind("xyz: cut short", cut("frames.xyz"), INSPECT)
BOMB = b"12\n" + b" " * 1_000_000
for suffix, compress in {"gz": gzip.compress, "xz": lzma.compress}.items():
    packed = compress(BOMB) * (20_000 if suffix == "gz" else 8_000)
    kind(f"xyz: a bomb of 10 GB in {suffix}", written(f"b.xyz.{suffix}", packed), ["inspect", f"b.xyz.{suffix}"])
    kind(f"xyz: {suffix} cut short", written(f"b.xyz.{suffix}", compress(BOMB)[:-9]), ["inspect", f"b.xyz.{suffix}"])
    kind(f"xyz: no {suffix} at all", written(f"b.xyz.{suffix}", b"12\n"), ["inspect", f"b.xyz.{suffix}"])
    for file in ("w.inp", "w-pos-1.xyz", "w-1.ener"):

        def bomb(
            folder: Path, rng: random.Random, file: str = file, suffix: str = suffix, data: bytes = packed
        ) -> None:
            (folder / "cp2k" / file).unlink()
            (folder / "cp2k" / f"{file}.{suffix}").write_bytes(data)

        kind(f"CP2K: {file} is a bomb of 10 GB in {suffix}", bomb, ["inspect", "cp2k"])

# --- CP2K ------------------------------------------------------------------------------------------------------------

for name, value in COORDINATES.items():
    kind(f"CP2K: a coordinate {name}", field("cp2k/w-pos-1.xyz", 2, value), ["inspect", "cp2k"])
for name, value in {"nan": "nan", "of 1e30": "1e30", "a word": "x"}.items():
    kind(f"CP2K: a force {name}", field("cp2k/w-frc-1.xyz", 2, value), ["inspect", "cp2k"])
for name, value in {"negative": "-3", "10 million": "10000000", "1e30": f"{10**30}", "a word": "many"}.items():
    kind(f"CP2K: {name} atoms", replaced("cp2k/w-pos-1.xyz", "       3\n", f"{value}\n"), ["inspect", "cp2k"])
CELLS = {
    "zero": "ABC 0 0 0",
    "flat": "ABC 10 11 12\nALPHA_BETA_GAMMA 0 0 0",
    "impossible": "ABC 10 11 12\nALPHA_BETA_GAMMA 10 20 170",
    "of 1e200": "ABC 1e200 1e200 1e200",
    "of 1e9": "ABC 1e9 1e9 1e9",
    "nan": "ABC nan 1 1",
    "negative": "ABC -10 11 12",
    "in parsecs": "ABC [parsec] 1 1 1",
    "of words": "ABC one two three",
    "multiplied by zero": "ABC 10 11 12\nMULTIPLE_UNIT_CELL 0 1 1",
}
for name, value in CELLS.items():
    kind(f"CP2K: a cell {name}", replaced("cp2k/w.inp", "ABC 10.0 11.0 12.0", value), ["inspect", "cp2k"])
for name, value in {"zero": "0", "negative": "-1", "nan": "nan", "of 1e300": "1e300", "a word": "x"}.items():
    kind(f"CP2K: a time step {name}", replaced("cp2k/w.inp", "TIMESTEP 0.5", f"TIMESTEP {value}"), ["inspect", "cp2k"])
    of_kind = f"&KIND H\n MASS {value}\n &END KIND\n &CELL"
    kind(f"CP2K: a mass {name}", replaced("cp2k/w.inp", "&CELL", of_kind), ["inspect", "cp2k"])
INPUTS = {
    "a section that is not closed": "&GLOBAL\n",
    "a section that was not opened": "&END MD\n",
    "includes itself": "@INCLUDE w.inp\n",
    "includes what is not there": "@INCLUDE ../nothing.inp\n",
    "an unknown variable": "@SET A ${B}\n",
    "variables that grow": "@SET A 0123456789\n" + "@SET A ${A}${A}\n" * 60,
    "a directive": "@IF 1\n",
    "sections in sections": "&A\n" * 200_000,
}
for name, value in INPUTS.items():

    def longer(folder: Path, rng: random.Random, value: str = value) -> None:
        path = folder / "cp2k" / "w.inp"
        path.write_text(value + path.read_text())

    kind(f"CP2K input: {name}", longer, ["inspect", "cp2k"])
kind("CP2K input: empty", written("cp2k/w.inp", ""), ["inspect", "cp2k"])
kind("CP2K input: noise", written("cp2k/w.inp", b"\xff\xfe\x00" * 900), ["inspect", "cp2k"])
kind("CP2K: no step numbers", replaced("cp2k/w-pos-1.xyz", "i = ", "j = "), ["inspect", "cp2k"])
kind("CP2K: forces of other atoms", replaced("cp2k/w-frc-1.xyz", "  O ", "  H "), ["inspect", "cp2k"])
for name in ("w-pos-1.xyz", "w-frc-1.xyz"):
    kind(f"CP2K: {name} cut short", cut(f"cp2k/{name}"), ["inspect", "cp2k"])
kind("CP2K: energies of words", replaced("cp2k/w-1.ener", "-17.0", "low"), ["inspect", "cp2k"])
kind("CP2K: energies nan", replaced("cp2k/w-1.ener", "-17.0", "nan"), ["inspect", "cp2k"])

# --- arrays ----------------------------------------------------------------------------------------------------------

SIZE = struct.Struct("<Q")


def container(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays and header of a file as it is."""
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        return {n: file.get_tensor(n) for n in file.keys()}, json.loads(file.metadata()["header"])  # noqa: SIM118


def array(path: str, file_format: str, name: str, value: Any, whole: bool = False) -> Callable[..., object]:
    """Set one element of an array, or replace the array by what a function makes of it."""

    def damage(folder: Path, rng: random.Random) -> None:
        arrays, header = container(folder / path)
        changed = np.array(arrays[name])
        if whole:
            changed = value(changed)
        else:
            changed.reshape(-1)[rng.randrange(changed.size)] = value
        write_container(folder / path, file_format, {**arrays, name: changed}, header, True)

    return damage


def header(path: str, file_format: str, changes: dict[str, Any]) -> Callable[..., object]:
    """Change entries of the header."""

    def damage(folder: Path, rng: random.Random) -> None:
        arrays, old = container(folder / path)
        write_container(folder / path, file_format, arrays, {**old, **changes}, True)

    return damage


def raw(path: str, content: bytes) -> Callable[..., object]:
    """A safetensors file with another header."""
    return written(path, SIZE.pack(len(content)) + content)


NUMBERS = {
    "positions": (float("nan"), float("inf"), 1e12, -1e5),
    "forces": (float("nan"), 1e30, -1e300),
    "masses": (float("nan"), 0.0, -1.0, 1e30),
    "energies": (float("nan"), 1e300),
    "cells": (float("nan"), 1e200, -1e9),
    "times": (float("nan"), 1e300),
}
for name, values in NUMBERS.items():
    for value in values:
        kind(f"frames: {name} {value:g}", array("frames.safetensors", FRAMES, name, value), INFER)
for name, change in {
    "flat cells": lambda a: a * np.array([1.0, 1.0, 0.0])[:, None],
    "nearly flat cells": lambda a: a * np.array([1.0, 1.0, 1e-12])[:, None],
    "tiny cells": lambda a: a * 1e-6,
}.items():
    kind(f"frames: {name}", array("frames.safetensors", FRAMES, "cells", change, True), INFER)
for name in ("positions", "masses", "steps"):
    for what, change in {
        "in one dimension": lambda a: a.reshape(-1),
        "with one too few": lambda a: a[:-1],
        "none": lambda a: a[:0],
        "in bytes": lambda a: a.astype(np.uint8),
    }.items():
        if (name, what) not in {("steps", "in one dimension"), ("masses", "in one dimension"), ("steps", "in bytes")}:
            kind(f"frames: {name} {what}", array("frames.safetensors", FRAMES, name, change, True), INFER)
SPECIES = {
    "a number": 12,
    "too few": ["Ar"],
    "paths": ["../../x"] * 12,
    "numbers": [1] * 12,
    "lists": [["Ar"]] * 12,
    "null": None,
    "empty": [""] * 12,
}
for name, value in SPECIES.items():
    kind(f"frames: species {name}", header("frames.safetensors", FRAMES, {"species": value}), INFER)
for value in (float("nan"), -1.0, 0.0, "fast", [1], 1e300):
    kind(f"frames: a time step of {value}", header("frames.safetensors", FRAMES, {"timestep": value}), INFER)
for value in (3, [1, 2]):
    kind(f"frames: a source of {value}", header("frames.safetensors", FRAMES, {"source": value}), INFER)
for path, command in (("frames.safetensors", INFER), ("model.safetensors", EVALUATE)):
    kind(f"{path}: cut short", cut(path), command)
    kind(f"{path}: empty", written(path, b""), command)
    kind(f"{path}: noise", lambda f, rng, p=path: (f / p).write_bytes(rng.randbytes(5000)), command)
    kind(f"{path}: a header of 2^60 bytes", written(path, SIZE.pack(1 << 60) + b"{}"), command)
    kind(f"{path}: no metadata", raw(path, b"{}"), command)
    kind(f"{path}: a list for a header", raw(path, b"[]"), command)
    deep = json.dumps({"__metadata__": {"format": MODEL if "model" in path else FRAMES, "header": "[" * 100_000}})
    kind(f"{path}: a header deeper than the stack", raw(path, deep.encode()), command)
    for what, text in {"a word": '"x"', "a list": "[]", "null": "null", "no JSON": "{"}.items():
        said = json.dumps({"__metadata__": {"format": MODEL if "model" in path else FRAMES, "header": text}})
        kind(f"{path}: a header that is {what}", raw(path, said.encode()), command)
    huge = json.dumps({"__metadata__": {"format": "x" * 5_000_000}})
    kind(f"{path}: a format of 5 MB", raw(path, huge.encode()), command)

# --- models ----------------------------------------------------------------------------------------------------------

M = "model.safetensors"
for value in (0.0, -0.5, float("nan"), float("inf"), 1e9, 1e-9, "long", None, [0.5], True):
    kind(f"model: a cutoff of {value}", header(M, MODEL, {"cutoff": value}), EVALUATE)
for value in (0.0, -20.0, float("nan"), float("inf"), 1e30, 1e-30):
    kind(f"model: a mass of {value:g}", array(M, MODEL, "masses", value), EVALUATE)
for value in (-50.0, float("nan"), float("inf"), 1e30):
    kind(f"model: a core of {value:g}", array(M, MODEL, "core_strength", value), EVALUATE)
for value in (0.0, -0.1, float("inf"), 1e9):
    kind(f"model: a shortest distance of {value:g}", array(M, MODEL, "shortest", value), EVALUATE)
for name in ("pair_coefficients", "pair_basis"):
    for value in (float("nan"), float("inf"), 1e300):
        kind(f"model: {name} {value:g}", array(M, MODEL, name, value), EVALUATE)
    kind(f"model: {name} in one dimension", array(M, MODEL, name, lambda a: a.reshape(-1), True), EVALUATE)
    kind(f"model: {name} of single precision", array(M, MODEL, name, lambda a: a.astype(np.float32), True), EVALUATE)
    kind(f"model: {name} of none", array(M, MODEL, name, lambda a: a[..., :0], True), EVALUATE)
HEADERS = {
    "species": (["Ar"], ["Ar", "Ar"], ["Kr", "Ar"], ["Ar", "../x"], 3, None, "Ar", ["Ar", 1], {"Ar": 1}),
    "form": ("cubic", 3, None, ["pair"], {}),
    "ranks": ([9], "x", [-1], 5, [0.5], [[0]]),
    "gradient": ("uphill", 3, None, []),
    "bond_lengths": (
        [["Ar", "Kr", -1.0]],
        [["Ar", "Kr", 0.0]],
        [["Ar", "Kr", "long"]],
        [["Ar", "Kr", float("nan")]],
        [["Ar", "Kr", 1e9]],
        [["Ar", "Xx", 0.1]],
        [["Ar"]],
        5,
    ),
    "coordinations": ([["Ar"]], [["Ar", {"Kr": "two"}]], [["Ar", {"Kr": -1}]], 7, [[["Ar"], {}]]),
    "baseline": ("x", 3, "<System/>", "<System><Forces><Force type='PythonForce' function='80'/></Forces></System>"),
    "metadata": (3, None, "x", []),
}
for name, values in HEADERS.items():
    for value in values:
        kind(f"model: {name} {json.dumps(value)}", header(M, MODEL, {name: value}), EVALUATE)


def without(name: str) -> Callable[..., object]:
    """A model without one of its arrays."""

    def damage(folder: Path, rng: random.Random) -> None:
        arrays, old = container(folder / M)
        del arrays[name]
        write_container(folder / M, MODEL, arrays, old, True)

    return damage


for name in ("masses", "pair_basis", "pair_coefficients", "shortest", "core_strength", "basis"):
    kind(f"model: without {name}", without(name), EVALUATE)

# --- configurations --------------------------------------------------------------------------------------------------

CONFIG = ["infer", "config.yaml", "-o", "new.safetensors"]
BILLION = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
YAMLS = {
    "empty": "",
    "a list": "- 1\n- 2\n",
    "a word": "infer\n",
    "no YAML": "form: [pair\n",
    "an alias of itself": "form: &a [*a]\n",
    "aliases that grow": BILLION,
    "aliases that grow for a value": BILLION.replace("a:", "form:", 1).replace("i: &i", "cutoff: &i"),
    "deeper than the stack": "form: " + "[" * 50_000,
    "a program": "form: !!python/object/apply:os.system [touch pwned]\n",
    "an unknown key": "formm: pair\ndata: [frames.safetensors]\n",
    "no data": "form: pair\n",
    "data that is not there": "data: [{path: nothing.xyz}]\n",
    "data that is a number": "data: 3\n",
    "a key that is a list": "? [a, b]\n: 1\n",
    "a number of 100,000 digits": f"cutoff: {'9' * 100_000}\ndata: [{{path: frames.safetensors}}]\n",
    "a date": "cutoff: 2020-01-01\ndata: [{path: frames.safetensors}]\n",
}
for name, text in YAMLS.items():
    kind(f"YAML: {name}", written("config.yaml", text), CONFIG)
KEYS = {
    "cutoff": ("0", "-1", ".nan", ".inf", "1e9", "true", "[1]", "5 parsec", "null", "1e-9"),
    "form": ("cubic", "3", "null", "[pair]", "{}"),
    "gradient": ("uphill", "3"),
    "ridge": ("-1", ".nan", "big", ".inf"),
    "blocks": ("1000000", "0", "-1", "x", "1.5"),
    "pair_functions": ("0", "-1", "1000000000", "many"),
    "energy_weight": ("-1", ".nan", "x"),
    "stress_weight": ("-1", ".nan", "x"),
    "max_coefficients": ("0", "-1", "x"),
    "memory": ("0", "much", "-1 GiB"),
}
for name, values in KEYS.items():
    for value in values:
        text = f"form: pair\ncutoff: 0.4\ndata: [{{path: frames.safetensors}}]\n{name}: {value}\n"
        text = (
            text
            if name not in ("form", "cutoff")
            else text.replace({"form": "form: pair\n", "cutoff": "cutoff: 0.4\n"}[name], "")
        )
        kind(f"YAML: {name}: {value}", written("config.yaml", text), CONFIG)
for key_value in (
    *("every: 0", "every: -1", "every: x", "weight: -1", "weight: .nan", "test_fraction: 2", "test_fraction: -1"),
    *("gap: -1", "gap: soon", "test_fraction: .nan", "weight: 1e300"),
):
    text = f"form: pair\ncutoff: 0.4\ndata: [{{path: frames.safetensors, {key_value}}}]\n"
    kind(f"YAML: data with {key_value}", written("config.yaml", text), CONFIG)

# --- runs ------------------------------------------------------------------------------------------------------------


def record(changes: dict[str, Any] | Callable[[dict[str, Any]], Any]) -> Callable[..., object]:
    """Change the record of the run."""

    def damage(folder: Path, rng: random.Random) -> None:
        path = folder / "run" / "run.json"
        old = json.loads(path.read_text())
        path.write_text(json.dumps(changes(old) if callable(changes) else {**old, **changes}))

    return damage


RECORDS: dict[str, tuple[Any, ...]] = {
    "timestep": (0, -1.0, float("nan"), "x", None, [], 1e300),
    "temperature": (-1.0, float("nan"), "hot", [], 1e300),
    "report_interval": (0, -2, 1.5, "x", None),
    "degrees_of_freedom": (0, -3, "x", float("nan"), None),
    "masses": ({"Ar": [0.0]}, {"Ar": [-1.0]}, {"Ar": ["x"]}, [], 3, {"Ar": [float("nan")]}, {"Ar": 3}),
    "species": ([["Ar"]] * 12, ["../../x"] * 12, [7] * 12),
    "ensemble": (None, 3, "NXT", []),
}
for name, values in RECORDS.items():
    for value in values:
        kind(f"run.json, compare: {name} {json.dumps(value)[:40]}", record({name: value}), COMPARE)
for name in ("status", "steps_done", "seed", "integrator", "limits", "species", "cell_nm", "timestep"):
    for value in (None, "x", -1, [], {}, 1e300):
        if (name, value) != ("limits", {}) and (name, value) != ("limits", None) and name != "limits":
            kind(f"run.json, resume: {name} {json.dumps(value)}", record({name: value}), RESUME)
for command, verb in ((COMPARE, "compare"), (RESUME, "resume")):
    for name, text in {
        "empty": "",
        "a list": "[]",
        "no JSON": "{",
        "deeper than the stack": "[" * 200_000,
        "noise": "\x00\x01",
        "a number of 100,000 digits": '{"status": ' + "9" * 100_000 + "}",
    }.items():
        kind(f"run.json, {verb}: {name}", written("run/run.json", text), command)
LOGS = {
    "empty": "",
    "no columns": "a,b\n1,2\n",
    "noise": "\x00\xff\n",
    "only columns": "step,time_ps,potential_energy,kinetic_energy,temperature_K,atoms_left_molecule\n",
}
for name, text in LOGS.items():
    kind(f"log.csv: {name}", written("run/log.csv", text), COMPARE)


def column(name: str, value: str) -> Callable[..., object]:
    """Set one field of the log."""

    def damage(folder: Path, rng: random.Random) -> None:
        path = folder / "run" / "log.csv"
        lines = path.read_text().split("\n")
        at, row = lines[0].split(",").index(name), rng.randrange(1, len(lines) - 1)
        fields = lines[row].split(",")
        fields[at] = value
        lines[row] = ",".join(fields)
        path.write_text("\n".join(lines))

    return damage


for name, value in (
    ("time_ps", "nan"),
    ("time_ps", "-5"),
    ("time_ps", "x"),
    ("time_ps", "1e300"),
    ("temperature_K", "x"),
    ("temperature_K", "1e300"),
    ("kinetic_energy", "nan"),
    ("kinetic_energy", "-1e9"),
    ("potential_energy", "inf"),
):
    kind(f"log.csv: {name} {value}", column(name, value), COMPARE)
for path in ("run/topology.pdb", "start.pdb"):
    command = COMPARE if "run" in path else SIMULATE
    kind(f"{path}: empty", written(path, ""), command)
    kind(f"{path}: noise", written(path, b"\x00\xff" * 500), command)
    kind(f"{path}: no atoms", written(path, "END\n"), command)
DCD = {"empty": b"", "noise": b"\x54\0\0\0CORD" + b"\xff" * 400, "a head alone": b"\x54\0\0\0CORD" + bytes(200)}
for name, data in DCD.items():
    kind(f"trajectory.dcd: {name}", written("run/trajectory.dcd", data), COMPARE)


def many_atoms(folder: Path, rng: random.Random) -> None:
    """Claim ten million atoms in the header of a trajectory."""
    path = folder / "run" / "trajectory.dcd"
    whole = path.read_bytes()
    at = 104 + struct.unpack_from("<i", whole, 92)[0]
    path.write_bytes(whole[:at] + struct.pack("<i", 10**7) + whole[at + 4 :])


kind("trajectory.dcd: ten million atoms", many_atoms, COMPARE)
for path in ("checkpoint.chk", "trajectory.dcd", "log.csv"):
    kind(f"{path}: cut short, resume", cut(f"run/{path}"), RESUME)

    def flip(folder: Path, rng: random.Random, path: str = path) -> None:
        data = bytearray((folder / "run" / path).read_bytes())
        data[rng.randrange(24, len(data))] ^= 1 << rng.randrange(8)
        (folder / "run" / path).write_bytes(data)

    kind(f"{path}: one bit flipped, resume", flip, RESUME)
for path in ("checkpoint.chk", "log.csv", ".lock", "run.json"):

    def linked(folder: Path, rng: random.Random, path: str = path) -> None:
        (folder / "victim").write_text("precious")
        (folder / "run" / path).unlink()
        (folder / "run" / path).symlink_to(folder / "victim")

    kind(f"{path}: a symbolic link, resume", linked, RESUME)


def linked_report(folder: Path, rng: random.Random) -> None:
    """A folder outside in the place of the report of a run, or of what CP2K labelled for it."""
    path = folder / "run" / rng.choice(["report", "report/recomputed"])
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(folder / "cp2k")


kind("report: a symbolic link, compare", linked_report, COMPARE[:-2])

# --- PDB and options -------------------------------------------------------------------------------------------------


def pdb(begin: int, end: int, value: str, record_name: str = "HETATM") -> Callable[..., object]:
    """Set columns of one atom, or of another record."""

    def damage(folder: Path, rng: random.Random) -> None:
        lines = (folder / "start.pdb").read_text().split("\n")
        at = rng.choice([k for k, line in enumerate(lines) if line.startswith(record_name)])
        lines[at] = lines[at][:begin].ljust(begin) + value.rjust(end - begin) + lines[at][end:]
        (folder / "start.pdb").write_text("\n".join(lines))

    return damage


for value in ("nan", "inf", "x", "1e300", "99999999", "-1e12"):
    kind(f"PDB: a coordinate {value}", pdb(30, 38, value), SIMULATE)
for value in ("0.000", "nan", "x", "1e200", "-10", "1e-9"):
    kind(f"PDB: a cell {value}", pdb(6, 15, value, "CRYST1"), SIMULATE)
kind("PDB: a cell with angles of 0", pdb(33, 40, "0.00", "CRYST1"), SIMULATE)
kind("PDB: an unknown element", pdb(76, 78, "Qq"), SIMULATE)
OPTIONS: dict[str, tuple[str, ...]] = {
    "--timestep": ("0", "nan", "-1 fs", "inf", "1 nm", "1e300", "x", ""),
    "--time": ("0", "nan", "-1", "inf", "1e300", "1 K"),
    "--temperature": ("0", "-1", "nan", "inf", "1e300", "3 bar"),
    "--friction": ("0", "-1", "nan", "1e300"),
    "--report": ("0", "-1", "nan", "1e300"),
    "--seed": ("0", "-1", "99999999999", "x"),
    "--platform": ("Abacus", ""),
    "--precision": ("half", ""),
    "--backend": ("jax", "../x"),
    "--monitor-interval": ("0", "nan", "-1"),
    "--start": ("nothing.pdb", "model.safetensors", "/dev/null", "config.yaml"),
    "--integrator": ("euler",),
    "-o": ("start.pdb", "/proc/x", "cp2k", "start.pdb/x"),
}
for option, values in OPTIONS.items():
    for value in values:
        kind(
            f"simulate {option} {value!r}", lambda f, rng: None, [*SIMULATE, "--integrator", "langevin", option, value]
        )
for value in (("0", "1", "1"), ("-1", "1", "1"), ("100000", "100000", "100000"), ("x", "1", "1")):
    kind(f"export --supercell {' '.join(value)}", lambda f, rng: None, [*EXPORT, "--supercell", *value])
for edge in ("0", "nan", "-1", "1e200", "1e-9", "x", "inf"):

    def bare(folder: Path, rng: random.Random) -> None:
        lines = (folder / "start.xyz").read_text().split("\n")
        rows = [" ".join(line.split()[:4]) for line in lines[2:]]
        (folder / "start.xyz").write_text("\n".join([lines[0], "", *rows]))

    kind(f"export --cell {edge}", bare, [*EXPORT, "--cell", edge, "1.3", "1.3"])
INFER_OPTIONS: dict[str, tuple[str, ...]] = {
    "--cutoff": ("0", "-1", "nan", "1e9", "x", "1e-9"),
    "--form": ("cubic", ""),
    "--gradient": ("uphill",),
    "--ranks": ("9", "x", "-1"),
    "--max-coefficients": ("0", "-1", "x"),
    "--memory": ("0", "x", "1e300 GiB x"),
    "--test-fraction": ("2", "-1", "nan", "x"),
    "--energy-weight": ("-1", "nan", "x"),
    "--stress-weight": ("-1", "nan", "x"),
    "--units": ("furlong", ""),
    "--baseline": ("nothing.xml", "run", "model.safetensors", "/dev/null", "/dev/zero", "config.yaml"),
    "--temperature": ("300 K",),
    "-o": ("model.txt", "run", "model.safetensors", "start.pdb/x.safetensors"),
}
for option, values in INFER_OPTIONS.items():
    for value in values:
        kind(f"infer {option} {value!r}", lambda f, rng: None, [*INFER, option, value])
for pressure in ("nan", "1e300", "x", "5 nm", "inf"):
    kind(f"simulate --pressure {pressure}", lambda f, rng: None, [*SIMULATE, "--pressure", pressure])
for sizes in ("99999999999", "10000000", "9" * 40, "0", "-1", "x", "", "64,,", "1e9", "nan"):
    command = ["benchmark", "model.safetensors", "--no-tip3p", "--no-cp2k", "--sizes", sizes]
    kind(f"benchmark --sizes {sizes!r}", lambda f, rng: None, [*command, "--start", "start.pdb"])
    kind(f"benchmark --sizes {sizes!r}, of water", lambda f, rng: None, command)
for option, values in {
    "--discard": ("-1", "nan", "1e9", "x"),
    "--viscosity": ("-1", "nan", "x", "0"),
    "--every": ("0", "x"),
}.items():
    for value in values:
        kind(f"compare {option} {value}", lambda f, rng: None, [*COMPARE, option, value])
for band in (("5", "1"), ("nan", "3"), ("-1", "3"), ("0", "1e300")):
    kind(f"compare --band {' '.join(band)}", lambda f, rng: None, [*COMPARE, "--band", *band])

# --- DeePMD ----------------------------------------------------------------------------------------------------------


def npy(name: str, change: Callable[[Any], Any]) -> Callable[..., object]:
    """Change an array of the set."""

    def damage(folder: Path, rng: random.Random) -> None:
        path = folder / "deepmd" / "set.000" / f"{name}.npy"
        np.save(path, change(np.load(path)), allow_pickle=True)

    return damage


ARRAYS: dict[str, Callable[[Any], Any]] = {
    "nan": lambda a: a * np.nan,
    "1e300": lambda a: a + 1e300,
    "in one dimension less": lambda a: a.reshape(-1)[:-1],
    "objects": lambda a: np.array([{}], dtype=object),
    "words": lambda a: np.array(["x"] * 36),
    "complex": lambda a: a + 1j,
    "none": lambda a: a[:0],
}
for name, change in ARRAYS.items():
    for which in ("coord", "box", "force"):
        kind(f"DeePMD: {which} {name}", npy(which, change), ["inspect", "deepmd"])
for name, value in {
    "words": "x\n",
    "negative": "-5\n" * 12,
    "too large": "7\n" * 12,
    "none": "",
    "1e30": "1" * 30,
}.items():
    kind(f"DeePMD: types {name}", written("deepmd/type.raw", value), ["inspect", "deepmd"])
kind("DeePMD: names that are no elements", written("deepmd/type_map.raw", "../../x Qq"), ["inspect", "deepmd"])
kind("DeePMD: noise", written("deepmd/set.000/coord.npy", b"\x93NUMPY\x01\x00" + b"\xff" * 99), ["inspect", "deepmd"])
HUGE = (
    b"\x93NUMPY\x01\x00"
    + struct.pack("<H", 70)
    + b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 36)}  \n"
)
kind("DeePMD: 10^11 frames in a header", written("deepmd/set.000/coord.npy", HUGE), ["inspect", "deepmd"])

# --- arrays of NumPy -------------------------------------------------------------------------------------------------


def npz(name: str, change: Callable[[Any], Any]) -> Callable[..., object]:
    """Change an array of the file."""

    def damage(folder: Path, rng: random.Random) -> None:
        with np.load(folder / "arrays.npz") as file:
            arrays = dict(file)
        np.savez(folder / "arrays.npz", **(arrays | {name: change(arrays[name])}))

    return damage


for name, change in ARRAYS.items():
    for which in ("R", "z", "F", "E"):
        kind(f"npz: {which} {name}", npz(which, change), ["inspect", "arrays.npz"])
for which in ("e_unit", "r_unit"):
    kind(f"npz: {which} unknown", npz(which, lambda a: "x" * 10**6), ["inspect", "arrays.npz"])
kind("npz: no archive", written("arrays.npz", b"PK\x03\x04" + b"\xff" * 99), ["inspect", "arrays.npz"])

# --- campaigns -------------------------------------------------------------------------------------------------------

CAMPAIGN = {
    "reference.json": "campaign/reference.json",
    "input.json": "campaign/points/input.json",
    "done.json": "campaign/points/done.json",
    "part.json": "campaign/points/parts/0000/part.json",
}


def campaign_record(name: str, content: bytes | str) -> Callable[[Path, random.Random], object]:
    """Another content of a record of the campaign; that of a part is read where the task is not done."""

    def damage(folder: Path, rng: random.Random) -> None:
        (folder / CAMPAIGN[name]).write_bytes(content.encode() if isinstance(content, str) else content)
        if name == "part.json":
            (folder / CAMPAIGN["done.json"]).unlink()

    return damage


for record_name in CAMPAIGN:
    for name, content in {
        "nothing": "",
        "noise": b"\xff\x00\xfe" * 40,
        "a list": "[]",
        "a number": "7",
        "null": "null",
        "no keys": "{}",
        "another key": '{"unknown": 1}',
        "half of it": '{"frames": 5, "refu',
        "nested": "[" * 100_000,
        "NaN": '{"frames": NaN, "refused": []}',
        "a number of 10,000 digits": '{"frames": ' + "9" * 10_000 + ', "refused": []}',
    }.items():
        kind(f"campaign, {record_name}: {name}", campaign_record(record_name, content), REFERENCE)
for name, value in {
    "reference.json": {"configuration": [{}, 1, None, "x", {"method": "nnp"}, {"method": "nnp", "tasks": []}]},
    "input.json": {"sha256": [1, None, "0" * 64, []], "source": [1, "x", [1], {}]},
    "done.json": {"frames": [-1, 1.5, "5", True, None, 10**12], "refused": [1, "x", [1], {}, None]},
}.items():
    for changed_key, values in value.items():
        for other in values:
            good = {"configuration": {}, "sha256": "0" * 64, "source": [], "frames": 5, "refused": []}
            found = {one: good[one] for one in value} | {changed_key: other}
            text = json.dumps(found)
            if name != "input.json" or changed_key == "sha256" or other == "x":
                kind(
                    f"campaign, {name}: {changed_key} {json.dumps(other)[:40]}", campaign_record(name, text), REFERENCE
                )
LABELLED = {"labelled": [0], "refused": {}, "order": []}
DYNAMICS = {"first": 0, "last": 10, "restart": "w-1.restart", "unconverged": []}
for good_part, changes in (
    (LABELLED, {"labelled": [-1, [-1], ["x"], None, [1.5]], "refused": [[], {"x": "y"}, {"1": 2}, {"-1": "y"}]}),
    (DYNAMICS, {"last": [-1, "x", None], "first": ["x", -1], "restart": ["../x", "/etc/passwd", 1, ""]}),
):
    for changed_key, values in changes.items():
        for other in values:
            text = json.dumps(good_part | {changed_key: other})
            kind(
                f"campaign, part.json: {changed_key} {json.dumps(other)}", campaign_record("part.json", text), REFERENCE
            )


def a_link(path: str) -> Callable[[Path, random.Random], object]:
    """A symbolic link to a file outside in the place of a file."""

    def damage(folder: Path, rng: random.Random) -> None:
        (folder / path).unlink()
        (folder / path).symlink_to(folder / "frames.xyz")

    return damage


kind("campaign: .lock is a link", a_link("campaign/.lock"), REFERENCE)
for name, (old, new) in {
    "no task": ("{name: points, label: {data: frames.safetensors}}", "{}"),
    "a task that climbs": ("points", "../x"),
    "an unknown method": ("nnp", "magic"),
    "no data": ("frames.safetensors", "nowhere"),
    "another seed": ("method", "seed: 2\nmethod"),
    "more frames than there are": ("safetensors", "safetensors, frames: 99"),
    "a count of 1e30": ("safetensors", "safetensors, frames: 1.0e+30"),
}.items():
    kind(f"campaign, configuration: {name}", replaced("campaign.yaml", old, new), REFERENCE)
