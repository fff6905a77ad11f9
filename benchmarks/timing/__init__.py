"""How long a subject takes: fresh pinned processes, the boundaries of their clocks, samples, and what they support."""
