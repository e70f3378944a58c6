"""Models larger than a device: weights stay memory-mapped as they are stored, and one layer at a time is loaded."""
