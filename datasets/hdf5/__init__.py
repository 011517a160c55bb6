"""HDF5 layouts of the two data sets, with writers, statistics and checks of files to be read."""
