"""The operations as Numba kernels, for machines without a compiler: one module for each, as in compvae_fast.native.

The kernels follow csrc/cpu: the same mathematics, blocks, chunks and order of sums.
"""


_OLDEST = (0, 62)


def reason_missing() -> str:
    """Why these kernels cannot be used; empty where they can."""
    try:
        import numba
    except Exception as error:  # numba refuses versions of NumPy by errors of several kinds
        return f"numba cannot be imported: {error}"
    if numba.version_info.short < _OLDEST:
        return f"numba {numba.__version__} is older than {'.'.join(map(str, _OLDEST))}"
    if numba.config.DISABLE_JIT:
        return "NUMBA_DISABLE_JIT switches numba's compiler off"
    return ""
