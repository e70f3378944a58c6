"""A minimal useful plugin of each kind, one module per kind, as examples and templates.

``prunecast plugins new --kind KIND NAME`` copies one of these modules under the name of your plugin. The examples pass
every check of :mod:`prunecast.testing`; no entry point names them.
"""
