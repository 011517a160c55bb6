"""Synthetic corpora that let the programs run without a licence or a download."""
