"""Extension of griffe for the site: roles of docstrings, such as ``:class:`Budget```, become code."""

import re

from griffe import Extension, Object


class Roles(Extension):
    """Replaces roles, and the two colons before an indented block, in the docstring of every object."""

    def on_object(self, *, obj: Object, **kwargs: object) -> None:
        """Replace those of one object."""
        if obj.docstring:
            text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", obj.docstring.value)
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)
