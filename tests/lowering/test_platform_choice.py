"""The platform that is taken where none is named."""

from __future__ import annotations

import openmm as mm

from openmm_duality.lowering.platform_choice import fastest_platform


def test_opencl_is_taken_only_where_its_device_is_no_cpu():
    speeds = {p.getName(): p.getSpeed() for p in map(mm.Platform.getPlatform, range(mm.Platform.getNumPlatforms()))}
    fastest = max(speeds, key=speeds.__getitem__)
    if fastest == "OpenCL":
        system = mm.System()
        for _ in range(2):
            system.addParticle(1.0)
        platform = mm.Platform.getPlatformByName("OpenCL")
        context = mm.Context(system, mm.VerletIntegrator(0.001), platform)
        device = platform.getPropertyValue(context, "DeviceName").lower()  # of PoCL "pthread-…" or "cpu-…"
        if device.startswith(("pthread", "cpu")):
            fastest = "CPU"
    assert fastest_platform() == fastest
