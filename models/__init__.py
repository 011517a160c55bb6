"""The programs: one model of the paper each."""
