"""CamVid's classes as those of Cityscapes, which street networks answer with."""

from __future__ import annotations

CAMVID = (10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 18)
"""The Cityscapes class each of CamVid's 11 classes is trained as: the heads keep their meaning and their width."""
CAMVID_MERGE = ((3, 2), (6, 7), (9, 8), (12, 18), (17, 18), (14, 13), (15, 13), (16, 13))
"""Cityscapes classes CamVid does not tell apart: wall, traffic light, terrain, rider, motorcycle, truck, bus, train."""
