"""The losses as a calculator of ASE: the structure and the binding energy of the water dimer, and what is uncertain.

python examples/with_ase.py water.safetensors 200
"""

import sys

import ase.build
from ase.optimize import BFGS

import openmm_duality as duality

model, steps = sys.argv[1], int(sys.argv[2])
calculator = duality.DualityCalculator(model)
molecule = ase.build.molecule("H2O", calculator=calculator)
BFGS(molecule, logfile=None).run(0.01, steps)
dimer = ase.build.molecule("H2O")
second = dimer.copy()
second.translate([0.0, 0.0, -2.95])
dimer += second
dimer.calc = calculator
BFGS(dimer, logfile=None).run(0.01, steps)
binding = dimer.get_potential_energy() - 2.0 * molecule.get_potential_energy()
print(f"O–H {molecule.get_distance(0, 1):.3f} Å, H–O–H {molecule.get_angle(1, 0, 2):.1f}°")
print(f"O–O {dimer.get_distance(0, 3):.2f} Å, binding energy {1e3 * binding:.0f} meV")
if "uncertainty" in calculator.implemented_properties:
    print(f"largest predicted error of a force: {calculator.get_property('uncertainty', dimer).max():.2f} eV/Å")
