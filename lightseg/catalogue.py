"""The models lightseg knows and the weights there are for each, declared once."""

from __future__ import annotations

from typing import cast

from lightseg.models.c3net import (
    UPSTREAM_C3NET,
    UPSTREAM_C3NETV2,
    UPSTREAM_EXTREMEC3NET,
    C3Net,
    C3NetV2,
    ExtremeC3Net,
)
from lightseg.models.sinet import UPSTREAM_SINET, UPSTREAM_SINET_CITYSCAPES, SINet, SINetCityscapes
from lightseg.spec import CITYSCAPES, PORTRAIT, Figure, ModelSpec, Preprocess, Weights

EXT_PORTRAIT = "https://raw.githubusercontent.com/clovaai/ext_portrait_segmentation/9bc1bad/result/"
C3_SINET = "https://raw.githubusercontent.com/clovaai/c3_sinet/dd91638/result/"
MIT = "MIT, Copyright (c) 2019-present NAVER Corp."
SINET_PAPER = "Park et al., WACV 2020"
EXTREME_PAPER = "Park et al., arXiv:1908.03093"
C3_README = "clovaai/c3_sinet README"
NO_DECONV = "counts a doubled convolution and half of the batch-norm elements and leaves out transposed convolutions"


def _scaled(order_mean: tuple[float, float, float], std: tuple[float, float, float]) -> Preprocess:
    """The authors' ((v − mean) / std) / 255 on BGR pixels, written as one division."""
    return Preprocess("BGR", order_mean, cast(tuple[float, float, float], tuple(s * 255 for s in std)))


LIGHTSEG_LICENCE = (
    "research use: EG1800 is for academic use, Clothing Co-Parsing's repository is Apache-2.0, "
    "the start weights MIT, Copyright (c) 2019-present NAVER Corp."
)
CAMVID_LICENCE = (
    "research use: CamVid comes for personal and research use, non-commercial; "
    "the start weights MIT, Copyright (c) 2019-present NAVER Corp."
)
CAMVID_CLIP = "measured, 101 CamVid images kept for validation, 384x512, dataset mIoU of 11 classes"
HALF = "measured, {} images kept for validation, 224x224, mean per-image IoU of the person"
EG1800_HALF, CCP_HALF = HALF.format("132 EG1800"), HALF.format("100 Clothing Co-Parsing")
EG1800_INPUT = _scaled((107.304565, 115.69884, 132.35703), (63.97182, 65.1337, 68.29726))
UNIT_INPUT = Preprocess(
    "BGR", EG1800_INPUT.mean, cast(tuple[float, float, float], tuple(s / 262 for s in EG1800_INPUT.std))
)
"""EG1800_INPUT without its 1/255: the factor is absorbed in the weights, and inputs have unit scale."""
CITY_INPUT = _scaled((72.3923, 82.9089, 73.1584), (45.3192, 46.1529, 44.9148))
IMAGENET_INPUT = Preprocess("RGB", (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))


def _camvid(model: str, sha256: str, preprocess: Preprocess, *, miou: float, released: float) -> Weights:
    """Weights trained here on CamVid; ``released`` is the mIoU there of the authors' weights they started from."""
    return Weights(
        tag="camvid",
        file=f"{model}_camvid.safetensors",
        sha256=sha256,
        licence=CAMVID_LICENCE,
        origin=f"lightseg, from clova, on CamVid; see pretrained/{model}_camvid.md",
        preprocess=preprocess,
        packaged=True,
        figures={"miou": Figure(miou, "%", CAMVID_CLIP, f"one consecutive clip; the released weights {released:.2f}")},
    )


