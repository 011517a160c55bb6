"""Tools that work with the original: record its runs, read and write its checkpoints."""
