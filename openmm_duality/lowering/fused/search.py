"""The search for neighbours: candidates from cells, in time proportional to the number of atoms.

Lengths are in units of the grid spacing. A candidate is nearer than a reach, which is the cutoff and a skin; the list
holds until an atom has moved half the skin. In an orthorhombic box the nearest image is found at any distance, so only
the cutoff has to be below half the box; in a triclinic one the reach has to. In narrower boxes the images within reach
are atoms of their own, behind the agents, and there are no boundaries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import shows_one_image, volume, widths
from openmm_duality.geometry.images import images_within
from openmm_duality.lowering.fused import threads
from openmm_duality.lowering.fused.boxes import kind_of, nearest_images, packed
from openmm_duality.lowering.fused.shape import BLOCK
from openmm_duality.machine_code.code import DOUBLE, I32, I64, Code, Variable
from openmm_duality.machine_code.machine import Call, Function

CELLS_PER_ATOM = 2  # at most, so that an almost empty box does not fill the memory


@dataclass(frozen=True)
class Part:
    """Some agents, neighbours in space, with the atoms that are near them and their candidates.

    Parameters
    ----------
    agents : int
        Number n of those agents.
    atoms : array of int64, shape (n + n_near,)
        The agents and the atoms in the cells around them, as indices of the order of all; an agent whose cell is
        shared with another part may occur a second time, where it is never a candidate.
    offsets : array of int64, shape (n·S + 1,)
        Where the candidates of an agent and species begin.
    candidates : array of int32
        Indices of atoms of the part.
    """

    agents: int
    atoms: IntArray
    offsets: IntArray
    candidates: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Candidates:
    """The candidates of all agents: the N atoms, behind which there may be images of them.

    Parameters
    ----------
    agents : int
        Number N of agents.
    order : array of int64, shape (M,)
        The atoms in the order of the cells, then those whose images follow.
    shifts : array, shape (M, 4), or None
        The lattice vectors (x, y, z, 0) by which they are moved, in this order; None where there are no images.
    positions : array, shape (N, 3)
        Where the atoms were.
    box : array, shape (3, 3), or None
        What it was; None where there are images.
    skin : float
        By how much the reach exceeds the cutoff.
    parts : tuple of Part
    most : int
        The most candidates of an agent.
    """

    agents: int
    order: IntArray
    shifts: FloatArray | None
    positions: FloatArray
    box: FloatArray | None
    skin: float
    parts: tuple[Part, ...]
    most: int


def find_candidates(
    positions: FloatArray,
    box: FloatArray | None,
    species_index: IntArray,
    n_species: int,
    cutoff: float,
    skin: float,
    n_threads: int,
) -> Candidates:
    """Candidates within the cutoff and a skin, divided into parts for some threads.

    Parameters
    ----------
    positions : array, shape (N, 3)
        Finite, wrapped or not.
    box : array, shape (3, 3), or None
        Of any width.
    species_index : array of int64, shape (N,)
        Species of every atom.
    n_species : int
    cutoff, skin : float
    n_threads : int
    """
    reach, n_agents = cutoff + skin, len(positions)
    density = 0.0 if box is None else n_agents / volume(box)
    sources, shifts, box = _with_images(positions, box, cutoff, reach)
    all_positions = positions if shifts is None else positions[sources] + shifts
    cell, around = cells(all_positions, box, reach)
    # images are in cells of their own, so that they follow the agents
    cell[n_agents:] += len(around)
    if len(sources) > n_agents:
        around = np.hstack([around, around + np.int32(len(around))]).astype(np.int32)
    key = cell * n_species + species_index[sources]
    order = np.argsort(key, kind="stable")
    n_bins = (int(around.max()) + 1) * n_species
    bins = np.zeros(n_bins + 1, dtype=np.int32)
    np.cumsum(np.bincount(key, minlength=n_bins), out=bins[1:])
    n_atoms = len(order)
    axes = np.zeros((3, n_atoms + BLOCK))
    axes[:, :n_atoms] = all_positions[order].T
    in_order = cell[order].astype(np.int32)
    bounds = np.linspace(0, n_agents, threads.parts_of(n_agents, n_threads) + 1).astype(np.int64).tolist()
    around_parts = [_atoms_around(b, e, in_order, around, bins[::n_species]) for b, e in pairwise(bounds)]
    search = search_function(kind_of(box))
    shared = Call(
        search,
        positions=axes,
        stride=n_atoms + BLOCK,
        box=packed(box),
        cells=in_order,
        shells=around.shape[1],
        species=n_species,
        bins=bins,
        reach=np.array([reach]),
    )
    calls = [
        shared.with_other(
            begin=begin,
            end=end,
            first_cell=int(in_order[begin]) if end > begin else 0,
            around=near,
            index_shifts=index_shifts,
            offsets=np.zeros((end - begin) * n_species + 1, dtype=np.int64),
        )
        for (begin, end), (_, near, index_shifts) in zip(pairwise(bounds), around_parts, strict=True)
    ]
    # somewhat more candidates than an agent has in a homogeneous system; a list that needs more room gets it
    expected = int(min(n_atoms, 32 + 1.15 * density * 4.2 * reach**3))
    room = [expected * (end - begin) for begin, end in pairwise(bounds)]
    while True:
        for call, size in zip(calls, room, strict=True):
            call.set(list=np.empty(size + 2 * BLOCK, dtype=np.int32), room=size, found=np.zeros(1, dtype=np.int64))
        threads.run(search.call, [call.address for call in calls], n_threads)
        found = [int(call["found"][0]) for call in calls]
        if all(number <= size for number, size in zip(found, room, strict=True)):
            break
        room = found
    parts = tuple(
        Part(end - begin, atoms, call["offsets"], call["list"])
        for (begin, end), (atoms, _, _), call in zip(pairwise(bounds), around_parts, calls, strict=True)
    )
    most = max((int(np.diff(part.offsets[::n_species]).max(initial=0)) for part in parts), default=0)
    moved = None if shifts is None else np.pad(shifts[order], [(0, 0), (0, 1)])
    kept = None if box is None else box.copy()
    return Candidates(n_agents, sources[order], moved, positions.copy(), kept, skin, parts, most)


def _with_images(
    positions: FloatArray, box: FloatArray | None, cutoff: float, reach: float
) -> tuple[IntArray, FloatArray | None, FloatArray | None]:
    """Atoms and the images to search with them, as `images_within` gives them, and the box that is then left."""
    if not len(positions) or shows_one_image(cutoff if kind_of(box) == "orthorhombic" else reach, box):
        return np.arange(len(positions)), None, box
    assert box is not None
    return *images_within(positions, box, reach), None


def _atoms_around(
    begin: int, end: int, cell: npt.NDArray[np.int32], around: npt.NDArray[np.int32], firsts: npt.NDArray[np.int32]
) -> tuple[IntArray, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The atoms of a part, as `Part` has them, the cells around those of its agents, and how to index their atoms.

    Parameters
    ----------
    begin, end : int
        The agents of the part.
    cell : array of int32, shape (M,)
        Cells in their order.
    around : array of int32, shape (n_cells, shells)
    firsts : array of int32, shape (n_cells + 1,)
        The first atom of every cell.

    Returns
    -------
    atoms : array of int64
    near : array of int32, shape (cells of the agents, shells)
    index_shifts : array of int32, same shape
        Index among the atoms of the part, less that among all atoms; for atoms that are no agents of the part.
    """
    near = around[cell[begin] : cell[end - 1] + 1] if end > begin else around[:0]
    found, places = np.unique(near, return_inverse=True)
    first, last = firsts[found].astype(np.int64), firsts[found + 1]
    counts = np.where((first >= begin) & (last <= end), 0, last - first)
    shifts = end - begin + np.cumsum(counts) - counts - first
    atoms = np.arange(end - begin, end - begin + counts.sum()) - np.repeat(shifts, counts)
    return np.append(np.arange(begin, end), atoms), near, shifts[places].reshape(near.shape).astype(np.int32)


