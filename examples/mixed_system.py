"""A learned molecule in classical water: one water molecule by the losses, the others by rigid TIP3P with PME.

python examples/mixed_system.py water.safetensors 20000
"""

import sys

import openmm as mm
from openmm import app, unit

import openmm_duality as duality

model, steps = sys.argv[1], int(sys.argv[2])
forcefield = app.ForceField("amber14/tip3p.xml")
water = app.Modeller(app.Topology(), [] * unit.nanometer)
water.addSolvent(forcefield, boxSize=mm.Vec3(2.0, 2.0, 2.0) * unit.nanometer)
classical = forcefield.createSystem(
    water.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.9 * unit.nanometer, rigidWater=True
)
solute = [atom.index for atom in next(water.topology.residues()).atoms()]
mixed = duality.add_to_system(classical, duality.AgentLosses.load(model), water.topology, solute)
duality.export_system(mixed, "mixed.xml", overwrite=True)

system = duality.load_system("mixed.xml")  # as in another script
integrator = mm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 0.5 * unit.femtosecond)
simulation = app.Simulation(water.topology, system, integrator)
simulation.context.setPositions(water.positions)
simulation.minimizeEnergy(maxIterations=100)
simulation.context.setVelocitiesToTemperature(300 * unit.kelvin)
simulation.step(steps)
positions = simulation.context.getState(positions=True).getPositions(asNumpy=True)[solute]
oxygen, *hydrogens = positions.value_in_unit(unit.angstrom)
lengths = [float(((hydrogen - oxygen) ** 2).sum() ** 0.5) for hydrogen in hydrogens]
print(
    f"{system.getNumParticles() // 3} molecules; O–H bonds of the learned one: {lengths[0]:.3f} and {lengths[1]:.3f} Å"
)
