"""The schema of a registry file: migrations, views, and the documentation generated from them."""
