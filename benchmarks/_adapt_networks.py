"""Networks that nobody here made for hwnas, as a sweep over what people bring: name, family, module, inputs.

timm's architectures over its families, in small variants at small resolutions, where timm is at hand (`_timm.py`), and
networks written here in plain torch. No weights are fetched. All numbers are drawn by a seed, those of normalisations
among them: with the ones and zeros that layers begin with, a scale or a shift that is lost would not be noticed.

Knows modules; never what is done with them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

TOKENS, LENGTH = 100, 24  # of texts
_PATCHES = 4  # along each side of an image


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network, made anew whenever it is asked for.

    Attributes:
        name: unique.
        family: of architectures.
        make: the module, with the numbers that torch draws.
        shape: of one sample.
        tokens: inputs are whole numbers below this; 0: floats.
        trained: its numbers stay as they are made.
    """

    name: str
    family: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tokens: int = 0
    trained: bool = False

    def module(self, *, seed: int = 0) -> nn.Module:
        """The module in evaluation mode; no number in it is one that layers begin with."""
        import torch

        if self.trained:
            return self.make().eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.make()
            _draw_(module)
            _settle_(module, self.inputs(8, seed=seed))
        return module.eval()

    def inputs(self, samples: int, *, seed: int = 1) -> Tensor:
        """(samples, *shape): token ids, noise, or images that differ from each other: noise over large patches.

        Plain noise would be alike to networks that average over it, and what follows would normalise rounding.
        """
        import torch
        from torch.nn.functional import interpolate

        generator = torch.Generator().manual_seed(seed)
        shape = (samples, *self.shape)
        if self.tokens:
            return torch.randint(self.tokens, shape, generator=generator)
        noise = torch.randn(shape, generator=generator)
        if len(self.shape) < 3:
            return noise
        patches = torch.randn((*shape[:2], _PATCHES, _PATCHES), generator=generator)
        return interpolate(patches, self.shape[1:], mode="bilinear") + 0.25 * noise


def _draw_(module: nn.Module) -> None:
    """Other numbers for what torch, or the network, begins with constants.

    Shifts of normalisations lead most numbers past the ReLU behind. Around zero each layer would enlarge what differs
    by a fifth, and fifty layers the rounding of a number to all there is; layers that were trained do not. Where the
    normalisation stands behind the activation, the shift is the convolution's before it: with one of its own it would
    push channels of the next layer to where that one's activation gives nothing, whose variance nothing can be divided
    by.
    """
    from torch import nn

    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.affine:
            part.bias.data.uniform_(1.0, 2.0)
    for layer, norm in _around_activations(module):
        layer.data.uniform_(1.0, 2.0)
        norm.data.uniform_(-0.1, 0.1)
    for parameter in module.parameters():
        data = parameter.data
        if data.numel() < 2 or float(data.std()) > 0:  # of a single number nobody can tell
            continue
        if float(data.flatten()[0]) == 0.0:  # shifts, tables of positions, layers that begin as nothing
            data.normal_(0.0, 0.05)
        else:  # scales, those of layers (1e-6) among them
            data.uniform_(0.5, 1.5)


def _around_activations(module: nn.Module) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    """Shifts of a convolution and of the normalisation behind its activation, in a row of a `Sequential`."""
    from torch import nn

    activations = nn.ReLU | nn.ReLU6 | nn.GELU | nn.SiLU | nn.Hardswish
    for sequence in module.modules():
        parts = list(sequence) if isinstance(sequence, nn.Sequential) else []
        for layer, act, norm in zip(parts, parts[1:], parts[2:], strict=False):
            in_a_row = (
                isinstance(layer, nn.Conv2d) and isinstance(act, activations) and isinstance(norm, nn.BatchNorm2d)
            )
            if in_a_row and layer.bias is not None and norm.affine:
                yield layer.bias, norm.bias


