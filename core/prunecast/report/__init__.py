"""A finished run as one HTML page and pictures, from the registry alone: no model is loaded, nothing measured."""
