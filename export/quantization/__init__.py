"""int8: which values a network may keep in eight bits, found on photographs and proven on others.

The order of the work: `calibration` reads and splits the photographs, `equalise` evens out the channels (exact),
`ranges` watches the values, `quantise` turns the graph into one whose convolutions read and return numbers of an
eight-bit grid (it still runs in PyTorch: the simulated reference), `selection` leaves layers in float where the
measured loss asks for it, `task_loss` measures what the masks lose, and `plan` puts them together for an export.
"""
