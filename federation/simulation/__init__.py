"""Whole federations in one process: the core and the training code of real ones, without HTTP."""
