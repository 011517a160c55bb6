"""The two data sets of the paper: readers, builders of their files, and demo corpora."""
