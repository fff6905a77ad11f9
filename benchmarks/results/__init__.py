"""What was measured, kept and shown: the rows of one run, their tables, resuming, and changes since another run."""
