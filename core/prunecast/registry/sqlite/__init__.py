"""The SQLite file underneath a registry: how it is opened, locked and copied."""
