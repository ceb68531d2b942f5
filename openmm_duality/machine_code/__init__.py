"""Machine code written from Python and compiled for this processor, for the fused kernels and the design rows."""
