"""Learning dynamics: integrators, systems, reporters, running."""
