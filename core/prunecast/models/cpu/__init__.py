"""Faster forward passes on CPUs: block attention, RMS norms, and settings of the memory allocator."""