def cells(positions: FloatArray, box: FloatArray | None, reach: float) -> tuple[IntArray, npt.NDArray[np.int32]]:
    """The cell of every atom, and the cells around every cell, itself among them, each of them once."""
    if not len(positions):
        return np.zeros(len(positions), dtype=np.int64), np.zeros((1, 1), dtype=np.int32)
    if box is None:
        # a box around the atoms, so wide that no image is within reach
        lowest = positions.min(axis=0)
        edges = positions.max(axis=0) - lowest + 2.0 * reach
        fractional, across = (positions - lowest) / edges, edges
    else:
        fractional, across = positions @ np.linalg.inv(box), widths(box)
    fractional -= np.floor(fractional)
    number = np.clip(np.floor(across / reach * (1.0 - 1e-9)), 1, None)
    most = max(27.0, CELLS_PER_ATOM * len(positions))
    while number.prod() > most:
        longest = int(number.argmax())
        number[longest] = max(1.0, number[longest] // 2)
    shape = number.astype(np.int64)
    triple = np.minimum((fractional * shape).astype(np.int64), shape - 1)
    return np.ravel_multi_index(tuple(triple.T), tuple(shape)), _around(tuple(int(k) for k in shape))


@lru_cache(maxsize=8)
def _around(shape: tuple[int, int, int]) -> npt.NDArray[np.int32]:
    steps = [range(-1, 2) if length > 2 else range(length) for length in shape]
    triples = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1)
    columns = [np.ravel_multi_index(tuple(((triples + step) % np.array(shape)).T), shape) for step in product(*steps)]
    return np.ascontiguousarray(np.stack(columns, axis=1), dtype=np.int32)


