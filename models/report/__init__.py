"""Reports on runs: tables for the terminal, and a self-contained page with charts.

``svg`` draws and ``document`` lays out; `compare.report` shares both.  ``logs`` reads the
files of runs, ``summary`` says what matters of them, ``terminal`` and ``page`` show it.

No counterpart in the original.
"""
