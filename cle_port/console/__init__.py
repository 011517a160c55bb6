"""Command lines and progress bars.

No counterpart in the original.
"""
