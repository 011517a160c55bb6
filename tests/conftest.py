"""Settings of all tests."""

import pytensor

# By default PyTensor goes on after a rewriting that failed, and prints why.
pytensor.config.on_opt_error = "raise"
