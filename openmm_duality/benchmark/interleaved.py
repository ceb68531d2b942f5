"""Interleaved timing of the cases of one size, so that a machine that is busy for a while slows all of them alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from openmm_duality.benchmark.cases import Case
from openmm_duality.benchmark.results import Row
from openmm_duality.benchmark.worker import Worker
from openmm_duality.errors import DualityError
from openmm_duality.progress import progress_bar


@dataclass(frozen=True)
class Effort:
    """Number and length of the measurements.

    Parameters
    ----------
    repeats : int
        Blocks of steps of every row.
    warm_up : int
        Steps before the first block; a row spends at most a third of its budget on them.
    steps : int
        Of a block, at least, so that every block builds its neighbour list equally often.
    seconds : float
        Length of a block where steps are fast.
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
class _Timing:
    """One case and its measurements so far."""

    case: Case
    worker: Worker
    facts: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    blocks: list[float] = field(default_factory=list)  # ms per step
    spent: float = 0.0  # s
    memory: float | None = None
    error: str = ""

    @contextmanager
    def ended_by_error(self) -> Iterator[None]:
        """Keep an error in a `with` statement as the reason why there are no times, and end the process."""
        try:
            yield
        except DualityError as error:
            self.error = str(error)
            self.worker.close()  # so that its memory is free for the others

    def row(self, molecules: int, atoms: int) -> Row:
        case = self.case
        facts = {"precision": None, **self.facts}
        blocks = () if self.error else tuple(self.blocks)
        timed = (case.what, case.platform, case.backend, molecules, atoms, Path(case.model).name)
        return Row(*timed, blocks, self.steps, facts, memory=self.memory, error=self.error)


def time_interleaved(
    cases: Sequence[Case],
    start: str | Path,
    molecules: int,
    atoms: int,
    effort: Effort,
    progress: bool = False,
) -> list[Row]:
    """The cost of a step of several cases with the same atoms, each in a process of its own.

    All are prepared and warmed up, one after the other; then every case runs its first block of steps, then every case
    its second, and so on, until each has its repeats or has used up its budget.

    Parameters
    ----------
    cases : sequence of Case
    start : path
        As `save_start` wrote it.
    molecules, atoms : int
        Of the start.
    effort : Effort
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    list of Row
        In the order of the cases; a row that failed says why.
    """
    with ExitStack() as stack:
        bar = stack.enter_context(
            progress_bar(len(cases) * (effort.repeats + 1), f"{atoms} atoms", show=progress, unit="repeat")
        )
        timings = []
        for case in cases:
            timing = _Timing(case, stack.enter_context(Worker()))
            timings.append(timing)
            with timing.ended_by_error():
                timing.facts = timing.worker.call("prepare", case=asdict(case), start=str(start))
                warm = timing.worker.call("warm_up", steps=effort.warm_up, seconds=effort.budget / 3)
                timing.steps = effort.block(warm["seconds"])
            bar.update()
        for _ in range(effort.repeats):
            for timing in timings:
                if not timing.error and timing.spent < effort.budget:
                    with timing.ended_by_error():
                        seconds = timing.worker.call("block", steps=timing.steps)["seconds"]
                        timing.blocks.append(1e3 * seconds / timing.steps)
                        timing.spent += seconds
                bar.update()
        for timing in timings:
            if not timing.error:
                with timing.ended_by_error():
                    timing.memory = timing.worker.call("finish")["memory"]
    return [timing.row(molecules, atoms) for timing in timings]
