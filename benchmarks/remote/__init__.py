"""Stage benchmarks on a device of its own: reached by ssh or adb, measured by the same code, told in the same JSON."""
