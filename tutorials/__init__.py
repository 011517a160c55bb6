"""The original's tutorials, as scripts that run: see docs/tutorials.md."""
