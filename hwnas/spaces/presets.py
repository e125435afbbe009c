"""Ready-made spaces, by name in the registry. Knows numbers only."""

from __future__ import annotations

from hwnas.spaces.mobilenet import MobileNetSpace, MobileNetSpec
from hwnas.spaces.network import CHANNEL_DIVISOR
from hwnas.spaces.stages import StageSpec, stages_alike
from hwnas.spaces.vision_transformer import TransformerStage, VisionTransformerSpace, VisionTransformerSpec
from hwnas.spaces.vision_transformer_kinds import GELU


def mobilenet_tiny(
    in_channels: int = 3,
    n_classes: int = 10,
    *,
    activation: str | None = None,
    se: bool | None = None,
    channel_divisor: int = CHANNEL_DIVISOR,
) -> MobileNetSpace:
    """For images of 16 to 32 pixels: four stages of one to three blocks, relu6, no squeeze-and-excitation.

    Args:
        in_channels: of the input.
        n_classes: outputs.
        activation: for the whole network instead of relu6.
        se: squeeze-and-excitation in all blocks.
        channel_divisor: channels are rounded to multiples of it.
    """
    return _for_small_images(
        "mobilenet-tiny",
        in_channels,
        n_classes,
        resolutions=(16, 24, 32),
        stem_stride=2,
        stages=(
            # the last two see at most 4 x 4 positions: 7 x 7 kernels would be mostly padding there
            (16, 2, (1, 2, 3), (3, 5, 7)),
            (24, 1, (1, 2, 3), (3, 5, 7)),
            (40, 2, (1, 2, 3), (3, 5)),
            (64, 1, (1, 2, 3), (3, 5)),
        ),
        head_channels=256,
        activation=activation,
        se=se,
        channel_divisor=channel_divisor,
    )


def mobilenet_mini(
    in_channels: int = 3,
    n_classes: int = 10,
    *,
    activation: str | None = None,
    se: bool | None = None,
    channel_divisor: int = CHANNEL_DIVISOR,
) -> MobileNetSpace:
    """For images of 24 to 32 pixels, wide rather than deep, so that int8 is worth it: three stages, relu6.

    Args:
        in_channels: of the input.
        n_classes: outputs.
        activation: for the whole network instead of relu6.
        se: squeeze-and-excitation in all blocks.
        channel_divisor: channels are rounded to multiples of it.
    """
    return _for_small_images(
        "mobilenet-mini",
        in_channels,
        n_classes,
        resolutions=(24, 32),
        stem_stride=2,
        stages=((32, 1, (1, 2), (3, 5)), (64, 2, (1, 2, 3), (3, 5)), (128, 2, (1, 2, 3), (3, 5))),
        head_channels=512,
        activation=activation,
        se=se,
        channel_divisor=channel_divisor,
    )


def mobilenet_small(
    in_channels: int = 3,
    n_classes: int = 10,
    *,
    activation: str | None = None,
    se: bool | None = None,
    channel_divisor: int = CHANNEL_DIVISOR,
) -> MobileNetSpace:
    """For images of 24 to 32 pixels, where a network may take a millisecond: a stem without stride, five stages, relu6.

    About the widths and depths of MobileNetV2 (Sandler et al., 2018, table 2), for small images.

    Args:
        in_channels: of the input.
        n_classes: outputs.
        activation: for the whole network instead of relu6.
        se: squeeze-and-excitation in all blocks.
        channel_divisor: channels are rounded to multiples of it.
    """
    return _for_small_images(
        "mobilenet-small",
        in_channels,
        n_classes,
        resolutions=(24, 32),
        stem_stride=1,
        stages=(
            (24, 2, (1, 2, 3), (3, 5)),
            (40, 1, (1, 2, 3), (3, 5)),
            (80, 2, (1, 2, 3, 4), (3, 5)),
            (112, 1, (1, 2, 3), (3, 5)),
            (160, 2, (1, 2, 3), (3,)),  # 4 x 4 positions: larger kernels would be mostly padding
        ),
        head_channels=640,
        activation=activation,
        se=se,
        channel_divisor=channel_divisor,
    )


def _for_small_images(
    name: str,
    in_channels: int,
    n_classes: int,
    *,
    resolutions: tuple[int, ...],
    stem_stride: int,
    stages: tuple[tuple[int, int, tuple[int, ...], tuple[int, ...]], ...],
    head_channels: int,
    activation: str | None,
    se: bool | None,
    channel_divisor: int,
) -> MobileNetSpace:
    """A space of one activation throughout, relu6 where none is asked for; `stages` as of `stages_alike`."""
    act = activation or "relu6"
    return MobileNetSpace(
        name,
        MobileNetSpec(
            in_channels=in_channels,
            n_classes=n_classes,
            resolutions=resolutions,
            stem_channels=16,
            stem_stride=stem_stride,
            stem_activation=act,
            stages=stages_alike(stages, activation=act, se=bool(se)),
            head_channels=head_channels,
            head_activation=act,
            channel_divisor=channel_divisor,
        ),
    )


_LARGE_STAGES = (  # channels, stride, squeeze-and-excitation, activation, as published
    (24, 2, False, "relu"),
    (40, 2, True, "relu"),
    (80, 2, False, "hswish"),
    (112, 1, True, "hswish"),
    (160, 2, True, "hswish"),
)