def _settle_(module: nn.Module, inputs: Tensor) -> None:
    """Statistics of BatchNorm as the inputs give them, but for some chance: far from 0 and 1, and nothing overflows."""
    import torch
    from torch import nn

    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # of one batch: what it has
        norm.train()
    with torch.no_grad():
        module(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        assert norm.running_mean is not None
        assert norm.running_var is not None
        spread = norm.running_var.sqrt()
        norm.running_mean += 0.2 * spread * torch.randn_like(spread)
        norm.running_var *= torch.empty_like(spread).uniform_(0.7, 1.4)


# ---------------------------------------------------------------- written here

# name -> (family, module of this folder, class, shape of a sample, more)
_OWN: Mapping[str, tuple[str, str, str, tuple[int, ...], Mapping[str, Any]]] = {
    "unet": ("segmentation", "_vision_networks", "UNet", (3, 64, 64), {}),
    "deeplab": ("segmentation", "_vision_networks", "DeepLab", (3, 64, 64), {}),
    "fpn": ("several outputs", "_vision_networks", "FPN", (3, 64, 64), {}),
    "detector": ("several outputs", "_vision_networks", "Detector", (3, 64, 64), {}),
    "shufflenet": ("channel shuffle", "_vision_networks", "ShuffleNet", (3, 64, 64), {}),
    "super_resolution": ("pixel shuffle", "_vision_networks", "SuperResolution", (1, 24, 24), {}),
    "mlperf_resnet8": ("MLPerf Tiny", "_tiny_networks", "ResNet8", (3, 32, 32), {}),
    "mlperf_mobilenet": ("MLPerf Tiny", "_tiny_networks", "MobileNetV1", (3, 96, 96), {}),
    "mlperf_dscnn": ("MLPerf Tiny", "_tiny_networks", "DSCNN", (1, 49, 10), {}),
    "mlperf_autoencoder": ("MLPerf Tiny", "_tiny_networks", "Autoencoder", (640,), {}),
    "keyword_spotter": ("1-D", "_tiny_networks", "KeywordSpotter", (40, 98), {}),
    "text_encoder": ("text", "_text_networks", "TextEncoder", (LENGTH,), {"tokens": TOKENS, "length": LENGTH}),
    "bert_like": ("text", "_text_networks", "BertLike", (LENGTH,), {"tokens": TOKENS, "length": LENGTH}),
    "decoder": ("text", "_text_networks", "LanguageModel", (LENGTH,), {"tokens": TOKENS, "tied": False}),
    "decoder_tied": ("text", "_text_networks", "LanguageModel", (LENGTH,), {"tokens": TOKENS}),
    "decoder_fused": ("text", "_text_networks", "LanguageModel", (LENGTH,), {"tokens": TOKENS, "fused": True}),
}


def own_networks() -> list[Network]:
    """Those written here."""

    def maker(module: str, name: str, options: Mapping[str, Any]) -> Callable[[], nn.Module]:
        return lambda: getattr(importlib.import_module(module), name)(**options)

    return [
        Network(
            name=name,
            family=family,
            make=maker(module, kind, options),
            shape=shape,
            tokens=options.get("tokens", 0),
        )
        for name, (family, module, kind, shape, options) in _OWN.items()
    ]


def trained_networks(resnet8: Path) -> list[Network]:
    """Those of which weights are at hand.

    Args:
        resnet8: file of MLPerf Tiny's, see `_tiny_networks.trained_resnet8`.
    """

    def make() -> nn.Module:
        from _tiny_networks import trained_resnet8

        return trained_resnet8(resnet8)

    return [Network(name="mlperf_resnet8_trained", family="MLPerf Tiny", make=make, shape=(3, 32, 32), trained=True)]


# ---------------------------------------------------------------- timm's

# family -> name -> (side of the images, options): made smaller where a network is large and can be
_TIMM: Mapping[str, Mapping[str, tuple[int, Mapping[str, Any]]]] = {
    "ResNet": {"resnet18": (64, {}), "resnet26d": (64, {}), "resnet26t": (64, {})},
    "ResNeXt": {"resnext26ts": (64, {})},
    "SE-ResNet": {"seresnet18": (64, {})},
    "ECA-ResNet": {"ecaresnet26t": (64, {})},
    "SKNet": {"skresnet18": (64, {})},
    "ResNeSt": {"resnest14d": (64, {})},
    "Res2Net": {"res2net50_14w_8s": (64, {})},
    "RegNet": {"regnetx_002": (64, {}), "regnety_002": (64, {})},
    "MobileNet": {
        "mobilenetv1_100": (64, {}),
        "mobilenetv2_050": (64, {}),
        "mobilenetv3_small_050": (64, {}),
        "mobilenetv4_conv_small_035": (64, {}),
    },
    "MNASNet": {"mnasnet_small": (64, {})},
    "FBNet": {"fbnetc_100": (64, {})},
    "EfficientNet": {"efficientnet_b0": (64, {}), "efficientnet_lite0": (64, {}), "tinynet_e": (64, {})},
    "MixNet": {"mixnet_s": (64, {})},
    "LCNet": {"lcnet_035": (64, {})},
    "HardCoRe-NAS": {"hardcorenas_a": (64, {})},
    "ReXNet": {"rexnet_100": (64, {})},
    "GhostNet": {"ghostnet_050": (64, {}), "ghostnetv2_100": (64, {}), "repghostnet_050": (64, {})},
    "RepVGG": {"repvgg_a0": (64, {})},
    "MobileOne": {"mobileone_s0": (64, {})},
    "VGG": {"vgg11": (64, {"mlp_ratio": 0.125}), "vgg11_bn": (64, {"mlp_ratio": 0.125})},
    "DenseNet": {"densenet121": (64, {})},
    "Inception": {"inception_v3": (128, {}), "inception_v4": (128, {})},
    "Xception": {"legacy_xception": (96, {}), "xception41": (96, {})},
    "HRNet": {"hrnet_w18_small": (64, {})},
    "CSPNet": {"cs3darknet_focus_s": (64, {}), "cspresnet50": (64, {})},
    "DLA": {"dla46_c": (64, {})},
    "SelecSLS": {"selecsls42b": (64, {})},
    "VoVNet": {"ese_vovnet19b_slim_dw": (64, {})},
    "HGNet": {"hgnetv2_b0": (64, {})},
    "DPN": {"dpn48b": (64, {})},
    "NFNet": {"nf_regnet_b0": (64, {})},
    "ConvNeXt": {"convnext_atto": (64, {}), "convnextv2_atto": (64, {}), "inception_next_atto": (64, {})},
    "ConvMixer": {"convmixer_768_32": (64, {})},
    "MambaOut": {"mambaout_femto": (64, {})},
    "StarNet": {"starnet_s050": (64, {})},
    "PoolFormer": {"poolformer_s12": (64, {})},
    "MLP": {"mixer_s16_224": (64, {"img_size": 64}), "resmlp_12_224": (64, {"img_size": 64})},
    "ViT": {
        "vit_tiny_patch16_224": (64, {"img_size": 64, "depth": 4}),
        "deit_tiny_patch16_224": (64, {"img_size": 64, "depth": 4}),
        "deit_tiny_distilled_patch16_224": (64, {"img_size": 64, "depth": 4}),
    },
    "CaiT": {"cait_xxs24_224": (64, {"img_size": 64, "depth": 4})},
    "XCiT": {"xcit_nano_12_p16_224": (64, {"img_size": 64, "depth": 4})},
    "PiT": {"pit_ti_224": (224, {})},
    "TNT": {"tnt_s_patch16_224": (64, {"img_size": 64, "depth": 4})},
    "Swin": {"swin_tiny_patch4_window7_224": (112, {"img_size": 112, "embed_dim": 48, "depths": (2, 2, 2, 2)})},
    "Twins": {"twins_svt_small": (64, {"img_size": 64}), "twins_pcpvt_small": (64, {"img_size": 64})},
    "PVT": {"pvt_v2_b0": (64, {})},
    "CoaT": {"coat_tiny": (64, {"img_size": 64}), "coat_lite_tiny": (64, {"img_size": 64})},
    "LeViT": {"levit_128s": (224, {}), "levit_conv_128s": (224, {})},
    "EfficientViT": {"efficientvit_b0": (64, {}), "efficientvit_m0": (224, {})},
    "MobileViT": {"mobilevit_xxs": (64, {}), "mobilevitv2_050": (64, {})},
    "EdgeNeXt": {"edgenext_xx_small": (64, {})},
    "FastViT": {"fastvit_t8": (64, {}), "fastvit_sa12": (64, {})},
    "EfficientFormer": {"efficientformerv2_s0": (224, {})},
    "RepViT": {"repvit_m0_9": (64, {})},
    "SHViT": {"shvit_s1": (64, {})},
    "TinyViT": {"tiny_vit_5m_224": (224, {})},
    "Visformer": {"visformer_tiny": (64, {"img_size": 64})},
    "BoTNet": {"botnet26t_256": (256, {})},
}


def timm_networks(timm: Any) -> list[Network]:
    """timm's, with ten classes each.

    Args:
        timm: the package.
    """

    def maker(name: str, options: Mapping[str, Any]) -> Callable[[], nn.Module]:
        return lambda: timm.create_model(name, pretrained=False, num_classes=10, **options)

    return [
        Network(name=name, family=family, make=maker(name, options), shape=(3, side, side))
        for family, members in _TIMM.items()
        for name, (side, options) in members.items()
    ]


def chosen(networks: Sequence[Network], text: str) -> list[Network]:
    """Those whose name or family holds a text, whatever its capitals."""
    return [n for n in networks if text.lower() in f"{n.name} {n.family}".lower()]
