"""Losses lowered to TorchScript and injected into OpenMM."""
