"""What the collection of docstrings' examples leaves out: modules for which something is missing here."""

from importlib.util import find_spec

from compvae_fast import _loading

collect_ignore = [] if find_spec("pyro") else ["compvae_fast/pyro.py"]
collect_ignore_glob = ["compvae_fast/numpy/*"] if _loading.reason_missing() else []
