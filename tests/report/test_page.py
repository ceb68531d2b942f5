"""The page: self-contained, complete, and the same whatever the run was like."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.observables import compare
from openmm_duality.observables.decisions import judge
from openmm_duality.observables.force_errors import ForceErrors
from openmm_duality.observables.statistics import Reason
from openmm_duality.report import comparison_to_dict, verdict, write_report
from openmm_duality.report import page as page_of_report
from openmm_duality.report.figures import figures
from openmm_duality.report.page import render
from openmm_duality.report.style import colour, inline, svg
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
    for sentence in verdict(comparison):
        assert sentence.replace("'", "&#39;").replace("<", "&lt;") in page
    drawn = {path.stem for path in report.parent.glob("*.png")}
    assert page.count("<svg") == len(drawn)
    assert drawn == {path.stem for path in report.parent.glob("*.svg")}
    assert {"rdf-O-O", "coordination-O-O", "order-O", "length-H-O", "angle-H-O-H", "temperature", "energy"} <= drawn
    assert "molecular" in page
    assert "(12.2 %)" in page
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
    assert json.loads(text) == json.loads(json.dumps(comparison_to_dict(comparison)))


@pytest.fixture(scope="module")
def two(comparison):
    """Two of the figures: drawing all of them takes most of the time."""
    return dict(list(figures(comparison).items())[:2])


def test_an_earlier_report_is_not_overwritten_unasked(comparison, two, tmp_path, monkeypatch):
    monkeypatch.setattr(page_of_report, "figures", lambda _: two)
    report = write_report(comparison, tmp_path / "report")
    before = {path.name: path.read_bytes() for path in report.parent.iterdir()}
    with pytest.raises(DualityError, match="exists"):
        write_report(comparison, report.parent)
    write_report(comparison, report.parent, overwrite=True)
    assert {path.name: path.read_bytes() for path in report.parent.iterdir()} == before


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


def test_a_report_is_replaced_whole_or_not_at_all(comparison, two, tmp_path, monkeypatch):
    monkeypatch.setattr(page_of_report, "figures", lambda _: two)
    figure = f"{list(two)[-1]}.png"
    (tmp_path / figure).write_text("precious")
    with pytest.raises(DualityError, match=f"{figure} exists already"):
        write_report(comparison, tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(figure, "precious")]
    write_report(comparison, tmp_path, overwrite=True)
    names = {"report.html", "compare.json", *(f"{name}.{kind}" for name in two for kind in ("png", "svg"))}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")


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
    assert '<h1 class="open">' in page
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL).lower()


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Two runs of water and other data beside one reference, of which one run fails."""
    folder = tmp_path_factory.mktemp("several")
    runs = [
        made.write_run(folder / name, made.water(100, seed, bond=bond), model={"name": name, "errors": ERRORS})
        for name, seed, bond in (("good", 5, 0.1), ("bad", 6, 0.104))
    ]
    return compare(runs[0], made.water(100, 7), more=[runs[1], made.water(100, 8)], r_max=0.5, progress=False)


def test_several_runs_stand_side_by_side(several):
    page = render(several, {}).replace("\u00a0", " ")
    table = page[page.index('class="glance"') : page.index("</table>")]
    row = next(line for line in table.split("\n") if "H–O length" in line)
    assert row.count("<td") == 5
    assert ['class="no"' in cell for cell in row.split("<td")[3:]] == [False, True, False]
    for name in ("good", "bad", "other data"):
        assert f">{name}</th>" in table
    assert "Of 3 runs: 2 with no difference found at p &lt; 0.01 (joint) and 1 that differs" in page
    assert page.index("differs") < page.index("At a glance")
    assert verdict(several.more[0])[0].replace("<", "&lt;") in page


@pytest.fixture(scope="module")
def drawn(several):
    return figures(several)


def test_every_run_has_a_colour_of_its_own(drawn):
    for name in ("rdf-O-O", "length-H-O", "order-O"):
        text = svg(drawn[name], name)
        assert all(colour(column) in text for column in range(3))
        assert "var(--run1)" in inline(text)


def test_the_energy_is_named_in_words(drawn):
    words = {"Conserved quantity", "Total energy", "Potential energy", "Sum of losses"}
    assert drawn["energy"].axes[0].get_title(loc="left").removesuffix(", less its median") in words


