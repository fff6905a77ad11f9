"""TensorRT's networks: typed, parsed by the vendor, compiled ahead of time, and executed without a GPU.

The reference interpreter executes the network the vendor's parser made of our graph, after what the documentation says
each layer means. It makes that half of the proof a check that runs anywhere; it does not know how a GPU rounds, which
kernels the compiler chose, or whether they are right, and it never claims to.
"""
