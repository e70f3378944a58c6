"""The first spec of a model: what is at hand is looked at, and a commented YAML file is written."""
