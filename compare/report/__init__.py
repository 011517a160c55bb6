"""Show a comparison on the terminal, and on an HTML page with charts.

No counterpart in the original.
"""
