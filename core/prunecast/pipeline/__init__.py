"""One module a stage of a run, and the runner that strings them together."""
