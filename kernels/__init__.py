"""Kernels written in Python: one package for each backend, one file for each operation."""