SINET_SPEC = ModelSpec(
    name="sinet",
    task="portrait",
    build=SINet,
    input_size=(224, 224),
    multiple=32,
    output_stride=1,
    channels=2,
    labels=PORTRAIT,
    params=86_910,
    macs=63_870_448,
    published={
        "params": Figure(0.087e6, "parameters", SINET_PAPER),
        "macs": Figure(0.064e9, "MACs", SINET_PAPER, "printed as FLOPs; they are MACs"),
    },
    upstream_names=UPSTREAM_SINET,
    weights=(
        Weights(
            tag="lightseg",
            file="sinet_lightseg.safetensors",
            sha256="95ed51a36bfe4d3c1e8d2486ea55257de2b87ffb859c95a8cc872c1df5d77f5e",
            licence=LIGHTSEG_LICENCE,
            origin="lightseg, from clova, on EG1800 and Clothing Co-Parsing; see pretrained/sinet_lightseg.md",
            preprocess=UNIT_INPUT,
            packaged=True,
            figures={
                "iou_eg1800": Figure(96.22, "%", EG1800_HALF, "95 % bootstrap interval 95.73 to 96.68"),
                "iou_ccp": Figure(96.54, "%", CCP_HALF, "95 % bootstrap interval 95.91 to 97.07"),
            },
        ),
        Weights(
            tag="clova",
            file="clova_sinet_portrait.pth",
            sha256="d164a9643c6e6765fc6dd4ec73f6018ad2526c21336911b4484715f33e6981a4",
            licence=MIT,
            origin="the authors, on EG1800 and their own portraits",
            preprocess=EG1800_INPUT,
            url=EXT_PORTRAIT + "SINet/SINet.pth",
            figures={"iou": Figure(95.2, "%", f"{SINET_PAPER}, EG1800 test, mean per-image IoU of the person")},
        ),
    ),
)

EXTREMEC3NET_SPEC = ModelSpec(
    name="extremec3net",
    task="portrait",
    build=ExtremeC3Net,
    input_size=(224, 224),
    multiple=4,
    output_stride=1,
    channels=1,
    labels=PORTRAIT,
    params=37_738,
    macs=127_766_912,
    published={
        "params": Figure(0.038e6, "parameters", EXTREME_PAPER),
        "macs": Figure(0.128e9, "MACs", EXTREME_PAPER, "printed as FLOPs; they are MACs"),
    },
    upstream_names=UPSTREAM_EXTREMEC3NET,
    weights=(
        Weights(
            tag="lightseg",
            file="extremec3net_lightseg.safetensors",
            sha256="7468e718a8e4a3fbdd0b05979bd520c10410d174b388f53c78388a802d0668df",
            licence=LIGHTSEG_LICENCE,
            origin="lightseg, from clova, on EG1800 and Clothing Co-Parsing; see pretrained/extremec3net_lightseg.md",
            preprocess=UNIT_INPUT,
            packaged=True,
            figures={
                "iou_eg1800": Figure(95.99, "%", EG1800_HALF, "95 % bootstrap interval 95.48 to 96.47"),
                "iou_ccp": Figure(96.51, "%", CCP_HALF, "95 % bootstrap interval 95.92 to 97.02"),
            },
        ),
        Weights(
            tag="clova",
            file="clova_extremec3net_portrait.pth",
            sha256="52ff1681c7f65899f203106a64562c3a709172f3a65aa1ad5bef7bb9a22a39db",
            licence=MIT,
            origin="the authors, on EG1800 and their own portraits",
            preprocess=EG1800_INPUT,
            url=EXT_PORTRAIT + "ExtremeC3/ExtremeC3.pth",
            figures={"iou": Figure(94.98, "%", f"{EXTREME_PAPER}, EG1800 test, mean per-image IoU of the person")},
        ),
    ),
)

C3NET_SPEC = ModelSpec(
    name="c3net",
    task="street",
    build=C3Net,
    input_size=(512, 1024),
    multiple=8,
    output_stride=1,
    channels=20,
    labels=CITYSCAPES,
    params=191_614,
    macs=3_050_831_872,
    published={
        "params": Figure(0.19e6, "parameters", C3_README),
        "macs": Figure(3.15e9, "MACs", C3_README, f"printed as FLOPs; {NO_DECONV}"),
    },
    upstream_names=UPSTREAM_C3NET,
    weights=(
        Weights(
            tag="clova",
            file="clova_c3net_cityscapes.pth",
            sha256="4f80e0f059e8ca77d0d1029fc66d7f0143ab03e950c2a5550d879cda8cd965a3",
            licence=MIT,
            origin="the authors, on Cityscapes",
            preprocess=CITY_INPUT,
            url=C3_SINET + "C3Net/C3Net_setting2.pth",
            figures={
                "miou_val": Figure(66.87, "%", f"{C3_README}, Cityscapes val"),
                "miou_test": Figure(64.78, "%", f"{C3_README}, Cityscapes test"),
            },
        ),
        _camvid(
            "c3net",
            "5334ac2a0da0136286371c3339b13d57d8038c456ee55f6e561252a5398d0c97",
            CITY_INPUT,
            miou=74.4,
            released=45.24,
        ),
    ),
)

