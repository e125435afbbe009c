// Every step of a manifest, from pixels to a network's input, with the bits that hwnas computes in Python: the resizing is
// hwnas/data/resampling.py, the other steps are hwnas/data/preprocess.py. Knows images and steps; no runtime.
//
// Compile it with -ffp-contract=off and never with -ffast-math: a product and a sum that are fused into one rounding give
// other last bits.

#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "json.hpp"

static_assert(FLT_EVAL_METHOD == 0, "floats must be computed in their own precision; on 32-bit x86 use -mfpmath=sse");

// ---------------------------------------------------------------- images

// Values of type T, row by row, (H, W, C).
template <typename T>
struct Image {
  int height = 0, width = 0, channels = 0;
  std::vector<T> values;

  Image() = default;
  Image(int h, int w, int c)
      : height(h), width(w), channels(c), values(static_cast<std::size_t>(h) * static_cast<std::size_t>(w * c)) {}
  T& at(int y, int x, int c) { return values[index(y, x, c)]; }
  const T& at(int y, int x, int c) const { return values[index(y, x, c)]; }

 private:
  std::size_t index(int y, int x, int c) const {
    return (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)) *
               static_cast<std::size_t>(channels) +
           static_cast<std::size_t>(c);
  }
};

using Bytes = Image<std::uint8_t>;
using Floats = Image<float>;

// ---------------------------------------------------------------- the steps

// Grey from colours by ITU-R 601 luma, in integers as Pillow computes it; colours from grey by repeating it.
inline Bytes in_channels(const Bytes& image, int channels) {
  if (image.channels == channels) return image;
  Bytes out(image.height, image.width, channels);
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      if (channels == 3) {
        for (int c = 0; c < 3; ++c) out.at(y, x, c) = image.at(y, x, 0);
      } else {
        const int luma = 19595 * image.at(y, x, 0) + 38470 * image.at(y, x, 1) + 7471 * image.at(y, x, 2);
        out.at(y, x, 0) = static_cast<std::uint8_t>((luma + (1 << 15)) >> 16);
      }
    }
  }
  return out;
}

inline Bytes centre_square(const Bytes& image) {
  const int side = std::min(image.height, image.width);
  const int top = (image.height - side) / 2, left = (image.width - side) / 2;
  Bytes out(side, side, image.channels);
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      for (int c = 0; c < image.channels; ++c) out.at(y, x, c) = image.at(top + y, left + x, c);
    }
  }
  return out;
}

// What one new pixel is made of: old ones from `first` on, with these weights.
struct Taps {
  int first;
  std::vector<double> weights;
};

// For each of `side` new pixels; a triangle as wide as the reduction, cut off at the border and scaled to the sum 1.
inline std::vector<Taps> taps(int size, int side) {
  const double scale = static_cast<double>(size) / side;
  const double reach = std::max(scale, 1.0);
  std::vector<Taps> found;
  for (int i = 0; i < side; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(centre - reach + 0.5), 0);
    const int end = std::min(static_cast<int>(centre + reach + 0.5), size);
    std::vector<double> weights;
    double sum = 0;
    for (int j = first; j < end; ++j) {
      weights.push_back(std::max(1.0 - std::abs((j - centre + 0.5) * (1.0 / reach)), 0.0));
      sum += weights.back();
    }
    for (double& weight : weights) weight /= sum;
    found.push_back({first, std::move(weights)});
  }
  return found;
}

// Sums of products, from the first pixel to the last; along the width, or along the height.
template <typename T>
Image<double> weighted(const Image<T>& image, const std::vector<Taps>& along, bool is_width) {
  const int side = static_cast<int>(along.size());
  Image<double> out(is_width ? image.height : side, is_width ? side : image.width, image.channels);
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      const Taps& of = along[static_cast<std::size_t>(is_width ? x : y)];
      for (int c = 0; c < image.channels; ++c) {
        double sum = 0;
        for (int k = 0; k < static_cast<int>(of.weights.size()); ++k) {
          const T value = is_width ? image.at(y, of.first + k, c) : image.at(of.first + k, x, c);
          const double product = static_cast<double>(value) * of.weights[static_cast<std::size_t>(k)];
          sum += product;
        }
        out.at(y, x, c) = sum;
      }
    }
  }
  return out;
}

