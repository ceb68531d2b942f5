"""The command line: `openmm-duality VERB …`."""

from __future__ import annotations

import click

import openmm_duality as duality
from openmm_duality.console import Group
from openmm_duality.verbs.benchmark import benchmark
from openmm_duality.verbs.compare import compare
from openmm_duality.verbs.data import evaluate, inspect, reference
from openmm_duality.verbs.infer import infer
from openmm_duality.verbs.simulate import export, simulate


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(duality.__version__, prog_name="openmm-duality")
def main() -> None:
    """Molecular learning dynamics: agent losses inferred from CP2K data, run in OpenMM.

    \b
    A first session:
      openmm-duality inspect  examples/water64-cnnp
      openmm-duality infer    examples/water.yaml -o water.safetensors
      openmm-duality evaluate water.safetensors examples/water64-cnnp
      openmm-duality simulate water.safetensors --start examples/water64-cnnp -o run --time 10
      openmm-duality compare  run examples/water64-cnnp

    DATA is a CP2K project (a folder, or a prefix such as folder/water64), an extended-XYZ file (frames of any
    composition), an .npz file as of MD17 or sGDML, a DeePMD folder, a result of another program (vasprun.xml or OUTCAR
    of VASP, outputs of Quantum ESPRESSO, FHI-aims, CASTEP or GPAW, .traj or .db of ASE) or a saved frames file.
    Bare numbers are in nm, ps, K and kJ/mol; a unit may be written out ("6 angstrom", "0.5 fs").
    """


for verb in (inspect, infer, evaluate, simulate, compare, benchmark, reference, export):
    main.add_command(verb)


if __name__ == "__main__":
    main()
