"""Faster forward passes on CPUs: attention over KV groups, norms in float32, and memory that is kept."""
