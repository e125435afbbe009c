"""The sections `[model]` and `[model.elastic]` of a configuration: a user's own network, and what may be smaller.

Knows values and their rules; not the network, nor how a file is read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from hwnas._config_sections import DataConfig, TrainConfig, is_function
from hwnas._config_values import ConfigSection, Count, Positive, Text, listed, optional
from hwnas.errors import ConfigError
from hwnas.foreign import as_written
from hwnas.given_inputs import InputShape, parse_inputs


def is_onnx(name: str) -> bool:
    """Whether a network's name means an ONNX file: `onnx:net.onnx`."""
    return name.startswith("onnx:")


def is_source(name: str) -> bool:
    """Whether a name means a network by itself: a function, or an ONNX file."""
    return is_function(name) or is_onnx(name)


def model_name(source: str) -> str:
    """What a network is called: as its function, or as its file."""
    name = source.partition(":")[2]
    return Path(name).stem if is_onnx(source) else name.rpartition(":")[2]


class _Inputs:
    """How inputs are read and written: a list of sizes, a list of such lists, or a text as `parse_inputs` reads it."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._read, serialization=core_schema.plain_serializer_function_ser_schema(cls._written)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        text: JsonSchemaValue = {"type": "string"}
        sizes = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1}
        several = {"type": "array", "items": {"anyOf": [sizes, text]}, "minItems": 1}
        return {"anyOf": [sizes, several, text]}

    @classmethod
    def _read(cls, value: object) -> tuple[InputShape, ...]:
        if isinstance(value, str):
            return parse_inputs(value)
        if isinstance(value, list | tuple) and value:
            several = not any(isinstance(n, int) for n in value)
            return tuple(cls._one(each) for each in (value if several else [value]))
        raise ValueError(
            f"is {value!r}, but should be the sizes of one sample: [3, 224, 224]; of several inputs "
            '[[3, 224, 224], [16]], or "3x224x224,16"; of ids of tokens "128:int64"'
        )

    @staticmethod
    def _one(value: object) -> InputShape:
        if isinstance(value, InputShape):
            return value
        if isinstance(value, str) and "," not in value:
            return parse_inputs(value)[0]
        if not isinstance(value, list | tuple) or not all(type(n) is int for n in value):
            raise ValueError(f"has {value!r}, but sizes are whole numbers: [3, 224, 224]")
        return InputShape(tuple(value))

    @staticmethod
    def _written(inputs: tuple[InputShape, ...]) -> Any:
        each = [list(x.shape) if x.dtype == "float32" else str(x) for x in inputs]
        return each if len(each) > 1 else each[0]


def _shares(value: tuple[float, ...]) -> tuple[float, ...]:
    """Shares of the given network's channels, from few to all.

    Raises:
        ValueError: one is above 1, they do not ascend, or all of them is not among them.
    """
    _ascending(value)
    if value[-1] != 1:
        raise ValueError(f"is {list(value)}, but should end with 1.0: the largest network is the given one")
    return value


def _ascending(value: tuple[float, ...]) -> tuple[float, ...]:
    if any(a >= b for a, b in itertools.pairwise(value)):
        raise ValueError(f"is {list(value)}, but should ascend, each value once")
    return value


def _source(value: str) -> str:
    if not is_source(value):
        raise ValueError(f"is {value!r}, but should be python:module:function or onnx:FILE")
    return value


Inputs = Annotated[tuple[InputShape, ...], _Inputs()]
Shares = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(strict=False, min_length=1)]


class ElasticConfig(ConfigSection):
    """What of the network may be smaller; `hwnas adapt` tells what can."""

    width: Annotated[Shares, AfterValidator(_shares)] = Field(
        default=(0.25, 0.5, 0.75, 1.0), description="shares of the channels and heads inside blocks"
    )
    residual: Annotated[Shares, AfterValidator(_shares)] = Field(
        default=(1.0,), description="shares of the channels that blocks hand on to each other"
    )
    depth: bool = Field(default=True, description="residual branches may be left out")
    kernel: bool = Field(default=True, description="convolutions larger than 3 may become smaller")
    resolutions: Annotated[tuple[Count, ...], AfterValidator(_ascending)] | None = listed(
        "input sides in pixels, ascending, that of the input last; it alone if left out", example="[160, 192, 224]"
    )
    fixed: tuple[Text, ...] = Field(
        default=(), strict=False, description='names of modules that stay as they are: ["head"]'
    )
    multiple_of: Count = Field(default=8, description="widths are multiples of it where the given ones are")


class ModelConfig(ConfigSection):
    """A network of your own, instead of a preset of [space]."""

    source: Annotated[Text, AfterValidator(_source)] = Field(
        description="a function without arguments that gives a torch.nn.Module, or an ONNX file",
        examples=['"python:my_nets:make"', '"onnx:net.onnx"'],
    )
    weights: Text | None = optional(
        "its file of weights, .safetensors or .pth; those that the function gives, or the ONNX file has, if left out",
        example='"trained.safetensors"',
    )
    input: Inputs | None = Field(
        description="one sample, as an ONNX file says it if left out; of several inputs [[3, 224, 224], [16]], of ids "
        'of tokens "128:int64"',
        examples=["[3, 224, 224]", "[[3, 224, 224], [16]]", '"128:int64"'],
    )
    mean: tuple[float, ...] | None = listed(
        "of each channel, of pixels from 0 to 1, as the network was trained; of samples that are no images in their "
        "own units, one number for all channels or one each; the data's own if left out",
        example="[0.485, 0.456, 0.406]",
    )
    std: tuple[Positive, ...] | None = listed("likewise; give both or neither", example="[0.229, 0.224, 0.225]")
    elastic: ElasticConfig = ElasticConfig()

    @model_validator(mode="before")
    @classmethod
    def _as_today(cls, values: Any) -> Any:
        """Only an ONNX file says itself what it takes. Files of earlier versions name the only task there was here.

        Raises:
            ValueError: another one is named here.
        """
        if isinstance(values, Mapping) and "task" in values:
            values = dict(values)
            if (task := values.pop("task")) != "classification":
                raise ValueError(f"task is {task!r}, and what a network is for is said in [task]: name = {task!r}")
        says = isinstance(values, Mapping) and is_onnx(str(values.get("source", "")))
        return {"input": None, **values} if says else values

    @model_validator(mode="after")
    def _weights_of_file(self) -> Self:
        if is_onnx(self.source) and self.weights is not None:
            raise ValueError(
                f"weights is {self.weights!r}, and the weights of an ONNX file are in it; leave out weights, or give "
                "the network as python:module:function"
            )
        return self

    @model_validator(mode="after")
    def _of_images(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("give mean and std, or neither")
        if self.input is not None:  # else the file says it, when the network is adapted
            self.check_input(self.input)
        return self

    def normalisation(self, channels: int, *, are_images: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, where they are given.

        Args:
            channels: of the samples.
            are_images: whether they are pixels, which are from 0 to 1 here.

        Raises:
            ConfigError: they are not as many, or no image's.
        """
        mean, std = self.mean or (), self.std or ()
        if are_images and not all(0 <= m <= 1 for m in mean):
            raise ConfigError(
                f"model.mean is of pixels from 0 to 1, and is {as_written(mean)}; divide mean and std of pixels from 0 "
                "to 255 by 255"
            )
        if not are_images:  # one number for all
            mean, std = (values * channels if len(values) == 1 else values for values in (mean, std))
        if not len(mean) == len(std) == channels:
            raise ConfigError(
                f"model.mean and model.std have {len(mean)} and {len(std)} numbers, and samples have {channels} "
                f"channels; give one each{'' if are_images else ', or one for all'}"
            )
        return mean, std

    def check_input(self, inputs: tuple[InputShape, ...]) -> None:
        """Hold what is said of samples to the network's input.

        Args:
            inputs: one sample of each.

        Raises:
            ValueError: it does not fit.
        """
        shape = inputs[0].shape
        is_image = len(inputs) == 1 and len(shape) == 3
        if not is_image and self.elastic.resolutions:
            raise ValueError(
                "elastic.resolutions are of images, and the input is "
                f"{','.join(map(str, inputs))}; an image is [channels, height, width]"
            )
        if self.elastic.resolutions and shape[1] != shape[2]:
            raise ValueError(f"elastic.resolutions are sides of square images, and the input is {inputs[0]}")
        if self.elastic.resolutions and self.elastic.resolutions[-1] != shape[1]:
            raise ValueError(
                f"elastic.resolutions ends with {self.elastic.resolutions[-1]}, and the input is {inputs[0]}; the "
                "largest network is the given one, so the last must be the input's side"
            )
        channels = shape[0] if len(inputs) == 1 else sum(math.prod(x.shape) for x in inputs)  # of one row
        for name, of_channels in (("mean", self.mean), ("std", self.std)):
            if of_channels is not None and len(of_channels) not in (1, channels):
                raise ValueError(
                    f"{name} has {len(of_channels)} values, and the input {channels} channels; give one each"
                    f"{'' if is_image else ', or one for all'}"
                )


def refuse_without_network(data: DataConfig, train: TrainConfig) -> None:
    """Hold that nothing is asked for that a network must be given for.

    Raises:
        ValueError: something is.
    """
    for key, value, is_asked, why_not in (
        ("train.steps", train.steps, train.steps == 0, "a preset needs 1 or more"),
        ("train.batch_norm", train.batch_norm, train.batch_norm == "frozen", "a preset has no statistics to keep"),
        ("train.feature_weight", train.feature_weight, train.feature_weight > 0, "a preset has no teacher"),
        ("data.labels", data.labels, data.labels == "network", "a preset has no answers before it is trained"),
    ):
        if is_asked:
            raise ValueError(f"{key} is {value!r}, which is for a network that is given trained ([model]); {why_not}")
