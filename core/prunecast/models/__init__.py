"""Models: where they come from, how their families are laid out, and the elastic form that is measured."""
