"""Which frames are held out for testing: the last part of the time, or blocks of the file at random."""

from __future__ import annotations

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray

SPLITS = ("time", "random-blocks")
N_BLOCKS = 20  # of a split by random blocks
_SEED = 1  # makes the choice of blocks reproducible


def check_fraction(test_fraction: float) -> None:
    """Refuse a fraction of held-out frames that is negative, or one or more."""
    if not 0.0 <= test_fraction < 1.0:
        raise DualityError(f"test_fraction: expected a number from 0 to below 1, got {test_fraction}")


def split_by_time(
    count: int, test_fraction: float, times: FloatArray | None = None, gap: float = 0.0
) -> tuple[IntArray, IntArray]:
    """Indices of training and test frames: the last part is held out, and what lies within the gap before it left out.

    Parameters
    ----------
    count : int
        Number of frames, in the order of time or of the file.
    test_fraction : float
        Fraction of the frames behind the training frames, gap included; nothing is held out at 0.
    times : array, shape (T,), optional
        In ps; None for single points, which are split without a gap.
    gap : float
        In ps.

    Raises
    ------
    DualityError
        If nothing would be left to train on or to test on.
    """
    check_fraction(test_fraction)
    first = round((1.0 - test_fraction) * count)
    tested = np.arange(first, count)
    if times is not None and first > 0:
        tested = tested[times[tested] > times[first - 1] + gap]
    if test_fraction and (first < 1 or not len(tested)):
        span = float(times[-1] - times[max(first - 1, 0)]) if times is not None and count else 0.0
        raise DualityError(
            f"{count} frames cannot be split: the last {100 * test_fraction:g} % of them span {span:.4g} ps, "
            f"and the gap before the test frames is {gap:.4g} ps; take a shorter gap, another "
            "test_fraction, or more frames"
        )
    return np.arange(first), tested


def split_by_blocks(count: int, test_fraction: float) -> tuple[IntArray, IntArray]:
    """Indices of training and test frames: of twenty contiguous blocks of the file, some are held out at random.

    The choice is always the same for the same number of frames.

    Raises
    ------
    DualityError
        If nothing would be left to train on or to test on.
    """
    check_fraction(test_fraction)
    blocks = np.array_split(np.arange(count), min(N_BLOCKS, count))
    n_test = round(test_fraction * len(blocks))
    if test_fraction and not 0 < n_test < len(blocks):
        raise DualityError(
            f"{count} frames make {len(blocks)} blocks, of which a test_fraction of {test_fraction:g} holds out "
            f"{n_test}; take another test_fraction, or more frames"
        )
    held_out = set(np.random.default_rng(_SEED).permutation(len(blocks))[:n_test].tolist())
    none = [np.zeros(0, dtype=np.int64)]
    train, test = ([block for k, block in enumerate(blocks) if (k in held_out) is chosen] for chosen in (False, True))
    return np.concatenate(none + train), np.concatenate(none + test)
