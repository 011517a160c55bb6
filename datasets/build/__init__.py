"""Builders that turn recordings or IAM-OnDB into training data (``python -m datasets.build``)."""
