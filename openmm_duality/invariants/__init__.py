"""Neighbours under periodic boundaries, radial bases, moments."""
