"""The stage that measures: exact counts of a network or an artifact, and how long it takes, with the raw samples.

>>> from lightseg.benchmarks.counting.model import count_model
>>> count_model(create_model("sinet"), (224, 224)).macs
63870448
"""
