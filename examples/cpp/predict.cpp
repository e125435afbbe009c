// The class of a photo, by a deployment of hwnas and ONNX Runtime alone.
//
//     g++ -std=c++17 -O2 -ffp-contract=off predict.cpp -I $ORT/include -L $ORT/lib -lonnxruntime -o predict
//     ./predict runs/mine/deployments/cpu_best photo.ppm
//
// It prints a line for each class: name, share, logit.
//
// What it does not do: read JPEG. A photo is given as a binary PPM or PGM file, that is, as raw pixels, turned as they
// are to be seen, without transparency; `djpeg photo.jpg` of libjpeg-turbo writes one, and a camera has the like of it in
// memory. It checks no checksum: `hwnas verify` has done that where the deployment comes from.

#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "json.hpp"
#include "preprocessing.hpp"

// ---------------------------------------------------------------- files

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// A binary PPM (P6, red, green, blue) or PGM (P5, grey) file of eight bits a channel.
Bytes read_photo(const std::string& path) {
  const std::string data = read_file(path);
  std::size_t at = 2;
  const auto next_number = [&]() {
    while (at < data.size() && (std::isspace(static_cast<unsigned char>(data[at])) || data[at] == '#')) {
      if (data[at] == '#') at = std::min(data.find('\n', at), data.size() - 1);
      ++at;
    }
    int number = 0;
    for (; at < data.size() && data[at] >= '0' && data[at] <= '9' && number < (1 << 20); ++at) {
      number = 10 * number + (data[at] - '0');
    }
    return number;
  };
  const bool is_colour = data.compare(0, 2, "P6") == 0;
  if (!is_colour && data.compare(0, 2, "P5") != 0) {
    throw std::runtime_error(path + " is no binary PPM or PGM file");
  }
  const int width = next_number(), height = next_number(), largest = next_number();
  ++at;  // the one space after the header
  if (width < 1 || height < 1 || largest != 255) {
    throw std::runtime_error(path + " is not an image of eight bits a channel");
  }
  Bytes photo(height, width, is_colour ? 3 : 1);
  if (data.size() < at || data.size() - at < photo.values.size()) {
    throw std::runtime_error(path + " ends before its pixels do");
  }
  std::memcpy(photo.values.data(), data.data() + at, photo.values.size());
  return photo;
}

// ---------------------------------------------------------------- the artefact's own tensors

// A tensor as the artefact has it: bytes, and what they are.
struct Tensor {
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  std::vector<std::int64_t> shape;
  std::vector<unsigned char> bytes;
};

template <typename T>
void append(Tensor& tensor, T value) {
  const auto* const raw = reinterpret_cast<const unsigned char*>(&value);
  tensor.bytes.insert(tensor.bytes.end(), raw, raw + sizeof(T));
}

// (C, H, W) float -> the artefact's input, with the batch's axis: laid out and quantized as `spec` says.
Tensor to_artefact(const std::vector<float>& input, const Json& shape, const Json& spec) {
  const std::int64_t channels = static_cast<std::int64_t>(shape.items.at(0).number);
  const std::int64_t height = static_cast<std::int64_t>(shape.items.at(1).number);
  const std::int64_t width = static_cast<std::int64_t>(shape.items.at(2).number);
  const bool channels_last = spec.at("layout").text == "NHWC";
  const std::string& dtype = spec.at("dtype").text;
  if (dtype != "float32" && dtype != "int8" && dtype != "uint8") {
    throw std::runtime_error("the artefact takes " + dtype + ", which this program does not know");
  }
  Tensor tensor;
  tensor.type = dtype == "int8"    ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8
                : dtype == "uint8" ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8
                                   : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  if (channels_last) {
    tensor.shape = {1, height, width, channels};
  } else {
    tensor.shape = {1, channels, height, width};
  }
  const float scale = static_cast<float>(spec.at("scale").number);
  const float zero_point = static_cast<float>(spec.at("zero_point").number);
  for (std::size_t i = 0; i < input.size(); ++i) {
    const std::size_t plane = static_cast<std::size_t>(height * width), c = static_cast<std::size_t>(channels);
    const float value = channels_last ? input[(i % c) * plane + i / c] : input[i];
    const float quantized = std::nearbyint(value / scale) + zero_point;  // ties to even
    if (dtype == "float32") {
      append(tensor, value);
    } else if (dtype == "int8") {
      append(tensor, static_cast<std::int8_t>(std::clamp(quantized, -128.0F, 127.0F)));
    } else {
      append(tensor, static_cast<std::uint8_t>(std::clamp(quantized, 0.0F, 255.0F)));
    }
  }
  return tensor;
}

// The artefact's output, integers or floats -> logits.
std::vector<float> from_artefact(const void* values, std::size_t n, const Json& spec) {
  const std::string& dtype = spec.at("dtype").text;
  const float scale = static_cast<float>(spec.at("scale").number);
  const float zero_point = static_cast<float>(spec.at("zero_point").number);
  std::vector<float> logits;
  for (std::size_t i = 0; i < n; ++i) {
    if (dtype == "float32") {
      logits.push_back(static_cast<const float*>(values)[i]);
    } else if (dtype == "int8") {
      logits.push_back((static_cast<float>(static_cast<const std::int8_t*>(values)[i]) - zero_point) * scale);
    } else if (dtype == "uint8") {
      logits.push_back((static_cast<float>(static_cast<const std::uint8_t*>(values)[i]) - zero_point) * scale);
    } else {
      throw std::runtime_error("the artefact gives " + dtype + ", which this program does not know");
    }
  }
  return logits;
}

