"""HTTP: the node's and the coordinator's FastAPI applications."""
