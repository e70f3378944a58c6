"""The bundled plugins, registered in the same way as third-party plugins."""
