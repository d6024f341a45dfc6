"""Settings, the node's private folder, database sessions and tables."""
