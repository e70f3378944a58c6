"""The plugins that come with prunecast, registered like anyone else's."""
