"""YAML files of users: plain data with the place of every value, and problems that name the place."""
