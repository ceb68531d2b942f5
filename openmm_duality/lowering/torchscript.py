"""Losses as the TorchScript module that OpenMM calls: neighbours are found here, forces summed over them.

The module stands alone: a file of it needs neither this package nor Python. Importing this module imports torch.

Index suffixes: i agent, j neighbour, x Cartesian.
"""

from collections.abc import Sequence

import numpy as np
import torch

from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused.checks import LARGEST_FORCE, check_particles
from openmm_duality.lowering.torch_losses import NeighbourLosses
from openmm_duality.lowering.torch_neighbours import find_pairs, neighbour_slots

CHUNK = 256  # agents evaluated together: more overflow the processor's caches, and then the memory
CHUNK_ON_DEVICE = 16384  # the same on a GPU, which fewer would leave idle


class LossesModule(torch.nn.Module):  # type: ignore[misc]
    """Sum of the losses and the forces of a fixed list of atoms.

    Parameters
    ----------
    losses : AgentLosses
    species : sequence of str, length N
        The species of every atom, in the order of the positions or of the particles.
    precision : str
        ``double`` or ``single``: of the arithmetic. Displacements are always taken in double precision.
    particles : sequence of int, length N, optional
        Indices of these atoms among the positions; by default they are all of them.
    """

    # TorchScript reads these, so this module must not postpone its annotations
    starts: list[int]

    def __init__(
        self,
        losses: AgentLosses,
        species: Sequence[str],
        precision: str = "double",
        particles: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.losses = NeighbourLosses(losses, precision)
        self.chunks: tuple[int, int] = (CHUNK, CHUNK_ON_DEVICE)
        self.cutoff: float = losses.cutoff
        self.largest_force: float = LARGEST_FORCE
        self.n_species: int = len(losses.species)
        self.reactions: bool = losses.has_reactions
        self.potential: bool = losses.has_potential
        # agents in the order of their species, where each of them is in it, and where each species begins
        species_index = losses.index_of(species)
        order = np.argsort(species_index, kind="stable")
        self.register_buffer("species_index", torch.tensor(species_index[order]))
        self.starts = [int(k) for k in np.cumsum([0, *np.bincount(species_index, minlength=self.n_species)])]
        indices = check_particles(particles, n_given=len(species))
        self.every_atom: bool = indices is None
        self.last_atom: int = -1 if indices is None else int(indices.max())
        self.register_buffer("by_species", torch.tensor(order if indices is None else indices[order]))
        self.register_buffer("places", torch.tensor(np.argsort(order)))

    def forward(
        self, positions: torch.Tensor, boxvectors: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of losses in kJ/mol and forces (N, 3) in kJ/mol/nm, from positions (N, 3) and box (3, 3) in nm."""
        # TorchForce gives positions that require a gradient, and to record one would cost half as much again; in
        # TorchScript `detach` does not prevent that, and `no_grad` ends the process when an error is raised inside
        given, device = positions.data, self.species_index.device
        # openmm-torch moves the module to a GPU where there is one, and on the OpenCL and CPU platforms leaves the
        # positions on the CPU
        positions = given.to(device)
        # here and not where they are of use: TorchForce drops the functions that are inlined, and an error raised in
        # one of them would look for its name
        problem = self.problem(positions.shape[0])
        if len(problem) > 0:
            raise ValueError(problem)
        # one message from a GPU: whether all is well, and the box, which is wanted on the CPU
        message = torch.isfinite(positions).all().to(torch.float64).reshape(1)
        if boxvectors is not None:
            message = torch.cat([message, boxvectors.to(device, torch.float64).flatten()])
        message = message.cpu()
        if not bool(message[0] > 0.0):
            raise ValueError("a position is not a finite number: the dynamics has blown up; take a shorter time step")
        box = None if boxvectors is None else message[1:].reshape(3, 3)
        energy, forces, _ = self.sums(positions[self.by_species].to(torch.float64), box, False)
        forces.clamp_(-self.largest_force, self.largest_force)
        if self.every_atom:
            of_all = forces.index_select(1, self.places).t().to(given.dtype).contiguous()
        else:
            of_all = torch.zeros_like(positions)
            of_all[self.by_species] = forces.t().to(given.dtype)
        return energy.to(given.device), of_all.to(given.device)

    @torch.jit.export  # type: ignore[untyped-decorator]
    def virial(self, positions: torch.Tensor, boxvectors: torch.Tensor) -> torch.Tensor:
        """W = −∂E/∂ε (3, 3) in kJ/mol of losses with a potential, from positions (N, 3) and box (3, 3) in nm."""
        if not self.potential:
            raise ValueError("a virial needs a potential energy, and these losses have none")
        problem = self.problem(positions.shape[0])
        if len(problem) > 0:
            raise ValueError(problem)
        box = boxvectors.to(torch.float64).cpu()
        return self.sums(positions.data.to(self.by_species.device)[self.by_species].to(torch.float64), box, True)[2]

    def problem(self, n_atoms: int) -> str:
        """Why so many atoms cannot be those of the losses, or an empty string."""
        if n_atoms <= self.last_atom:
            return f"the losses act on atom {self.last_atom}, and there are {n_atoms} atoms"
        if self.every_atom and n_atoms != self.places.shape[0]:
            return f"the losses are of {self.places.shape[0]} atoms, and there are {n_atoms}"
        return ""

    def sums(
        self, positions: torch.Tensor, boxvectors: torch.Tensor | None, with_virial: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sum of losses, forces (3, N) of agents in the order of their species, and virial (3, 3), zero if unwanted.

        The box is on the CPU.
        """
        n_atoms, device = positions.shape[0], positions.device
        i, j, displacement = find_pairs(positions, boxvectors, self.cutoff, self.species_index, self.n_species)
        begins = list(range(0, n_atoms, self.chunks[0] if device.type == "cpu" else self.chunks[1]))
        firsts = [0]
        if len(begins) > 1:
            several: list[int] = torch.searchsorted(i, torch.tensor(begins, device=device)).tolist()
            firsts = several
        begins.append(n_atoms)
        firsts.append(i.shape[0])
        energy = torch.zeros([], dtype=torch.float64, device=device)
        forces = torch.zeros((3, n_atoms), dtype=self.losses.table.dtype, device=device)
        virial = torch.zeros((3, 3), dtype=torch.float64, device=device)
        for c in range(len(begins) - 1):
            begin, end = begins[c], begins[c + 1]
            pairs = slice(firsts[c], firsts[c + 1])
            neighbour, d, neighbour_ends = neighbour_slots(
                begin, end, i[pairs], j[pairs], displacement[:, pairs], self.species_index, self.n_species, self.cutoff
            )
            agent_ends = [min(max(start, begin), end) - begin for start in self.starts]
            found, gradient, sums = self.losses(d, neighbour_ends, self.species_index[begin:end], agent_ends)
            energy += found.sum(dtype=torch.float64)
            forces[:, begin:end] += sums
            if self.reactions:
                reactions = -gradient.flatten(1)
                if device.type == "cpu":
                    forces.scatter_add_(1, neighbour.expand(3, -1), reactions)
                else:  # in a fixed order, so that runs repeat
                    where: list[torch.Tensor | None] = [neighbour]
                    forces.t().index_put_(where, reactions.t(), accumulate=True)
            if with_virial:
                virial -= torch.matmul(gradient.flatten(1).to(torch.float64), d.flatten(1).t())
        return energy, forces, virial


def compile_losses(
    losses: AgentLosses,
    species: Sequence[str],
    precision: str = "double",
    particles: Sequence[int] | None = None,
) -> torch.jit.ScriptModule:
    """The losses of a list of atoms as a TorchScript module.

    Parameters
    ----------
    losses : AgentLosses
    species : sequence of str, length N
    precision : str
        ``double`` or ``single``.
    particles : sequence of int, length N, optional
        Indices of the atoms that the losses act on; by default they are all there are.

    Raises
    ------
    DualityError
        If a species is unknown to the model, the precision is not one of the two, or the particles are wrong.
    """
    return torch.jit.script(LossesModule(losses, species, precision, particles).eval())
