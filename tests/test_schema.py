"""The strict schema: every key is checked, and plain values are read back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.schema import (
    boolean,
    build,
    integer,
    interval,
    key,
    load_yaml,
    mapping_of,
    nested,
    one_of,
    optional,
    quantity,
    text,
    to_plain,
    tuple_of,
)


@dataclass(frozen=True)
class Bath:
    temperature: float = field(metadata=key(quantity(unit.kelvin)))
    kind: str = field(metadata=key(one_of("global", "massive")), default="global")


@dataclass(frozen=True)
class Recipe:
    name: str = field(metadata=key(text))
    bath: Bath = field(metadata=key(nested(Bath)))
    steps: int = field(metadata=key(integer(1)), default=1)
    charge: int = field(metadata=key(integer()), default=0)
    ranks: tuple[int, ...] | None = field(
        metadata=key(optional(tuple_of(integer(), single=True, empty=True))), default=None
    )
    copies: tuple[int, ...] = field(metadata=key(tuple_of(integer(1), 3)), default=(1, 1, 1))
    factor: tuple[float, float] = field(metadata=key(interval()), default=(1.0, 1.0))
    charges: dict[str, float] = field(
        metadata=key(mapping_of(quantity(positive=False), "the charge of every species")), default_factory=dict
    )
    ridge: float | None = field(metadata=key(optional(quantity(positive=False))), default=None)
    velocities: bool = field(metadata=key(boolean), default=False)
    folder: Path = Path()  # not a key


BATH = {"temperature": "300 K"}


def recipe(**choices):
    return build(Recipe, {"name": "a", "bath": BATH} | choices, "recipe")


def test_what_is_written_is_read_back():
    made = recipe(
        ranks=[0, 2], charges={"C": 0.5, "O": -0.25}, factor=[0.9, "1.1"], ridge="1e-7", steps=np.int64(5), charge=-1
    )
    assert made.ranks == (0, 2)
    assert made.ridge == 1e-7
    assert type(made.steps) is int
    plain = to_plain(made)
    assert list(plain)[:3] == ["name", "bath", "steps"]
    assert "folder" not in plain
    assert build(Recipe, yaml.safe_load(yaml.safe_dump(plain))) == made
    assert build(Recipe, json.loads(json.dumps(plain))) == made


def test_plain_values_of_other_types():
    assert to_plain({"a": (np.float64(1.5), Path("b")), 1: None}) == {"a": [1.5, "b"], "1": None}


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), (2, (2,)), (np.int32(2), (2,)), ([], ()), ((0, 1), (0, 1))]
)
def test_ranks_may_be_none_or_a_single_number(value, expected):
    assert recipe(ranks=value).ranks == expected


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"stepz": 1}, "recipe: unknown key stepz; the keys are name, bath, .*, velocities$"),
        ({7: 1}, "unknown key 7"),
        ({"folder": "x"}, "unknown key folder"),
        ({"bath": {}}, "recipe: bath: temperature must be given; the keys are temperature, kind"),
        ({"bath": 300}, "recipe: bath: expected keys and values"),
        ({"bath": {**BATH, "kind": "both"}}, "recipe: bath: kind: expected global or massive, got 'both'"),
        ({"steps": 0}, "recipe: steps: expected a whole number of at least 1, got 0"),
        ({"steps": True}, "steps: expected a whole number"),
        ({"charge": 0.5}, "charge: expected a whole number, got 0.5"),
        ({"ranks": "two"}, "ranks: expected a whole number, got 'two'"),
        ({"copies": 2}, "copies: expected a list of 3, got 2"),
        ({"copies": [1, 2]}, "copies: expected a list of 3"),
        ({"factor": [1.1, 0.9]}, "factor: expected the smaller number first"),
        ({"charges": [1.0]}, "charges: expected the charge of every species"),
        ({"charges": {"C": "much"}}, "charges of C: expected a number"),
        ({"ridge": float("inf")}, "ridge: expected a finite number"),
        ({"ridge": True}, "ridge: expected a number"),
        ({"velocities": 1}, "velocities: expected true or false"),
        ({"name": ""}, "name: expected a name"),
    ],
)
def test_errors_name_the_key(choices, message):
    with pytest.raises(DualityError, match=message):
        build(Recipe, {"name": "a", "bath": BATH} | choices, "recipe")


def test_keyword_arguments_are_named_without_a_prefix():
    with pytest.raises(DualityError, match=r"^steps: expected"):
        recipe_of(steps="many")
    with pytest.raises(DualityError, match=r"^unknown setting nonsense; the settings are name"):
        recipe_of(nonsense=1)


def recipe_of(**choices):
    return build(Recipe, {"name": "a", "bath": BATH} | choices, noun="setting")


def test_invalid_yaml_is_refused_in_one_line(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("form: pair\ndata: [x\ncutoff: 0.6\n")
    with pytest.raises(DualityError, match=r"^\S+c\.yaml: cannot be read as YAML \(line 3, column \d+: [^\n]+\)$"):
        load_yaml(path)
    path.write_bytes(b"form: \xff\xfe\n")
    with pytest.raises(DualityError, match="YAML"):
        load_yaml(path)
    with pytest.raises(DualityError, match="YAML"):
        load_yaml(tmp_path / "missing.yaml")
