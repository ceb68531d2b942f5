"""What can be known about GPUs without one: where tensors are made, and how often the processor waits for them."""

from __future__ import annotations

from dataclasses import fields
from functools import partial

import numpy as np
import openmm as mm
import pytest
import torch
from openmm import app

from openmm_duality.errors import DualityError
from openmm_duality.losses import FORMS
from openmm_duality.lowering import dependencies, torch_neighbours, torchscript
from openmm_duality.lowering.backends import computing_device, select_backend
from openmm_duality.lowering.dependencies import prepare_torch
from tests.lowering.emulated_gpu import OnGPU, emulated_gpu, to_gpu
from tests.systems import CELL, alternated, random_losses, random_positions, random_species

SPECIES = random_species(30)


def emulated(losses, positions, cell, *, positions_on_gpu, precision="single"):
    """Largest difference of forces on the emulated GPU from those on the CPU, relative to the largest, and counts."""
    module = torchscript.LossesModule(losses, SPECIES, precision)
    with torch.no_grad():
        _, expected = module(torch.tensor(positions), None if cell is None else torch.tensor(cell))
    given = [None if one is None else torch.tensor(one) for one in (positions, cell)]
    with emulated_gpu() as gpu:
        if positions_on_gpu:
            given = [None if one is None else OnGPU(one) for one in given]
        _, forces = to_gpu(module)(*given)
        assert isinstance(forces, OnGPU) == positions_on_gpu
        forces = forces.inner if positions_on_gpu else forces
    return float((forces - expected).abs().max() / expected.abs().max()), gpu


@pytest.mark.parametrize(("form", "gradient"), [*alternated(FORMS), ("coupled", "mutual"), ("channels", "collective")])
def test_forces_on_a_gpu_are_those_on_the_cpu_and_the_processor_waits_a_few_times(form, gradient):
    difference, gpu = emulated(random_losses(form, gradient), random_positions(30, CELL), CELL, positions_on_gpu=True)
    assert difference < 1e-5
    assert 0 < gpu.waits.total() <= 5
    assert gpu.operations > 50


@pytest.mark.parametrize("search", ["all pairs", "cells"])
@pytest.mark.parametrize(("cell", "most"), [(None, 6), (CELL, 8), (0.7 * CELL, 13)], ids=["open", "wide", "narrow"])
def test_neighbours_are_found_on_a_gpu_whether_positions_come_from_it_or_not(cell, most, search, monkeypatch):
    cells_from = 10_000 if search == "all pairs" else 0
    monkeypatch.setattr(torchscript, "find_pairs", partial(torch_neighbours.find_pairs, cells_from=cells_from))
    losses, positions = random_losses("moment"), random_positions(30, CELL)
    if cell is not None:
        positions = positions @ np.linalg.inv(CELL) @ cell
    for positions_on_gpu in (True, False):
        difference, gpu = emulated(losses, positions, cell, positions_on_gpu=positions_on_gpu)
        assert difference < 1e-5
        assert 0 < gpu.waits.total() <= most + (0 if positions_on_gpu else 4), gpu.waits


def test_agents_are_evaluated_a_few_at_a_time_and_a_virial_found_on_a_gpu(monkeypatch):
    losses, positions = random_losses("moment"), random_positions(30, CELL)
    module = torchscript.LossesModule(losses, SPECIES)
    expected = module.virial(torch.tensor(positions), torch.tensor(CELL))
    with emulated_gpu():
        virial = to_gpu(module).virial(OnGPU(torch.tensor(positions)), OnGPU(torch.tensor(CELL))).inner
    np.testing.assert_allclose(virial, expected, rtol=1e-12)
    monkeypatch.setattr(torchscript, "CHUNK_ON_DEVICE", 7)
    assert emulated(losses, positions, CELL, positions_on_gpu=True)[0] < 1e-5


def test_the_emulated_gpu_finds_what_a_gpu_would_refuse_or_wait_for():
    ones = torch.ones(3)
    with emulated_gpu() as gpu:
        on_gpu = OnGPU(ones)
        with pytest.raises(RuntimeError, match="two devices"):
            on_gpu + ones
        with pytest.raises(RuntimeError, match="no fixed order"):
            on_gpu.index_add_(0, OnGPU(torch.arange(3)), on_gpu)
        assert not gpu.waits
        assert float(torch.tensor([1.0, 2.0], device="meta").sum()) == 3.0
    assert gpu.waits == {"copy to the GPU": 1, "_local_scalar_dense": 1}


def compiles_for_shapes():
    """Whether TorchScript compiles code for the shapes that it meets, or tries to: pip's torch has no LLVM."""

    @torch.jit.script
    def function(x):
        y = 2.0 * x + 1.0
        return torch.sqrt(y * y + x) * y

    try:
        for n in (5, 5, 5, 6, 7):
            function(torch.rand(n, 3))
    except RuntimeError as error:
        return "LLVM" in str(error)
    return "TensorExpr" in str(torch.jit.last_executed_optimized_graph())


