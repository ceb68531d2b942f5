"""Design equations, solving, errors."""
