"""The smallest useful plugin of each kind, one module a kind: to read, to run, and to start from.

``prunecast plugins new --kind KIND NAME`` copies a module from here under the name of your plugin. They keep every law
of :mod:`prunecast.testing`, and no entry point names them.
"""
