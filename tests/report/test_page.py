"""The page: self-contained, complete, and the same whatever the run was like."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from openmm_duality.errors import DualityError
from openmm_duality.observables import compare
from openmm_duality.report import write_report
from openmm_duality.report.page import render
from tests.observables import made

ERRORS = {
    "test": {
        "frames": 190,
        "force_rmse": {"all": 38.0, "H": 31.0, "O": 49.0, "molecular": 30.0},
        "force_rms": {"all": 828.0, "H": 650.0, "O": 1120.0, "molecular": 245.0},
    }
}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    model = {"name": "<m>.safetensors", "form": "moment", "gradient": "collective", "errors": ERRORS}
    run = made.write_run(folder / "run", made.water(120, 2), model=model)
    return compare(run, made.water(120, 1), r_max=0.5, progress=False)


@pytest.fixture(scope="module")
def report(comparison, tmp_path_factory):
    return write_report(comparison, tmp_path_factory.mktemp("out") / "report")


def test_the_page_needs_nothing_beside_it(report):
    page = report.read_text("utf-8")
    assert not re.search(r'(src|href)="(?!#)', page)
    assert "@import" not in page
    assert "url(http" not in page


def test_the_page_holds_verdict_figures_and_errors(report, comparison):
    page = report.read_text("utf-8").replace("\u00a0", " ")
    for sentence in comparison.verdict:
        assert sentence.replace("'", "&#39;").replace("<", "&lt;") in page
    assert page.count("<svg") == len(list(report.parent.glob("*.png"))) == 7
    assert "molecular" in page
    assert "12.2 %" in page
    assert "&lt;m&gt;.safetensors" in page


def test_the_drawings_are_well_formed_and_share_no_identifier(report):
    page = report.read_text("utf-8")
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    for drawing in drawings:
        ElementTree.fromstring(drawing)
        assert "width" not in drawing[: drawing.index(">")]
        known = set(re.findall(r'\bid="([^"]+)"', drawing))
        assert set(re.findall(r"url\(#([^)]+)\)", drawing)) <= known
        assert set(re.findall(r'xlink:href="#([^"]+)"', drawing)) <= known
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))


def test_the_json_is_the_comparison(report, comparison):
    text = (report.parent / "compare.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(comparison.to_dict()))


def test_an_earlier_report_is_not_overwritten_unasked(report, comparison):
    before = report.read_bytes()
    with pytest.raises(DualityError, match="exists"):
        write_report(comparison, report.parent)
    write_report(comparison, report.parent, overwrite=True)
    assert report.read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss_precision": "double", "forces": ["Force", "CMMotionRemover"]}, "CPU, forces in double precision"),
        ({"loss_precision": "single", "forces": ["PythonForce"]}, "CPU, forces in single precision"),
        (
            {"loss_precision": "double", "forces": ["Force", "NonbondedForce"]},
            "CPU single, forces of the losses in double precision",
        ),
        (
            {"loss_precision": "double", "forces": ["Force"], "platform": "OpenCL", "precision": "mixed"},
            "OpenCL mixed, forces of the losses in double precision",
        ),
        ({"loss_precision": None, "forces": ["NonbondedForce"]}, "CPU single"),
    ],
)
def test_the_page_says_at_what_precision_the_forces_were(comparison, report, settings, words):
    run = replace(comparison.run, settings={**comparison.run.settings, **settings})
    drawn = {path.stem: "" for path in report.parent.glob("*.png")}
    assert f"<dt>Platform</dt><dd>{words}</dd>" in render(replace(comparison, run=run), drawn)


def test_a_report_is_replaced_whole_or_not_at_all(comparison, report, tmp_path):
    figure = next(report.parent.glob("*.png")).name
    (tmp_path / figure).write_text("precious")
    with pytest.raises(DualityError, match=f"{figure} exists already"):
        write_report(comparison, tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(figure, "precious")]
    write_report(comparison, tmp_path, overwrite=True)
    assert len(list(tmp_path.iterdir())) == len(list(report.parent.iterdir()))


@pytest.mark.parametrize("kind", ["one frame", "no bonds", "no cell", "agent"])
def test_unusual_runs_have_a_page_too(tmp_path, kind):
    source, reference, settings = made.water(20, 3), made.water(30, 4), {}
    if kind == "one frame":
        source = source[:1]
    if kind == "no bonds":
        source, reference = (made.frames(("Ar",) * 24, f.positions[:, ::3], f.cells[0]) for f in (source, reference))
    if kind == "no cell":
        source, reference = (made.frames(f.species, f.positions, None) for f in (source, reference))
    if kind == "agent":
        settings = {"model": {"gradient": "agent"}, "ensemble": "NVE"}
    run = made.write_run(tmp_path / "run", source, **settings)
    found = compare(run, reference, r_max=0.5, progress=False)
    page = write_report(found, tmp_path / "out").read_text("utf-8")
    assert "Too short to tell" in page
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL).lower()
