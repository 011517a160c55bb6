"""One update of VRNN-GMM by this project and by others, with the same numbers.

Each module defines one class with the same three methods, see `worker.Peer`.
"""
