"""Code that every run needs and that says nothing about the models: `Run`, and how programs start.

Resuming, the lock, files, noise streams, devices, opening the data, signals
while compiling.  No counterpart in the original, except where a function names
one.
"""

from models.running.data import BlizzardData, IAMOnDBData
from models.running.program import Program, run_program
from models.running.run import Run

__all__ = ["BlizzardData", "IAMOnDBData", "Program", "Run", "run_program"]
