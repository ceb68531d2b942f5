"""The losses as machine code for this processor."""
