"""Specs: YAML files that say what a run does, validated down to every plugin's options."""
