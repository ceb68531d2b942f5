"""Machine code written from Python and compiled for this processor: what the fused kernels and the design rows share."""
