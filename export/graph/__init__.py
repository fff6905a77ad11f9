"""The one intermediate form every target is written from.

A graph is a `torch.fx.GraphModule` in which every node calls a small module of `lightseg.export.graph.ops`: about
fifteen operations, each with its own parameters as float64 buffers. It runs as it stands (so a rewrite is tested by
running it), prints as Python, exports through torch's own exporters, and a module's name tells where in the network
it came from. Plain FX was preferred to a private graph class: it brings users, ordering, dead-code elimination and
tracing for free, and the passes stay ordinary functions.
"""
