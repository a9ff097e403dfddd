"""The two ways a command fails, apart from bugs."""


class BadInput(ValueError):
    """What was asked for cannot be done; the message names the argument, what is right and what came."""


class Failure(RuntimeError):
    """What was asked for is right, and doing it failed: a full disk, a damaged file, a diverged run."""


def check_seed(name: str, seed: int) -> None:
    """BadInput where ``seed``, asked for as ``name``, is no unsigned 64-bit number."""
    if not 0 <= seed < 2**64:
        raise BadInput(f"{name}: expected 0 to 2^64 - 1, got {seed}")
