"""The records of a reference campaign: read strictly, and refused with the file where they are damaged."""

from __future__ import annotations

import json

import pytest

from openmm_duality.cp2k.campaign import _claim
from openmm_duality.cp2k.parts import closed_parts
from openmm_duality.errors import DualityError

DYNAMICS = {"first": None, "last": 24, "restart": "liquid-1.restart", "unconverged": [4]}
LABELS = {"labelled": [0, 2], "refused": {"1": "no convergence"}, "order": [0, 1, 2]}


def with_records(folder, *records):
    for number, record in enumerate(records):
        part = folder / "parts" / f"{number:04d}"
        part.mkdir(parents=True)
        (part / "part.json").write_text(record if isinstance(record, str) else json.dumps(record))
    return folder


def test_records_are_read_back_as_they_were_written(tmp_path):
    found = [part.record for part in closed_parts(with_records(tmp_path, DYNAMICS, LABELS))]
    assert found == [{**DYNAMICS, "unconverged": (4,)}, {**LABELS, "labelled": (0, 2), "order": (0, 1, 2)}]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{", "not whole JSON"),
        ("[]", "expected a JSON object"),
        ({}, "got none"),
        ({**DYNAMICS, "more": 1}, "expected the keys first, last"),
        ({**DYNAMICS, "last": "many"}, "last: expected a whole number"),
        ({**DYNAMICS, "last": -1}, "last: expected a whole number"),
        ({**DYNAMICS, "restart": "../../elsewhere"}, "restart: expected the name of a file"),
        ({**DYNAMICS, "unconverged": 3}, "unconverged: expected a list"),
        ({**LABELS, "refused": {"first": "no"}}, "refused: expected numbers of frames, got 'first'"),
        ({**LABELS, "refused": []}, "refused: expected reasons by step"),
        ({**LABELS, "order": [0.5]}, "order: expected a whole number"),
    ],
)
def test_damaged_records_of_parts_are_refused_with_the_file(tmp_path, record, said):
    with pytest.raises(DualityError, match=rf"part\.json is damaged \(.*{said}") as error:
        closed_parts(with_records(tmp_path, record))
    assert len(str(error.value)) < 1000


def test_tasks_that_are_not_begun_may_change(tmp_path):
    first, second, other = ({"name": name, "md": {"steps": n}} for name, n in (("a", 1), ("b", 2), ("b", 3)))
    _claim(tmp_path, {"seed": 1, "tasks": [first, second]})
    (tmp_path / "a").mkdir()
    _claim(tmp_path, {"seed": 1, "tasks": [first, other]})
    _claim(tmp_path, {"seed": 1, "tasks": [first]})
    _claim(tmp_path, {"seed": 1, "tasks": [first, other]})
    (tmp_path / "b").mkdir()
    for tasks in ([first, second], [first], [other, first]):
        with pytest.raises(DualityError, match=r"another configuration \(different: tasks"):
            _claim(tmp_path, {"seed": 1, "tasks": tasks})


@pytest.mark.parametrize("record", ["", '{"configuration": 3}', '{"seed": 1}', '{"configuration": {}, "x": 1}'])
def test_a_damaged_configuration_of_a_campaign_is_refused(tmp_path, record):
    (tmp_path / "reference.json").write_text(record)
    with pytest.raises(DualityError, match=r"reference\.json is damaged"):
        _claim(tmp_path, {"seed": 1})
