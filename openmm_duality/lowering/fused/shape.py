"""What a kernel is written for: the constants that its loops and registers depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openmm_duality.lowering.fused.code import DOUBLE, SINGLE

BLOCK = 8  # neighbours whose geometry is taken together
GROUP = 16  # coupled invariants that one accumulator holds
TURN = 4  # coupled invariants taken in one turn, each into accumulators of its own
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
    collective : bool
        Whether neighbours take part in the descent of an agent's loss.
    box : str
        ``open``, ``orthorhombic`` or ``triclinic``.
    precision : str
        ``single`` or ``double``, of all that is not geometry.
    """

    species: int
    fine: int
    coarse: int
    ranks: tuple[int, ...]
    contracted: tuple[int, ...]
    coupled: tuple[int, ...]
    collective: bool
    box: str
    precision: str

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
        return 16 if self.precision == "single" and self.functions > 8 else 8

    @property
    def padded(self) -> int:
        """The functions, filled up to whole registers."""
        return _up(self.functions, self.lanes)

    @property
    def chunks(self) -> range:
        """Where the registers begin among the functions."""
        return range(0, self.padded, self.lanes)

    @property
    def stride(self) -> int:
        """Numbers per interval of the table: four powers of every function, then of the pair part."""
        return 4 * self.padded + 4

    @property
    def components(self) -> list[tuple[int, int]]:
        """(l, m) of every component of the moments."""
        return [(rank, m) for rank in self.ranks for m in range(2 * rank + 1)]

    def first(self, rank: int) -> int:
        """The first component of a rank."""
        return sum(2 * other + 1 for other in self.ranks if other < rank)

    @property
    def width(self) -> int:
        """Coarse moments of one component, of all neighbour species."""
        return self.species * self.coarse if self.coupled else 0

    @property
    def padded_width(self) -> int:
        """The same, filled up to whole registers."""
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
    def phi_size(self) -> int:
        """Room for the sums, the square of all contractions of every coupled rank, and a zero."""
        return self.padded_width * (1 + len(self.coupled) * self.width) + 8

    def work(self, capacity: int) -> dict[str, tuple[Any, int]]:
        """Type and length of the arrays that one thread works in.

        Parameters
        ----------
        capacity : int
            The most neighbours of an agent.
        """
        reals = {
            "fraction": capacity,
            "inverse": capacity,
            "slope": capacity,
            "unit": 3 * capacity,
            "solid": len(self.components) * capacity,
            "f": self.padded * capacity,
            "df": self.padded * capacity,
            "moments": len(self.components) * self.species * self.padded,
            "adjoint": len(self.components) * self.species * self.padded,
            "coarse": len(self.components) * self.padded_width,
            "coarse_adjoint": len(self.components) * self.padded_width,
            "phi": self.phi_size,
            "matrix": self.phi_size,
            "slopes_of_phi": self.padded_invariants,
        }
        arrays: dict[str, tuple[Any, int]] = {"displacements": ("<f8", 4 * capacity)}
        arrays |= dict.fromkeys(("neighbours", "intervals"), ("<i4", capacity))
        return arrays | {name: ("<f4" if self.precision == "single" else "<f8", size) for name, size in reals.items()}
