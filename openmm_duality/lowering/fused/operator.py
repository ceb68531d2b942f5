"""The fused kernel as an operator of torch, ``openmm_duality::fused``, and a TorchScript module that calls it.

Importing this module imports torch and makes the operator known, which a saved module needs before it is loaded.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import torch

from openmm_duality.lowering.fused.losses import FusedLosses, unpacked

_CACHE_SIZE = 16  # systems whose losses stay unpacked
_unpacked: dict[str, FusedLosses] = {}

_library = torch.library.Library("openmm_duality", "DEF")
_library.define("fused(Tensor positions, Tensor? box, Tensor packed, str key) -> (Tensor, Tensor)")


def fused(
    positions: torch.Tensor, box: torch.Tensor | None, packed: torch.Tensor, key: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of losses in kJ/mol and forces (N, 3) in kJ/mol/nm, from positions (N, 3) and box (3, 3) in nm.

    Parameters
    ----------
    positions, box : tensors
        On any device; the computation is on the CPU.
    packed : tensor of uint8
        What `losses.pack` gives; read once for each key.
    key : str
        The SHA-256 of it.
    """
    losses = _unpacked.get(key)
    if losses is None:
        losses = unpacked(packed.cpu().numpy().tobytes())
        while len(_unpacked) >= _CACHE_SIZE:
            _unpacked.pop(next(iter(_unpacked)))
        _unpacked[key] = losses
    # few operations of torch: beside a kernel that fills the caches each takes several microseconds
    energy, forces = losses(_array(positions), None if box is None else _array(box))
    found = torch.from_numpy(np.array(energy)), torch.from_numpy(forces)
    if positions.is_cpu and positions.dtype == torch.float64:
        return found
    return found[0].to(positions.device), found[1].to(positions)


def _array(tensor: torch.Tensor) -> npt.NDArray[np.float64]:
    return np.asarray(tensor.numpy(force=True), dtype=np.float64)


_library.impl("fused", fused, "CompositeExplicitAutograd")


class FusedLossesModule(torch.nn.Module):  # type: ignore[misc]
    """Sum of the losses and the forces of a fixed list of atoms, by the operator.

    Parameters
    ----------
    packed : bytes
        What `losses.pack` gives.
    """

    key: str

    def __init__(self, packed: bytes) -> None:
        super().__init__()
        self.key = hashlib.sha256(packed).hexdigest()
        self.register_buffer("packed", torch.frombuffer(bytearray(packed), dtype=torch.uint8))

    def forward(
        self, positions: torch.Tensor, boxvectors: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of losses in kJ/mol and forces (N, 3) in kJ/mol/nm, from positions (N, 3) and box (3, 3) in nm."""
        energy, forces = torch.ops.openmm_duality.fused(positions, boxvectors, self.packed, self.key)
        return energy, forces
