"""The personal adapters of a node's assistants: trained, kept, served and forgotten."""
