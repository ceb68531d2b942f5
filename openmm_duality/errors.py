"""The package's exception class, for mistakes that the user can correct."""


class DualityError(Exception):
    """A mistake that the user can correct; the command line prints the message and exits with code 2.

    The message says what was read, what was expected, and what to do.
    """
