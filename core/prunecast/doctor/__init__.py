"""Whether this machine, its folders and a model are fit for a run; nothing is changed by looking."""
