"""The operations inside other people's code: their benchmark suites, and PyTorch Geometric.

Nothing here is imported by the rest of the package; each module imports the other side when it is used.
"""