// `rounding` "uint8": the weights are multiples of 2^-22, so that sums are exact, and ties go up.
inline Bytes resized_along(const Bytes& image, int side, bool is_width) {
  const int size = is_width ? image.width : image.height;
  if (size == side) return image;
  const double unit = 1 << 22;
  std::vector<Taps> along = taps(size, side);
  for (Taps& of : along) {
    for (double& weight : of.weights) weight = std::floor(weight * unit + 0.5);
  }
  const Image<double> sums = weighted(image, along, is_width);
  Bytes out(sums.height, sums.width, sums.channels);
  std::transform(sums.values.begin(), sums.values.end(), out.values.begin(), [&](double sum) {
    return static_cast<std::uint8_t>(std::clamp(std::floor(sum / unit + 0.5), 0.0, 255.0));
  });
  return out;
}

// `rounding` "none": in double precision until the end.
inline Floats resized(const Floats& image, int height, int width) {
  if (image.height == height && image.width == width) return image;
  const Image<double> wide = weighted(image, taps(image.width, width), true);
  const Image<double> both = weighted(wide, taps(image.height, height), false);
  Floats out(height, width, image.channels);
  std::transform(both.values.begin(), both.values.end(), out.values.begin(),
                 [](double value) { return static_cast<float>(value); });
  return out;
}

inline Floats normalised(Floats image, const Json& step) {
  const std::vector<Json>&mean = step.at("mean").items, &std = step.at("std").items;
  if (mean.size() != static_cast<std::size_t>(image.channels) || std.size() != mean.size()) {
    throw std::runtime_error("the manifest normalises another number of channels than the image has");
  }
  for (std::size_t i = 0; i < image.values.size(); ++i) {
    const std::size_t c = i % mean.size();
    image.values[i] = (image.values[i] - static_cast<float>(mean[c].number)) / static_cast<float>(std[c].number);
  }
  return image;
}

// Every step of the manifest: (H, W, C) pixels -> the network's input, (C, H, W) float.
inline std::vector<float> preprocess(Bytes pixels, const Json& steps) {
  Floats values;  // what the pixels become
  for (const Json& step : steps.items) {
    const std::string& name = step.at("step").text;
    if (name == "decode") {
      pixels = in_channels(pixels, step.integer("channels"));
    } else if (name == "crop") {
      pixels = centre_square(pixels);
    } else if (name == "resize" && step.at("rounding").text == "uint8") {
      pixels = resized_along(resized_along(pixels, step.integer("width"), true), step.integer("height"), false);
    } else if (name == "pixels") {
      if (pixels.height != step.integer("height") || pixels.width != step.integer("width") ||
          pixels.channels != step.integer("channels")) {
        throw std::runtime_error("the photo is not of the size and channels that the network was trained on");
      }
    } else if (name == "scale") {
      values = Floats(pixels.height, pixels.width, pixels.channels);
      const float divisor = static_cast<float>(step.at("divide_by").number);
      std::transform(pixels.values.begin(), pixels.values.end(), values.values.begin(),
                     [&](std::uint8_t value) { return static_cast<float>(value) / divisor; });
    } else if (name == "normalise") {
      values = normalised(std::move(values), step);
    } else if (name == "resize") {
      values = resized(values, step.integer("height"), step.integer("width"));
    } else if (name != "layout") {  // channels first: done below
      throw std::runtime_error("the manifest has the step \"" + name + "\", which this program does not know");
    }
  }
  std::vector<float> input;
  input.reserve(values.values.size());
  for (int c = 0; c < values.channels; ++c) {
    for (int y = 0; y < values.height; ++y) {
      for (int x = 0; x < values.width; ++x) input.push_back(values.at(y, x, c));
    }
  }
  return input;
}