def test_torchscript_compiles_nothing_for_shapes_that_change_at_every_step():
    """As it would on GPUs, and does on CPUs where it is told to."""
    before = torch._C._jit_can_fuse_on_cpu()
    torch._C._jit_override_can_fuse_on_cpu(True)
    try:
        torch.jit.set_fusion_strategy([("STATIC", 2), ("DYNAMIC", 10)])
        assert compiles_for_shapes()
        prepare_torch()
        assert not compiles_for_shapes()
    finally:
        torch._C._jit_override_can_fuse_on_cpu(before)
        prepare_torch()


def test_the_device_of_pythonforce_is_named_and_checked(monkeypatch):
    from openmm_duality.lowering.pythonforce import DEVICE_VARIABLE, device_here

    assert device_here() == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setenv(DEVICE_VARIABLE, "cpu")
    assert device_here() == "cpu"
    assert computing_device("pythonforce", "CUDA") == "CPU (torch)"
    assert computing_device("fused-pythonforce", "CUDA").startswith("CPU")
    for wrong in ("cuda:99", "gpu"):
        monkeypatch.setenv(DEVICE_VARIABLE, wrong)
        with pytest.raises(DualityError, match=f"{DEVICE_VARIABLE} is '{wrong}'"):
            device_here()


@pytest.fixture
def packages(monkeypatch):
    """What is installed, by name: openmm-torch with neither part of the CUDA platform."""
    versions = {"torch": (2, 9), "openmm": (8, 4), "openmmtorch": (1, 5)}
    monkeypatch.setattr(dependencies, "installed", versions.get)
    return versions


def lacking(platform="CUDA"):
    """The message where a platform is asked for that OpenMM does not have."""
    with pytest.raises(DualityError, match=f"there is no '{platform}' here, only ") as refusal:
        dependencies.require_platform(platform)
    return str(refusal.value)


def test_what_the_cuda_platform_lacks_is_named(packages, monkeypatch):
    monkeypatch.setattr(dependencies, "installed_platforms", lambda: ["Reference", "CPU"])
    assert "install" not in lacking("HIP")
    hint = lacking()
    assert "OpenMM-CUDA-12 or -13" in hint
    assert "OpenMM-Torch-CUDA-12 or -13" in hint
    assert dependencies.CUDA_PIP["torchforce"] in hint
    packages["OpenMM-CUDA-12"] = (8, 4)
    assert "OpenMM's CUDA platform" not in lacking()
    packages["OpenMM-Torch-CUDA-13"] = (1, 5)
    assert "a library is missing" in lacking()
    del packages["OpenMM-CUDA-12"], packages["openmmtorch"]
    monkeypatch.setattr(dependencies, "torchforce_problem", lambda: "openmmtorch is not installed")
    assert dependencies.CUDA_PIP["pythonforce"] in lacking()
    assert "OpenMM-Torch" not in lacking()


def test_what_openmm_torch_lacks_is_named_where_openmm_has_the_platform(packages, monkeypatch):
    """Its error alone says that the platform does not support all required kernels."""
    monkeypatch.setattr(dependencies, "installed_platforms", lambda: ["Reference", "CPU", "CUDA"])
    dependencies.require_platform("CUDA")
    error = mm.OpenMMException("a Platform which does not support all required kernels")
    message = str(dependencies.platform_error("CUDA", error))
    assert message.startswith("CUDA cannot run this system: a Platform which does not")
    assert "OpenMM-Torch-CUDA-12 or -13" in message
    assert "OpenMM's CUDA platform (" not in message
    assert dependencies.CUDA_PIP["torchforce"] in message
    assert str(dependencies.platform_error("CPU", error)).endswith("required kernels")
    packages["OpenMM-Torch-CUDA-12"] = (1, 5)
    assert str(dependencies.platform_error("CUDA", error)).endswith("required kernels")


def test_both_ways_to_a_platform_name_what_it_lacks(monkeypatch):
    """The run and the benchmark, where a Context cannot be made, by a platform that cannot run the System."""
    from openmm_duality.benchmark import worker
    from openmm_duality.dynamics.integrators import VerletLearningIntegrator
    from openmm_duality.dynamics.platforms import make_simulation

    monkeypatch.setattr(dependencies, "_missing_packages", lambda platform: f"{platform} lacks something")
    system = mm.System()
    system.addParticle(1.0)
    system.addForce(mm.CustomExternalForce("nothing_that_is_known(x)"))
    system.getForce(0).addParticle(0)
    topology = app.Topology()
    topology.addAtom("Ar", None, topology.addResidue("Ar", topology.addChain()))
    with pytest.raises(DualityError, match=r"Reference cannot run this system: .*; Reference lacks something"):
        make_simulation(topology, system, VerletLearningIntegrator(0.001), "Reference", None)

    def prepare(*_):
        raise mm.OpenMMException("no kernels")

    monkeypatch.setattr(worker, "prepare", prepare)
    monkeypatch.setattr(worker, "load_start", lambda path: None)
    case = {field.name: None for field in fields(worker.Case)} | {"platform": "CUDA"}
    with pytest.raises(DualityError, match="CUDA cannot run this system: no kernels; CUDA lacks something"):
        worker.Commands().prepare(case, "start")


def test_single_precision_is_the_default_of_torchscript_on_gpus_alone():
    assert select_backend("torchscript", platform="CUDA")[1] == "single"
    assert select_backend("torchscript", "double", "CUDA")[1] == "double"
    assert select_backend("torchscript", platform="CPU")[1] == "double"
