"""Benchmarks of the programs, alone and beside others; see README.md."""
