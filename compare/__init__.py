"""The port side by side with the original, run as ``python -m compare`` from the checkout.

==================================  ==========================================
``python -m compare FILE ...``      repeat recordings of the original with the
                                    port and show where the numbers part
``python -m compare record``        make such recordings, where the original
                                    runs
``python -m compare import``        turn the original's checkpoints into ours
``python -m compare export``        turn our parameters into what the original
                                    reads
==================================  ==========================================

``recording`` reads a file, ``replay`` repeats its run with the port's programs,
``verdicts`` compares the two, ``report`` shows the result; ``units`` does all of
this for single layers, costs and optimizers; ``original`` runs beside the
original: its recorder, importing, exporting.

No counterpart in the original.
"""
