"""Export of pruned models in formats that load without prunecast."""