def mobilenet_v3_large(
    in_channels: int = 3,
    n_classes: int = 1000,
    *,
    activation: str | None = None,
    se: bool | None = None,
    channel_divisor: int = CHANNEL_DIVISOR,
) -> MobileNetSpace:
    """The space of Once-for-All on MobileNetV3-Large (Cai et al., 2020, section 4.1), with a precision a block.

    A fixed first stage, then five elastic ones, at 128 to 224 pixels in steps of 4.

    Args:
        in_channels: of the input.
        n_classes: outputs.
        activation: for the whole network, instead of relu and hswish; relu6 suits int8.
        se: squeeze-and-excitation in every elastic stage or in none, instead of stages 2, 4 and 5.
        channel_divisor: channels are rounded to multiples of it.
    """
    stages = [
        StageSpec(  # without a choice: as published, the first block of MobileNetV3 does not expand
            channels=16,
            stride=1,
            depths=(1,),
            kernel_sizes=(3,),
            expand_ratios=(1,),
            activations=(activation or "relu",),
        )
    ]
    for channels, stride, with_se, act in _LARGE_STAGES:
        stages.append(
            StageSpec(
                channels=channels,
                stride=stride,
                depths=(2, 3, 4),
                kernel_sizes=(3, 5, 7),
                expand_ratios=(3, 4, 6),
                activations=(activation or act,),
                se=(with_se if se is None else se,),
            )
        )
    return MobileNetSpace(
        "mobilenet-v3-large",
        MobileNetSpec(
            in_channels=in_channels,
            n_classes=n_classes,
            resolutions=range(128, 225, 4),  # 25 of them, 224 included
            stem_channels=16,
            stem_activation=activation or "hswish",
            stages=stages,
            head_channels=960,
            head_features=1280,
            head_activation=activation or "hswish",
            channel_divisor=channel_divisor,
        ),
    )


def vit_tiny(
    in_channels: int = 3, n_classes: int = 10, *, activation: str | None = None, channel_divisor: int = CHANNEL_DIVISOR
) -> VisionTransformerSpace:
    """For images of 16 to 32 pixels: patches of 4 pixels, three to six blocks, at most 0.7 million parameters.

    Args:
        in_channels: of the input.
        n_classes: outputs.
        activation: of the MLPs instead of gelu; relu suits int8.
        channel_divisor: features are rounded to multiples of it.
    """
    stage = TransformerStage(embed_dims=(64, 80, 96), depths=(3, 4, 5, 6), heads=(2, 3), mlp_ratios=(2, 3, 4))
    return VisionTransformerSpace(
        "vit-tiny",
        VisionTransformerSpec(
            in_channels=in_channels,
            n_classes=n_classes,
            resolutions=(16, 24, 32),
            patch_size=4,
            head_width=32,
            activation=activation or GELU,
            stages=[stage],
            channel_divisor=channel_divisor,
        ),
    )


def autoformer_tiny(
    in_channels: int = 3,
    n_classes: int = 1000,
    *,
    activation: str | None = None,
    channel_divisor: int = CHANNEL_DIVISOR,
) -> VisionTransformerSpace:
    """The sizes of AutoFormer-tiny (Chen et al., 2021, table 1), with a precision a slot, also at 160 and 192 pixels.

    Without its relative positions. The features of MLPs are rounded to multiples of 8: of 756, one of the published
    sizes, 760 are made.

    Args:
        in_channels: of the input.
        n_classes: outputs.
        activation: of the MLPs instead of gelu; relu suits int8.
        channel_divisor: features are rounded to multiples of it.
    """
    stage = TransformerStage(embed_dims=(192, 216, 240), depths=(12, 13, 14), heads=(3, 4), mlp_ratios=(3.5, 4))
    return VisionTransformerSpace(
        "autoformer-tiny",
        VisionTransformerSpec(
            in_channels=in_channels,
            n_classes=n_classes,
            resolutions=(160, 192, 224),
            patch_size=16,
            head_width=64,
            activation=activation or GELU,
            stages=[stage],
            channel_divisor=channel_divisor,
        ),
    )


def vit_resnas_tiny(
    in_channels: int = 3,
    n_classes: int = 1000,
    *,
    activation: str | None = None,
    channel_divisor: int = CHANNEL_DIVISOR,
) -> VisionTransformerSpace:
    """Three stages about as ViT-ResNAS-Tiny's space has them (Liao et al., 2021), at 224 and 280 pixels.

    Their widths, heads and depths; the ratios of its MLPs, which are features there; positions are learned once, before
    the first stage.

    Args:
        in_channels: of the input.
        n_classes: outputs.
        activation: of the MLPs instead of gelu; relu suits int8.
        channel_divisor: features are rounded to multiples of it.
    """
    stages = [
        TransformerStage(
            embed_dims=[width * n for n in (160, 192, 224, 256)], depths=depths, heads=heads, mlp_ratios=(2, 3)
        )
        for width, depths, heads in ((1, (4, 5, 6, 7), (2, 3, 4)), (2, (4, 5, 6, 7), (4, 6, 8)), (4, (4,), (8, 10, 12)))
    ]
    return VisionTransformerSpace(
        "vit-resnas-tiny",
        VisionTransformerSpec(
            in_channels=in_channels,
            n_classes=n_classes,
            resolutions=(224, 280),
            patch_size=14,
            head_width=64,
            activation=activation or GELU,
            stages=stages,
            channel_divisor=channel_divisor,
        ),
    )
