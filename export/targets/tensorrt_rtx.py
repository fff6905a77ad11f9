"""TensorRT-RTX, which compiles without a GPU: a portable engine by default, others by compute capability.

Without a GPU an artifact has three proofs. The vendor's parser reads the network, and the reference interpreter
executes it as parsed against PyTorch; the engines are really compiled, and recorded with version, size and hash; the
compiler's own list of layers says that every one computes in the type that was asked for. That an engine computes on
a GPU what its network says stays unproven, and the record says so. See `lightseg.export.targets.tensorrt`.
"""

from __future__ import annotations

from lightseg.export.targets.tensorrt import target
from lightseg.export.tensorrt.engines import PORTABLE

TENSORRT_RTX = target("tensorrt_rtx", "tensorrt-rtx", (PORTABLE,))
