"""Data sets of the paper, and the commands that build their files."""
