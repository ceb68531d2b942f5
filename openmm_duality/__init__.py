"""Molecular learning dynamics for OpenMM: agent losses inferred from CP2K, run as custom forces."""

__version__ = "0.1.0"
