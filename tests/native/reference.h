// Random problems, and the LSTM, the GRU and their derivatives in double: a loop over models, rows, steps and units.
#pragma once

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "layer.h"

namespace jaxlstm {

inline const float* pointer(const std::vector<float>& a) { return a.empty() ? nullptr : a.data(); }
inline float* pointer(std::vector<float>& a) { return a.empty() ? nullptr : a.data(); }

struct Problem {
  Index M, G, T, B, I, H, P;
  bool reverse, extreme;
  std::vector<float> w_ih, w_hh, w_hr, bias, x, h, c, d_y, d_h, d_c;
  std::vector<std::int32_t> lengths;
  std::vector<unsigned char> resets;

  std::size_t of(Index elements) const { return static_cast<std::size_t>(M * elements); }

  bool single() const { return T == 1 && w_hr.empty(); }

  Layer layer() const {
    static_assert(sizeof(bool) == 1);
    return {G, T, B, I, H, P, reverse, single(), x.data(), h.data(), pointer(c), lengths.empty() ? nullptr : lengths.data(),
            resets.empty() ? nullptr : reinterpret_cast<const bool*>(resets.data())};
  }

  Index length(Index m, Index b) const {
    return lengths.empty() ? T : larger(0, smaller(lengths[static_cast<std::size_t>(m * B + b)], T));
  }
  bool reset(Index m, Index t, Index b) const {
    return !resets.empty() && resets[static_cast<std::size_t>((m * T + t) * B + b)];
  }

  std::string text() const {
    std::string text;
    for (Index size : {M, G, T, B, I, H, P}) text += std::to_string(size) + " ";
    return "M G T B I H P = " + text + (reverse ? "reverse " : "") + (lengths.empty() ? "" : "lengths ") +
           (resets.empty() ? "" : "resets ") + (w_hr.empty() ? "" : "projected ") + (extreme ? "extreme" : "");
  }

  static Problem draw(std::mt19937& random) {
    const auto size = [&](Index most) { return static_cast<Index>(random() % static_cast<unsigned>(most)) + 1; };
    const auto maybe = [&](unsigned one_in) { return random() % one_in == 0; };
    Problem p{};
    p.M = maybe(4) ? size(3) : 1, p.T = maybe(3) ? 1 : size(maybe(8) ? 60 : 9), p.B = size(19), p.I = size(37), p.H = maybe(3) ? size(4) : size(41);
    p.G = maybe(2) ? 4 : 3;
    const bool projected = p.G == 4 && p.H > 1 && maybe(4);
    p.P = projected ? size(p.H - 1) : p.H;
    p.reverse = maybe(2), p.extreme = maybe(5);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& a, Index elements, Index fan_in) {
      a.resize(p.of(elements));
      for (float& value : a) value = normal(random) / std::sqrt(static_cast<float>(fan_in));
    };
    fill(p.w_ih, p.G * p.H * p.I, p.I), fill(p.w_hh, p.G * p.H * p.P, p.P);
    if (projected) fill(p.w_hr, p.P * p.H, p.H);
    if (!maybe(4)) fill(p.bias, SUMS * p.H, 1);
    fill(p.x, p.T * p.B * p.I, 1), fill(p.h, p.B * p.P, 1);
    fill(p.d_y, p.T * p.B * p.P, 1), fill(p.d_h, p.B * p.P, 1);
    if (p.G == 4) fill(p.c, p.B * p.H, 1), fill(p.d_c, p.B * p.H, 1);
    if (maybe(2)) {
      p.lengths.resize(p.of(p.B));
      for (auto& length : p.lengths) {  // beyond both ends, too
        length = static_cast<std::int32_t>(random() % static_cast<unsigned>(p.T + 3)) - 1;
        if (maybe(16)) length = maybe(2) ? std::numeric_limits<std::int32_t>::max() : std::numeric_limits<std::int32_t>::min();
      }
    }
    if (maybe(2)) {
      p.resets.resize(p.of(p.T * p.B));
      for (Index m = 0, k = 0; m < p.M; ++m)
        for (Index t = 0; t < p.T; ++t)
          for (Index b = 0; b < p.B; ++b, ++k)
            p.resets[static_cast<std::size_t>(k)] = t < p.length(m, b) && maybe(4);
    }
    if (p.extreme) {
      using Limits = std::numeric_limits<float>;
      const float values[] = {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity(), Limits::max(),
                              -Limits::max(), Limits::denorm_min(), 1e30f, -1e30f};
      for (auto* a : {&p.x, &p.h, &p.c, &p.d_y, &p.w_ih, &p.w_hh})
        if (maybe(3) && !a->empty()) (*a)[random() % a->size()] = values[random() % 8];
    }
    return p;
  }

  // One row of the batch, of all models.
  Problem row(Index b) const {
    Problem p = *this;
    p.B = 1;
    const auto take = [&](auto& a, const auto& from, Index leading, Index columns) {
      if (from.empty()) return;
      a.clear();
      for (Index k = 0; k < M * leading; ++k)
        for (Index n = 0; n < columns; ++n) a.push_back(from[static_cast<std::size_t>((k * B + b) * columns + n)]);
    };
    take(p.x, x, T, I), take(p.h, h, 1, P), take(p.c, c, 1, H);
    take(p.d_y, d_y, T, P), take(p.d_h, d_h, 1, P), take(p.d_c, d_c, 1, H);
    take(p.lengths, lengths, 1, 1), take(p.resets, resets, T, 1);
    return p;
  }
};

struct Results {
  explicit Results(const Problem& p)
      : y(p.of(p.T * p.B * p.P)), h(p.of(p.B * p.P)), c(p.c.size()), d_x(p.of(p.T * p.B * p.I)),
        d_h0(p.of(p.B * p.P)), d_c0(p.c.size()), d_w_ih(p.w_ih.size()), d_w_hh(p.w_hh.size()),
        d_bias(p.of(SUMS * p.H)), d_w_hr(p.w_hr.size()) {}

  std::vector<float> y, h, c, d_x, d_h0, d_c0, d_w_ih, d_w_hh, d_bias, d_w_hr;

  std::array<const std::vector<float>*, 10> all() const {
    return {&y, &h, &c, &d_x, &d_h0, &d_c0, &d_w_ih, &d_w_hh, &d_bias, &d_w_hr};
  }

  // What belongs to one row of the batch.
  static Results rows_only(const Results& from, const Problem& p, Index b) {
    Results r(p);
    const auto take = [&](std::vector<float>& a, const std::vector<float>& whole, Index leading, Index columns) {
      a.clear();
      if (whole.empty()) return;
      for (Index k = 0; k < p.M * leading; ++k)
        for (Index n = 0; n < columns; ++n) a.push_back(whole[static_cast<std::size_t>((k * p.B + b) * columns + n)]);
    };
    take(r.y, from.y, p.T, p.P), take(r.h, from.h, 1, p.P), take(r.c, from.c, 1, p.H);
    take(r.d_x, from.d_x, p.T, p.I), take(r.d_h0, from.d_h0, 1, p.P), take(r.d_c0, from.d_c0, 1, p.H);
    for (auto* a : {&r.d_w_ih, &r.d_w_hh, &r.d_bias, &r.d_w_hr}) a->clear();
    return r;
  }
};

// In the order of `Results::all`.
std::array<std::vector<double>, 10> by_reference(const Problem& p);

}  // namespace jaxlstm
