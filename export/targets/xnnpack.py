"""What XNNPACK's int8 kernels save and cost, for the targets that run them."""

from __future__ import annotations

from lightseg.export.quantization.scheme import Price

PRICE = Price(dense=0.2, depthwise=0.12, lanes=16, quantise=1.33, dequantise=1.27)
"""XNNPACK on ARM with dot products (Cortex-A76), instructions counted one operator at a time. A map of 32 channels at
56×56, float and int8, in millions: 1×1 convolution 1.21 and 0.48, 3×3 of 16 channels 2.69 and 0.84, depthwise 3×3 0.91
and 0.79 (of 24 channels, 16 and a half vector, the same), 5×5 2.20 and 1.94; QUANTIZE 0.13, DEQUANTIZE 0.13.

What else there is does not pay: of PRELU, LEAKY_RELU, RELU, MAXIMUM, ABS and AVERAGE_POOL_2D in int8 the delegate takes
none, and PRELU's own kernel takes 5.69 where DEQUANTIZE, PRELU and QUANTIZE take 0.53; int8 RESIZE_BILINEAR takes 1.67
for 1.22 in float; int8 weights behind float maps (hybrid) 1.37 for 1.21, depthwise undelegated."""
