"""Parts of variational autoencoders.

Counterpart: ``cle/models/vae/__init__.py``, which is empty.
"""
