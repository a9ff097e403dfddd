"""`make gpu-check`: what a machine with a CUDA device is asked."""
