"""How results are printed, one file a format: `write(result, options)` to standard output."""
