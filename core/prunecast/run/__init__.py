"""A run from its spec to its result: preflight, plan, the stages in order, and exporting a recorded run again."""
