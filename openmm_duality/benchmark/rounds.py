"""Timing several subjects at one size, by turns: a machine that is busy for a while is so for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from openmm_duality.benchmark.processes import Worker
from openmm_duality.benchmark.results import Row
from openmm_duality.benchmark.subjects import Subject
from openmm_duality.errors import DualityError


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Parameters
    ----------
    repeats : int
        Blocks of steps of every row.
    warm_up : int
        Steps before the first block; a row spends at most a third of its budget on them.
    steps : int
        Of a block, at least, so that a neighbour list is built in every block as often as in any other.
    seconds : float
        Length of a block of quick steps.
    budget : float
        Seconds after which a row has no more repeats. The first one is always made, shortened to fit.
    """

    repeats: int = 9
    warm_up: int = 50
    steps: int = 40
    seconds: float = 0.5
    budget: float = 60.0

    def block(self, seconds_per_step: float) -> int:
        """Steps of a block."""
        fits = int(self.budget / seconds_per_step)
        return max(1, min(fits, max(self.steps, round(self.seconds / seconds_per_step))))


@dataclass
class _Turn:
    """One subject's part in the rounds."""

    subject: Subject
    worker: Worker
    facts: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    blocks: list[float] = field(default_factory=list)  # ms per step
    spent: float = 0.0  # s
    memory: float | None = None
    error: str = ""

    def row(self, molecules: int, atoms: int) -> Row:
        s = self.subject
        facts = {"precision": None, **self.facts}
        model = Path(s.model).name
        blocks = () if self.error else tuple(self.blocks)
        return Row(
            s.what,
            s.platform,
            s.backend,
            molecules,
            atoms,
            model,
            blocks,
            self.steps,
            facts,
            None,
            self.memory,
            self.error,
        )


def time_by_turns(
    subjects: Sequence[Subject],
    start: str | Path,
    molecules: int,
    atoms: int,
    effort: Effort,
    progress: bool = False,
) -> list[Row]:
    """The cost of a step of several subjects with the same atoms, each in a process of its own.

    All are made and warmed up, one after the other; then the first has its first block of steps, the second its first,
    and so on, until every one has had its repeats or used up its budget.

    Parameters
    ----------
    subjects : sequence of Subject
    start : path
        As `save_start` wrote it.
    molecules, atoms : int
        Of the start.
    effort : Effort
    progress : bool
        Whether to show a bar.

    Returns
    -------
    list of Row
        In the order of the subjects; one that failed says why.
    """
    with ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(total=len(subjects) * (effort.repeats + 1), desc=f"{atoms} atoms", disable=not progress, leave=False)
        )
        turns = []
        for subject in subjects:
            turn = _Turn(subject, stack.enter_context(Worker()))
            _attempt(turn, lambda turn=turn: _begin(turn, start, effort))
            turns.append(turn)
            bar.update()
        for _ in range(effort.repeats):
            for turn in turns:
                if not turn.error and turn.spent < effort.budget:
                    _attempt(turn, lambda turn=turn: _block(turn))
                bar.update()
        for turn in turns:
            if not turn.error:
                _attempt(turn, lambda turn=turn: _finish(turn))
    return [turn.row(molecules, atoms) for turn in turns]


def _attempt(turn: _Turn, action: Any) -> None:
    try:
        action()
    except DualityError as error:
        turn.error = str(error)
        turn.worker.close()  # what it holds is of use to the others


def _begin(turn: _Turn, start: str | Path, effort: Effort) -> None:
    turn.facts = turn.worker.call("make", subject=asdict(turn.subject), start=str(start))
    warm = turn.worker.call("warm_up", steps=effort.warm_up, seconds=effort.budget / 3)
    turn.steps = effort.block(warm["seconds"])


def _block(turn: _Turn) -> None:
    seconds = turn.worker.call("block", steps=turn.steps)["seconds"]
    turn.blocks.append(1e3 * seconds / turn.steps)
    turn.spent += seconds


def _finish(turn: _Turn) -> None:
    turn.memory = turn.worker.call("finish")["memory"]
