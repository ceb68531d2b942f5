"""What can be known about GPUs without one: where tensors are made, and how often the processor waits for them."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import numpy as np
import openmm as mm
import pytest
from openmm import app

from openmm_duality.errors import DualityError
from openmm_duality.lowering import dependencies
from openmm_duality.lowering.backends import computing_device, select_backend
from tests.systems import CELL, random_losses, random_positions, random_species

torch = pytest.importorskip("torch")
torchscript = pytest.importorskip("openmm_duality.lowering.torchscript")

SPECIES = random_species(30)
MADE_FROM_NOTHING = ("arange", "empty", "eye", "full", "linspace", "ones", "tensor", "zeros")


def nodes(block):
    """All nodes of a graph of TorchScript, those within its branches and loops too."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from nodes(inner)


@pytest.mark.parametrize("form", ["coupled", "channels"])
def test_every_tensor_that_a_module_makes_has_a_device_given(form):
    """One that has none is on the CPU, and does not meet those on a GPU."""
    module, checked = torchscript.compile_losses(random_losses(form), SPECIES, "single"), 0
    for node in nodes(module.inlined_graph):
        if node.kind().removeprefix("aten::") in MADE_FROM_NOTHING:
            names = [argument.name for argument in torch._C.parse_schema(node.schema()).arguments]
            device = list(node.inputs())[names.index("device")]
            assert device.type().kind() != "NoneType", node
            checked += 1
    assert checked > 5


def waits(form, copies):
    """How often a step would wait for a GPU: for a number, or for the size of a result; and all operations."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.calls = Counter()

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            name = function._schema.name
            if name != "aten::repeat_interleave" or (options or {}).get("output_size") is None:
                self.calls[name] += 1
            return function(*arguments, **(options or {}))

    shifts = np.stack(np.meshgrid(*3 * [np.arange(copies)], indexing="ij"), axis=-1).reshape(-1, 3) @ CELL
    positions = (random_positions(30, CELL) + shifts[:, None]).reshape(-1, 3)
    module = torchscript.LossesModule(random_losses(form), SPECIES * len(shifts), "single")
    module.chunks = (torchscript.CHUNK_ON_DEVICE,) * 2
    counting = Counting()
    with torch.no_grad(), counting:
        module(torch.tensor(positions), torch.tensor(copies * CELL))
    waiting = ("aten::_local_scalar_dense", "aten::nonzero", "aten::repeat_interleave")
    return {name: counting.calls[name] for name in waiting}, sum(counting.calls.values())


def test_a_step_waits_for_a_gpu_a_few_times_whatever_the_number_of_atoms():
    """Numbers that are asked of boxes, which are on the CPU, are among them here."""
    small, launched = waits("moment", 1)
    assert small["aten::nonzero"] == 1
    assert small["aten::repeat_interleave"] == 0
    assert small["aten::_local_scalar_dense"] <= 8
    assert launched < 400
    large, _ = waits("moment", 4)  # 1,920 atoms, by cells
    assert large["aten::repeat_interleave"] == 0


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
