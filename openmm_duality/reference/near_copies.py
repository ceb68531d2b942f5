"""Held-out frames that are nearly copies of training frames, as in a trajectory whose frames were shuffled.

Frames are compared by the distances of a fixed sample of pairs of atoms. In a shuffled trajectory a held-out frame has
a few training frames that were its neighbours in time and are much closer than the others, while its neighbours in the
file are not. In a sample of independent frames the nearest are hardly closer than the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.reference.frames import Frames, evenly_spaced
from openmm_duality.reference.mixed_frames import AnyFrames
from openmm_duality.units import ANGSTROM

_CLOSE = 0.45  # of the typical distance between frames: the nearest training frame of a shuffled trajectory
_STANDS_OUT = 2.2  # ratio of the distance of the twentieth nearest training frame to that of the nearest
_THINNED = (1, 2, 5)  # of frames close in time even the twentieth nearest is a neighbour in time: every so many of them
_UNORDERED = 0.8  # of the typical distance: successive frames of a file that is not in the order of time
_SAME, _COPIES = 1e-4, 0.05  # of the typical distance, between copies; fraction of held-out frames that is noticed
_NEXT = 20
_PAIRS, _NUMBERS = 300, 3_000_000  # pairs of atoms at most, and distances of all frames
_TESTED, _COMPARED = 60, 200  # held-out frames, and training frames for the typical distance
_FEWEST = 50  # training frames


@dataclass(frozen=True)
class TrainingDistance:
    """How far held-out frames are from training frames: root mean square differences of interatomic distances.

    Parameters
    ----------
    nearest, twentieth : float
        Medians over held-out frames of the distances to the nearest and the twentieth nearest training frame, in Å.
    successive : float
        Median distance between successive held-out frames, in Å.
    typical : float
        Median distance between two training frames, in Å.
    copies : float
        Fraction of the held-out frames that are in the training frames too.
    stands_out : float
        Ratio of the twentieth nearest to the nearest distance, or the largest with fewer training frames.
    """

    nearest: float
    twentieth: float
    successive: float
    typical: float
    copies: float
    stands_out: float

    @property
    def repeated(self) -> bool:
        """Whether held-out frames are copies of training frames."""
        return self.copies > _COPIES

    @property
    def shuffled(self) -> bool:
        """Whether the frames look like a shuffled trajectory, so that held-out frames are nearly training frames."""
        close = self.nearest < _CLOSE * self.typical and self.stands_out > _STANDS_OUT
        return close and self.successive > _UNORDERED * self.typical

    @property
    def doubtful(self) -> bool:
        """Whether the errors of held-out frames are too small: the text says why."""
        return self.shuffled or self.repeated

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        judged = {"shuffled": self.shuffled, "repeated": self.repeated}
        return {**vars(self), **judged, "units": {"distance": "angstrom"}}

    def __str__(self) -> str:
        if self.repeated:
            return (
                f"{100.0 * self.copies:.0f} % of the held-out frames are copies of training frames, so that their "
                "errors say nothing about other frames; leave out what is in the data twice, or test on separate data."
            )
        return (
            f"The frames look like a trajectory whose frames were shuffled: held-out frames are {self.nearest:.3f} Å "
            f"from the nearest training frame, where frames are {self.typical:.3f} Å apart (root mean square of "
            "interatomic distances). Their errors are nearly those of training frames; test on frames of another time, "
            "or on separate data."
        )


def training_distance(train: AnyFrames, test: AnyFrames) -> TrainingDistance | None:
    """Distance of held-out frames from training frames, for the composition that most held-out frames have.

    None if there are too few frames of it to say, or if they have times, so that they are known to be apart.
    """
    known = {(part.species, part.cells is None): part for part in train.parts}
    shared = [part for part in test.parts if (part.species, part.cells is None) in known and part.n_atoms > 1]
    if not shared:
        return None
    held_out = max(shared, key=len)
    training = known[held_out.species, held_out.cells is None]
    if len(training) < _FEWEST or len(held_out) < 2 or float(np.ptp(held_out.times)) > 0.0:
        return None
    n_pairs = int(np.clip(_NUMBERS // len(training), 30, _PAIRS))
    ours, theirs = _distances(training, n_pairs), _distances(held_out, n_pairs)
    scale = np.sqrt(ours.shape[1]) * ANGSTROM
    sample = ours[evenly_spaced(len(ours), _COMPARED)]
    between = cdist(sample, sample)[np.triu_indices(len(sample), 1)]
    tested = theirs[evenly_spaced(len(theirs), _TESTED)]
    apart = cdist(tested, ours)
    thinned = [apart[:, ::every] for every in _THINNED if len(ours) >= every * _FEWEST]
    ranks = [np.median(np.partition(one, (0, _NEXT - 1), axis=1)[:, [0, _NEXT - 1]], axis=0) / scale for one in thinned]
    nearest, twentieth = map(float, ranks[0])
    successive = np.linalg.norm(np.diff(theirs, axis=0), axis=1)
    after, typical = (float(np.median(values) / scale) for values in (successive, between))
    copies = float(np.mean(apart.min(axis=1) / scale < _SAME * typical))
    stands_out = max(float(far / (max(near, _SAME * typical) or 1.0)) for near, far in ranks)
    return TrainingDistance(nearest, twentieth, after, typical, copies, stands_out)


def _distances(frames: Frames, n_pairs: int) -> FloatArray:
    """Distances of the sample of pairs of atoms in every frame, shape (T, P) in nm."""
    i, j = np.triu_indices(frames.n_atoms, 1)
    chosen = np.random.default_rng(0).permutation(len(i))[:n_pairs]
    vectors = frames.positions[:, j[chosen]] - frames.positions[:, i[chosen]]
    if frames.cells is not None:
        vectors = np.array([minimum_image(v, frames.cell(t)) for t, v in enumerate(vectors)])
    return np.asarray(np.linalg.norm(vectors, axis=-1))
