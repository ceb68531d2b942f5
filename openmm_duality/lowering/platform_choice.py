"""The platform of OpenMM that is taken where none is named."""

from __future__ import annotations

from ctypes import CDLL, byref, c_uint, c_ulonglong, c_void_p
from ctypes.util import find_library
from functools import cache

import openmm as mm

_GPU, _ACCELERATOR = 1 << 2, 1 << 3  # types of devices of OpenCL


def fastest_platform() -> str:
    """The platform of OpenMM that it calls the fastest, but for OpenCL on a CPU, where the CPU platform is faster."""
    platforms = [mm.Platform.getPlatform(k) for k in range(mm.Platform.getNumPlatforms())]
    by_speed = [str(p.getName()) for p in sorted(platforms, key=lambda p: float(p.getSpeed()), reverse=True)]
    return next(name for name in by_speed if name != "OpenCL" or not _only_cpus())


@cache
def _only_cpus() -> bool:
    """Whether OpenCL has no device but CPUs, as with PoCL; False where that cannot be found out."""
    name = find_library("OpenCL")
    try:
        opencl = CDLL(name) if name else None
    except OSError:
        opencl = None
    if opencl is None:
        return False
    count = c_uint(0)
    opencl.clGetPlatformIDs(0, None, byref(count))
    platforms = (c_void_p * count.value)()
    opencl.clGetPlatformIDs(count, platforms, None)
    found = 0
    for platform in platforms:
        devices = c_uint(0)  # stays zero where the call reports that there are none
        opencl.clGetDeviceIDs(c_void_p(platform), c_ulonglong(_GPU | _ACCELERATOR), 0, None, byref(devices))
        found += devices.value
    return found == 0