@cache
def search_function(box: str) -> Function:
    """The function ``search`` of a kind of box: the candidates of the agents `begin` to `end`, species by species.

    Agents and candidates are found among all atoms, and candidates kept by their indices among those of the part.

    Positions are all x, then all y, then all z, with room for a block behind each. Candidates beyond the room of the
    list are counted and not kept; the list has room for two more blocks.
    """
    code = Code("search")
    cells, bins, around, index_shifts = (code.array(name, I32) for name in ("cells", "bins", "around", "index_shifts"))
    listed, offsets = code.array("list", I32), code.array("offsets", I64)
    stride, positions = code.argument("stride"), code.array("positions", DOUBLE)
    axes = [positions.from_index(stride * c) for c in range(3)]
    shells, species, room = (code.argument(name) for name in ("shells", "species", "room"))
    reach = code.array("reach", DOUBLE)[0]
    limit = reach * reach
    nearest = nearest_images(code, box, BLOCK)
    count = Variable(code, I64)
    begin, end = code.argument("begin"), code.argument("end")
    with code.loop(begin, end) as i:
        here = [axis[i] for axis in axes]
        cell = (cells[i].to(I64) - code.argument("first_cell")) * shells
        with code.loop(0, species) as b:
            offsets[(i - begin) * species + b] = count.get()
            with code.loop(0, shells) as shell:
                bin_ = around[cell + shell].to(I64) * species + b
                last, shift = bins[bin_ + 1].to(I64), index_shifts[cell + shell].to(I64)
                with code.loop(bins[bin_], last, BLOCK) as j:
                    x, y, z = nearest([axis.vector(j, BLOCK) - q for axis, q in zip(axes, here, strict=True)])
                    near = (x * x + y * y + z * z).compare("<", limit)
                    index = code.count_up(j, BLOCK)
                    chosen = near.both(index.compare("<", last)).both(index.compare("!=", i))
                    own = index.compare(">=", begin).both(index.compare("<", end))
                    local = own.choose(index - begin, index + shift).to(I32)
                    at = count.get()
                    place = at.compare("<", room).choose(at, room)
                    for k, bit in enumerate(chosen.bits()):
                        listed[place] = local.lane(k)
                        place, at = place + bit, at + bit
                    count.set(at)
    offsets[(end - begin) * species] = count.get()
    code.array("found", I64)[0] = count.get()
    return code.compiled()
