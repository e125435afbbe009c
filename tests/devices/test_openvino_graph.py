"""Layers and types that OpenVINO's runtime graph notes, read without OpenVINO."""

from types import SimpleNamespace

from hwnas.devices._openvino_graph import float_convolutions, layer_counts


def _layer(kind, primitive, *, precision="", names=""):
    notes = {"layerType": kind, "primitiveType": primitive, "runtimePrecision": precision, "originalLayersNames": names}
    told = {key: SimpleNamespace(astype=lambda _, value=value: value) for key, value in notes.items() if value}
    return SimpleNamespace(get_rt_info=lambda: told, get_friendly_name=lambda: f"node of {kind}")


def test_layers_are_counted_with_the_type_their_kernel_computes_in():
    layers = [
        _layer("Convolution", "brgconv_avx512_dw_I8", precision="u8"),
        _layer("Convolution", "brgconv_avx512_1x1_I8", precision="u8"),
        _layer("Subgraph", "jit_avx512_f32", precision="u8"),
    ]
    assert layer_counts(layers) == {"Convolution_i8": 2, "Subgraph_f32": 1}


def test_a_kernel_that_does_not_tell_its_type_has_that_of_its_tensors():
    assert layer_counts([_layer("Convolution", "convolution_gpu_os_iyx_osv16", precision="f16")]) == {
        "Convolution_f16": 1
    }


def test_what_computes_nothing_is_left_out():
    layers = [
        _layer("Input", "unknown_f32"),
        _layer("Const", "unknown_i8"),
        _layer("Reshape", "unknown_I8", precision="u8"),
        _layer("Output", "unknown_f32"),
    ]
    assert not layer_counts(layers)


def test_float_convolutions_go_by_their_first_name_in_the_file():
    layers = [
        _layer("Convolution", "brgconv_avx512_f32", names="/block/conv/Conv,/block/act/Clip"),
        _layer("FullyConnected", "gemm_mlas_f32"),
        _layer("Convolution", "brgconv_avx512_I8", names="quantized"),
        _layer("Reduce", "jit_avx512_f32", names="pool"),
    ]
    assert float_convolutions(layers) == ("/block/conv/Conv", "node of FullyConnected")
