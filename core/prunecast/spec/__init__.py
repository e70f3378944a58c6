"""Specs: YAML files that configure a run, validated together with the options of every plugin."""
