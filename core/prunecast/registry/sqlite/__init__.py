"""The SQLite file of a registry: opening, locking and copying it."""
