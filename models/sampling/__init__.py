"""Sampling from checkpoints: loading, generation, pictures, files."""
