"""Comparison: uniform architectures and predictor-free searches at the size of what the search found."""
