"""Constants of a kernel: what its loops and registers depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from openmm_duality.machine_code.code import DOUBLE, SINGLE
from openmm_duality.machine_code.machine import register_bytes

BLOCK = 8  # neighbours whose geometry is taken together
GROUP = 16  # coupled invariants that one accumulator holds
TURN = 4  # coupled invariants taken in one turn, each into accumulators of its own
MEMBER_TURN = 8  # coupled invariants of a register of members taken in one turn
BOXES = ("open", "orthorhombic", "triclinic")


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


@dataclass(frozen=True)
class Shape:
    """The constants of one kernel.

    Parameters
    ----------
    species : int
        S.
    fine, coarse : int
        Numbers of radial functions, contracted and coupled.
    ranks : tuple of int
        All ranks of moments.
    contracted, coupled : tuple of int
        Those contracted, and those whose contractions are coupled.
    reactions : bool
        Whether the force on an agent contains what its neighbours lose through its position.
    box : str
        ``open``, ``orthorhombic`` or ``triclinic``.
    precision : str
        ``single`` or ``double``, of all that is not geometry.
    members : int
        Number K of members of a committee whose forces are wanted.
    window : int
        The most fine functions in a row that are not zero in one interval; 0 where all are taken.
    mixed : tuple of int
        Ranks of the channels.
    rows : int
        Most components of all tensors, channels and products, of one agent.
    own : bool
        Whether an agent descends an own part beside what it shares with its neighbours.
    own_fine, own_coarse, own_invariants : int
        The first fine and coarse functions, and the first invariants in the order of the tables, of the own part.
    own_mixed : tuple of int
        Ranks of the channels of the own part.
    """

    species: int
    fine: int
    coarse: int
    ranks: tuple[int, ...]
    contracted: tuple[int, ...]
    coupled: tuple[int, ...]
    reactions: bool
    box: str
    precision: str
    members: int = 0
    window: int = 0
    mixed: tuple[int, ...] = ()
    rows: int = 0
    own: bool = False
    own_fine: int = 0
    own_coarse: int = 0
    own_invariants: int = 0
    own_mixed: tuple[int, ...] = ()

    @property
    def member_descents(self) -> int:
        """Number of losses that are descended, of each member: one, or two with the own part."""
        return 2 if self.own else 1

    @property
    def descents(self) -> int:
        """The same of the losses themselves; beside members only their value is wanted."""
        return 1 if self.members else self.member_descents

    @property
    def dtype(self) -> str:
        """The type of the arithmetic, as NumPy has it."""
        return "<f4" if self.precision == "single" else "<f8"

    @property
    def real(self) -> Any:
        """The type of the arithmetic."""
        return SINGLE if self.precision == "single" else DOUBLE

    @property
    def functions(self) -> int:
        """Number of radial functions n of the moments."""
        return self.fine + self.coarse if self.ranks else 0

    @property
    def lanes(self) -> int:
        """Functions that one register holds."""
        return 16 if self.precision == "single" and self.table_width > 8 else 8

    @property
    def table_width(self) -> int:
        """Functions in a row of the table: those of moments, and with channels the pair part of each descent."""
        return self.functions + self.descents if self.mixed else self.functions

    @property
    def vector(self) -> Any:
        """A register of functions."""
        return ir.VectorType(self.real, self.lanes)

    @property
    def register_of_sums(self) -> Any:
        """What a register of sums ρ is added up in: the large coefficients of coupled ones need double precision."""
        return ir.VectorType(DOUBLE if self.coupled else self.real, self.lanes)

    @property
    def together(self) -> int:
        """Agents whose polynomials are evaluated together, one in each lane of a register; 8 in double precision."""
        return (register_bytes() // 4 if self.precision == "single" else 8) if self.mixed and not self.members else 1

    @property
    def mixing_width(self) -> int:
        """Moments of one component that are mixed, of all neighbour species."""
        return self.species * self.fine

    @property
    def mixed_size(self) -> int:
        """Room for all moments of the agents whose polynomials are evaluated together."""
        return len(self.components) * self.mixing_width * self.together

    @property
    def padded(self) -> int:
        """The functions in a row of the table, filled up to whole registers."""
        return _up(self.table_width, self.lanes)

    @property
    def chunks(self) -> range:
        """First functions of the registers."""
        return range(0, self.padded, self.lanes)

    @property
    def stride(self) -> int:
        """Numbers per interval of the table: four powers of every function, then of the pair parts of all descents."""
        return 4 * (self.padded + self.descents)

    @property
    def components(self) -> list[tuple[int, int]]:
        """(l, m) of every component of the moments."""
        return [(rank, m) for rank in self.ranks for m in range(2 * rank + 1)]

    @property
    def moment_size(self) -> int:
        """Room for the moments of an agent, by component, neighbour species and function."""
        return len(self.components) * self.species * self.padded

    @property
    def padded_components(self) -> int:
        """The components, filled up to whole registers of agents."""
        return _up(len(self.components), self.together)

    def first(self, rank: int) -> int:
        """The first component of a rank."""
        return sum(2 * other + 1 for other in self.ranks if other < rank)

    def of(self, rank: int) -> range:
        """The components of a rank."""
        return range(self.first(rank), self.first(rank) + 2 * rank + 1)

    @property
    def with_coarse(self) -> list[int]:
        """The ranks whose coarse moments take part in the invariants: that of the sums, and the coupled ones."""
        return sorted({0, *self.coupled})

    @property
    def width(self) -> int:
        """Coarse moments of one component, of all neighbour species."""
        return self.species * self.coarse if self.coupled else 0

    @property
    def padded_width(self) -> int:
        """The coarse moments, filled up to whole registers."""
        return _up(self.width, 8)

    @property
    def pairs(self) -> int:
        """Contractions a ≤ b of one rank."""
        return self.width * (self.width + 1) // 2

    @property
    def invariants(self) -> int:
        """Number Q of coupled invariants."""
        return self.width + len(self.coupled) * self.pairs

    @property
    def padded_invariants(self) -> int:
        """Q, filled up to whole groups."""
        return _up(self.invariants, GROUP)

    @property
    def own_coupled(self) -> tuple[int, int]:
        """The invariants of the own part, filled up to whole groups, and to whole turns."""
        return _up(self.own_invariants, GROUP), _up(self.own_invariants, TURN)

    @property
    def phi_size(self) -> int:
        """Room for the sums, the square of all contractions of every coupled rank, and a zero."""
        return self.padded_width * (1 + len(self.coupled) * self.width) + 8

    @property
    def member_lanes(self) -> int:
        """Members that one register holds."""
        return 16 if self.precision == "single" and self.members > 8 else 8

    @property
    def member_vector(self) -> Any:
        """A register of members."""
        return ir.VectorType(self.real, self.member_lanes)

    @property
    def registers(self) -> int:
        """Number of registers that hold all members."""
        return -(-self.members // self.member_lanes)

    @property
    def padded_members(self) -> int:
        """The members, filled up to whole registers."""
        return self.registers * self.member_lanes

    @property
    def member_invariants(self) -> int:
        """Q, filled up to whole turns of members."""
        return _up(self.invariants, MEMBER_TURN)

    def descending(self, rank: int) -> tuple[range, range]:
        """The functions whose moments of a rank take part in the losses: fine ones, within the window, and coarse."""
        fine = range((self.window or self.fine) if rank in self.contracted or rank in self.mixed else 0)
        coarse = self.coupled and (rank == 0 or rank in self.coupled)
        return fine, range(self.fine, self.fine + (self.coarse if coarse else 0))

    def turn(self, rank: int) -> int:
        """Fine functions of a rank whose adjoints are summed in one turn over the moments, for a register of members.

        They share the moments; with their components they have to fit into the registers.
        """
        return max(k for k in range(1, (8, 4, 2, 2)[rank] + 1) if self.fine % k == 0)

    def work(self, capacity: int) -> dict[str, tuple[Any, int]]:
        """Type and length of the arrays that one thread works in; for a committee also those of a register of members.

        Parameters
        ----------
        capacity : int
            The most neighbours of an agent.
        """
        reals = {
            "fraction": capacity,
            "inverse": capacity,
            "slope": capacity * self.descents,
            "unit": 3 * capacity,
            "solid": len(self.components) * capacity,
            "f": self.padded * capacity,
            "df": self.padded * capacity,
            "moments": self.moment_size,
            "adjoint": self.moment_size * self.descents,
            "coarse": len(self.components) * self.padded_width,
            "coarse_adjoint": len(self.components) * self.padded_width,
            "phi": self.phi_size,
            "matrix": self.phi_size * self.descents,
            "slopes_of_phi": self.padded_invariants * self.descents,
        }
        if self.mixed:
            size, descents, rows = self.mixed_size, self.descents, self.rows * self.together
            reals |= {"tensors": rows, "tensor_slopes": rows * descents}
            reals |= {"mixed_moments": size, "mixed_adjoint": size * descents}
            reals |= {"harmonics": self.padded_components * capacity, "pair_forces": 4 * capacity}
            reals["agent_moments"] = self.padded_components * self.mixing_width * self.together
            reals["member_tensor_slopes"] = self.rows * self.member_lanes if self.members else 0
        if self.members:
            reals["member_adjoint"] = self.species * self.functions * len(self.components) * self.member_lanes
            reals["member_slopes"] = self.member_invariants * self.member_lanes
        arrays: dict[str, tuple[Any, int]] = {"displacements": ("<f8", 4 * capacity)}
        arrays |= dict.fromkeys(("neighbours", "intervals"), ("<i4", capacity))
        if self.descents > 1:
            arrays["reached"] = ("<i4", capacity)
        if self.mixed:
            arrays["bounds"] = ("<i4", (self.species + 1) * self.together)
            arrays["distant_neighbours"] = ("<i4", capacity)
            arrays["agent_losses"] = ("<f8", self.together)
        return arrays | {name: (self.dtype, size) for name, size in reals.items()}