C3NETV2_SPEC = ModelSpec(
    name="c3netv2",
    task="street",
    build=C3NetV2,
    input_size=(512, 1024),
    multiple=8,
    output_stride=1,
    channels=20,
    labels=CITYSCAPES,
    params=187_378,
    macs=2_292_056_064,
    published={
        "params": Figure(0.18e6, "parameters", C3_README, "187,378 cut after two digits instead of rounded"),
        "macs": Figure(2.66e9, "MACs", C3_README, f"printed as FLOPs; {NO_DECONV}"),
    },
    upstream_names=UPSTREAM_C3NETV2,
    weights=(
        Weights(
            tag="clova",
            file="clova_c3netv2_cityscapes.pth",
            sha256="45e2aeeb4ae513746a98a9dd4e59bcf578a614baa9a9e2a97ef6bc9927d235c6",
            licence=MIT,
            origin="the authors, on Cityscapes",
            preprocess=CITY_INPUT,
            url=C3_SINET + "C3NetV2/C3NetV2_setting1.pth",
            figures={
                "miou_val": Figure(66.28, "%", f"{C3_README}, Cityscapes val"),
                "miou_test": Figure(65.48, "%", f"{C3_README}, Cityscapes test"),
            },
        ),
        _camvid(
            "c3netv2",
            "5008a344e0386a9ae1c32c0398708c01a568773d29f03a5643f0038360d12a15",
            CITY_INPUT,
            miou=74.06,
            released=40.65,
        ),
    ),
)

SINET_CITYSCAPES_SPEC = ModelSpec(
    name="sinet_cityscapes",
    task="street",
    build=SINetCityscapes,
    input_size=(1024, 2048),
    multiple=128,
    output_stride=2,
    channels=19,
    labels=CITYSCAPES,
    params=119_418,
    macs=1_388_884_473,
    published={
        "params": Figure(0.12e6, "parameters", C3_README),
        "macs": Figure(
            1.22e9,
            "MACs",
            C3_README,
            "printed as FLOPs; the README's way of counting (half of the batch-norm elements, no transposed "
            "convolutions) gives 1.233 G",
        ),
    },
    upstream_names=UPSTREAM_SINET_CITYSCAPES,
    weights=(
        Weights(
            tag="clova",
            file="clova_sinet_cityscapes.pth",
            sha256="aecc10ab0d8d7b0c3dd86569fc3a3b91b3bd72ca485f96319afb3ef591558dcc",
            licence=MIT,
            origin="the authors, on Cityscapes",
            preprocess=IMAGENET_INPUT,
            url=C3_SINET + "SINet/SINet.pth",
            figures={
                "miou_val": Figure(68.22, "%", f"{C3_README}, Cityscapes val"),
                "miou_test": Figure(66.46, "%", f"{C3_README}, Cityscapes test"),
            },
        ),
        _camvid(
            "sinet_cityscapes",
            "c1466a4c7a270eccf40940ee410724f95a687ca92a7aae8d0ac82a29bc0a50d9",
            IMAGENET_INPUT,
            miou=65.86,
            released=39.09,
        ),
    ),
)

MODELS: dict[str, ModelSpec] = {
    spec.name: spec for spec in (SINET_SPEC, EXTREMEC3NET_SPEC, C3NET_SPEC, C3NETV2_SPEC, SINET_CITYSCAPES_SPEC)
}
