"""Search: which architectures are measured first, which are proposed next, and how the space is refined."""
