"""An emulated ARM processor: the ARM kernels' answers and how many instructions they take. Never how long."""