def test_recomputed_forces_have_their_place(several, tmp_path):
    """Of the run whose forces were computed again, in the table, in figures and in words; the others have none."""
    times = np.array([2.0, 5.0, 8.0])
    rmse = {"all": np.array([17.0, 18.0, 16.0]), "molecular": np.array([15.0, 14.0, 16.0])}
    mae = {"all": np.full(3, 12.0), "molecular": np.full(3, 11.0)}
    rms = {"all": np.full(3, 800.0), "molecular": np.full(3, 240.0)}
    found = ForceErrors(times, rmse, mae, rms, ("frame 4, unconverged",), "nnp", "m.safetensors")
    page = write_report(replace(several, force_errors=found), tmp_path / "out").read_text("utf-8")
    page = page.replace("\u00a0", " ")
    row = next(line for line in page.split("\n") if "Force error, all atoms" in line)
    assert "17.0 (2.1 %)" in row
    assert row.count(">–</span>") == 2
    assert "Recomputed by CP2K (nnp): 3 frames (1 refused) of good." in page
    assert {"forces-all.png", "forces-molecular.svg"} <= {path.name for path in (tmp_path / "out").iterdir()}
    plain = json.loads((tmp_path / "out" / "compare.json").read_text())["forces_along_run"]
    assert plain["force_rmse"]["all"] == pytest.approx(np.sqrt(np.mean(rmse["all"] ** 2)))
    assert plain["force_mae"] == {"all": 12.0, "molecular": 11.0}
    assert plain["time_ps"] == [2.0, 5.0, 8.0]


def test_what_could_not_be_tested_is_in_the_headline(comparison):
    slow = comparison.tetrahedral_order["O"]
    untested = replace(slow, mean=replace(slow.mean, p_value=None, interval=None))
    found = judge(replace(comparison, tetrahedral_order={"O": untested}, findings=()))
    assert found.agrees is True
    assert f"1 of {1 + len(found.tests)} not tested" in render(found, {})
    assert "tetrahedral order of O" in verdict(found)[-1]


def test_only_runs_that_were_recomputed_are_said_to_be(several):
    def found(frames: int) -> ForceErrors:
        errors = {"all": np.full(frames, 17.0)}
        return ForceErrors(np.arange(float(frames)), errors, errors, errors, (), "nnp", "m.safetensors")

    both = replace(
        several, force_errors=found(3), more=(replace(several.more[0], force_errors=found(3)), several.more[1])
    )
    assert "(nnp): 3 frames each of good and bad." in render(both, {"forces-all": ""})
    assert "(nnp): 1 frame of good." in render(replace(several, force_errors=found(1)), {"forces-all": ""})


def untested_length(comparison, difference, reason):
    """The comparison judged again with a mean length that could not be tested."""
    length = comparison.bond_length["H-O"]
    mean = replace(length.mean, difference=difference).untested(reason)
    return judge(replace(comparison, bond_length={"H-O": replace(length, mean=mean)}, findings=()))


@pytest.mark.parametrize(
    ("difference", "reason", "headline"),
    [
        (1e-5, Reason.TOO_SHORT, "Too short to tell"),
        (6e-3, Reason.TOO_SHORT, "Too short to tell"),
        (6e-3, Reason.NOT_STATIONARY, "Too short to tell: something changes along the run"),
    ],
)
def test_a_difference_that_matters_is_not_hidden_by_a_missing_test(comparison, difference, reason, headline):
    found = untested_length(comparison, difference, reason)
    assert found.agrees is None
    assert f'<h1 class="open">{headline}</h1>' in render(found, {})


def test_a_run_that_is_not_stationary_says_so_beside_others(several):
    changed = untested_length(several.more[1], 6e-3, Reason.NOT_STATIONARY)
    page = render(replace(several, more=(several.more[0], changed)), {})
    assert (
        "Of 3 runs: 1 with no difference found at p &lt; 0.01 (joint), 1 that differs and 1 too short to tell" in page
    )
    assert "changes along the run</span>" in page


def test_what_is_seen_too_seldom_asks_for_no_time(comparison):
    rare = replace(
        comparison.tetrahedral_order["O"], mean=comparison.tetrahedral_order["O"].mean.untested(Reason.TOO_RARE)
    )
    found = judge(replace(comparison, tetrahedral_order={"O": rare}, findings=()))
    assert found.agrees is True
    assert verdict(found)[-1] == "Too rare or too constant to be tested: the tetrahedral order of O."
