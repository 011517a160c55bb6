"""The port side by side with the original.

==========================================  ==================================
``python -m cle_port.compare FILE ...``     repeat recordings of the original
                                            and show where the numbers part
``python -m cle_port.compare record``       make such recordings, where the
                                            original runs
``python -m cle_port.compare import``       turn its checkpoints into ours
``python -m cle_port.compare export``       turn ours into what it reads
==========================================  ==================================

No counterpart in the original.
"""
