"""Uncertainty of inferred losses: the committee, the domain, and their calibration."""
