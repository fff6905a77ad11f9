"""Writers: the intermediate form as bytes of a format, operation by operation."""
