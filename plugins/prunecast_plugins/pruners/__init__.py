"""Pruners."""
