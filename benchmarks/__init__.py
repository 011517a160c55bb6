"""How fast the programs are, alone and beside others: see README.md."""
