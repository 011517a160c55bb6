"""One update of VRNN-GMM by this project and by others, with the same numbers.

Each module defines a class ``Peer`` with the methods of `worker.Peer`.
"""
