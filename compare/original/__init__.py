"""Beside the original: recording its runs, reading and writing its checkpoints."""
