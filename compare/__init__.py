"""Compare the port with the original: ``python -m compare``, from a checkout.

==================================  ==========================================
``python -m compare FILE ...``      repeat recordings of the original with the
                                    port and show the first difference
``python -m compare record``        record runs of the original
``python -m compare import``        convert checkpoints of the original to
                                    checkpoints of the port
``python -m compare export``        convert parameters of the port to a file
                                    that the original reads
==================================  ==========================================

``recording`` reads a recording.  ``replay`` repeats a recorded run with the port, and
``verdicts`` compares it.  ``units`` repeats and compares calls of single functions.
``report`` shows comparisons.  ``original`` records the original's runs and converts its
files.

No counterpart in the original.
"""
