"""The one exception class that the package raises for mistakes a user can mend."""


class DualityError(Exception):
    """What was read, what was expected, and what to do: the command line prints it and exits with code 2."""
