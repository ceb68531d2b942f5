"""Structure and energetics of a run, and their comparison with a reference."""
