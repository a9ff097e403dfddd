"""The two ways a command fails, apart from bugs."""


class BadInput(ValueError):
    """What was asked for cannot be done; the message names the argument, what is right and what came."""


class Failure(RuntimeError):
    """What was asked for is right, and doing it failed: a full disk, a damaged file, a diverged run."""