// ---------------------------------------------------------------- ONNX Runtime

const OrtApi* ort() {
  static const OrtApi* const api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (api == nullptr) throw std::runtime_error("ONNX Runtime is older than the header this program was compiled with");
  return api;
}

void check(OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = ort()->GetErrorMessage(status);
  ort()->ReleaseStatus(status);
  throw std::runtime_error("ONNX Runtime: " + message);
}

// A pointer of ONNX Runtime's that is released with its scope.
template <typename T>
class Owned {
 public:
  explicit Owned(void (*release)(T*)) : release_(release) {}
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() { release_(pointer_); }
  T** out() { return &pointer_; }
  T* get() const { return pointer_; }

 private:
  T* pointer_ = nullptr;
  void (*release_)(T*);
};

// The logits of one image.
std::vector<float> run(const std::string& model, int threads, Tensor& input, const Json& output_spec, std::size_t n) {
  Owned<OrtEnv> environment(ort()->ReleaseEnv);
  check(ort()->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "predict", environment.out()));
  Owned<OrtSessionOptions> options(ort()->ReleaseSessionOptions);
  check(ort()->CreateSessionOptions(options.out()));
  check(ort()->SetIntraOpNumThreads(options.get(), threads));
  Owned<OrtSession> session(ort()->ReleaseSession);
  check(ort()->CreateSession(environment.get(), model.c_str(), options.get(), session.out()));

  Owned<OrtMemoryInfo> memory(ort()->ReleaseMemoryInfo);
  check(ort()->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, memory.out()));
  Owned<OrtValue> given(ort()->ReleaseValue), found(ort()->ReleaseValue);
  check(ort()->CreateTensorWithDataAsOrtValue(memory.get(), input.bytes.data(), input.bytes.size(), input.shape.data(),
                                              input.shape.size(), input.type, given.out()));
  OrtAllocator* allocator = nullptr;  // ONNX Runtime's own, which nobody releases
  check(ort()->GetAllocatorWithDefaultOptions(&allocator));
  char *input_name = nullptr, *output_name = nullptr;
  check(ort()->SessionGetInputName(session.get(), 0, allocator, &input_name));
  check(ort()->SessionGetOutputName(session.get(), 0, allocator, &output_name));
  const OrtValue* const inputs[] = {given.get()};
  check(ort()->Run(session.get(), nullptr, &input_name, inputs, 1, &output_name, 1, found.out()));
  check(ort()->AllocatorFree(allocator, input_name));
  check(ort()->AllocatorFree(allocator, output_name));

  Owned<OrtTensorTypeAndShapeInfo> info(ort()->ReleaseTensorTypeAndShapeInfo);
  check(ort()->GetTensorTypeAndShape(found.get(), info.out()));
  std::size_t held = 0;
  check(ort()->GetTensorShapeElementCount(info.get(), &held));
  if (held != n) throw std::runtime_error("the network gives another number of logits than there are classes");
  void* values = nullptr;
  check(ort()->GetTensorMutableData(found.get(), &values));
  return from_artefact(values, n, output_spec);
}

// ---------------------------------------------------------------- from a photo to a class

// Logits as shares that sum to 1.
std::vector<double> softmax(const std::vector<float>& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> shares;
  double sum = 0;
  for (const float logit : logits) {
    shares.push_back(std::exp(logit - largest));
    sum += shares.back();
  }
  for (double& share : shares) share /= sum;
  return shares;
}

int main(int argc, char** argv) try {
  if (argc != 3 && argc != 4) {
    std::fprintf(stderr, "usage: predict DEPLOYMENT PHOTO.ppm [FILE]\nFILE gets the artefact's input, as raw values\n");
    return 2;
  }
  const std::string folder = argv[1];
  const Json manifest = JsonReader(read_file(folder + "/manifest.json")).read();
  const Json &artefact = manifest.at("artefact"), &classes = manifest.at("classes");

  const std::vector<float> values = preprocess(read_photo(argv[2]), manifest.at("preprocessing"));
  Tensor input = to_artefact(values, manifest.at("input").at("shape"), artefact.at("input"));
  if (argc == 4) {
    std::ofstream file(argv[3], std::ios::binary);
    file.write(reinterpret_cast<const char*>(input.bytes.data()), static_cast<std::streamsize>(input.bytes.size()));
  }
  const std::vector<float> logits =
      run(folder + "/" + artefact.at("path").text, manifest.at("device").integer("threads"), input,
          artefact.at("output"), classes.items.size());
  const std::vector<double> shares = softmax(logits);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    // nine digits are enough to tell one float from every other
    std::printf("%s\t%.6f\t%.9g\n", classes.items[i].text.c_str(), shares[i], static_cast<double>(logits[i]));
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "predict: %s\n", error.what());
  return 1;
}
