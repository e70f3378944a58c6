"""Writing pruned models in formats that load without prunecast."""
