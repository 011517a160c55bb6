"""Showing a comparison: on the terminal, as a page, with charts."""
