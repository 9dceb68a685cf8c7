// The LSTM: what a step makes of the sums z of one row, and that transposed; d_a stands for the cotangent of a.
//
//   z = b + W_ih x + W_hh h      of i, f, g, o
//   c' = sigmoid(f) c + sigmoid(i) tanh(g)
//   m = sigmoid(o) tanh(c')      h' = W_hr m, or m
//
// Transposed, gates i, f, g, o are active, and c is that before the step:
//
//   t = tanh(f c + i g)          d_c += d_m o (1 - t^2)
//   d_z = [ d_c g i (1 - i),  d_c c f (1 - f),  d_c i (1 - g^2),  d_m t o (1 - o) ]          d_c = d_c f
#pragma once

#include "math.h"
#include "rows.h"

namespace jaxlstm::INSTRUCTION_SET {

struct Lstm {
  static constexpr Index GATES = 4;
  static constexpr Index JOINT = 4;        // sums that W_ih x and W_hh h go into together
  static constexpr bool CARRIES_C = true;  // past the products; else it carries h

  // From z [4, up(H)] to c and m, both [up(H)], of some units; keeps gates and c before the step if there is where.
  static void step(Index H, Range units, const float* z, const float* bias, float* c, float* m, float* gates, float* c_before) {
    for (Index u = units.first; u < units.last; u += W) {
      const auto sum = [&](Index k) { return load(z + k * up(H) + u) + load(bias + k * up(H) + u); };
      const Vector i = sigmoid(sum(0)), f = sigmoid(sum(1)), g = tanh(sum(2)), o = sigmoid(sum(3));
      const Vector before = load(c + u), after = f * before + i * g;
      store(c + u, after);
      store(m + u, o);
      if (!gates) continue;
      const Index count = H - u;
      store(gates + u, i, count);
      store(gates + H + u, f, count);
      store(gates + 2 * H + u, g, count);
      store(gates + 3 * H + u, o, count);
      store(c_before + u, before, count);
    }
    // Apart, or fewer units are under way at a time: 0.96 of the time at B, T, H = 1, 128, 64.
    for (Index u = units.first; u < units.last; u += W) store(m + u, load(m + u) * tanh(load(c + u)));
  }

  // From d_m [up(H)] and d_c [up(H)] to d_z [4H] and the new d_c; keeps m if there is where.
  static void step_transposed(Index H, const float* gates, const float* c_before, const float* d_m, float* d_c,
                              float* d_z, float* m) {
    for (Index u = 0; u < H; u += W) {
      const Index count = H - u;
      const auto gate = [&](int k) { return load(gates + k * H + u, count); };
      const Vector i = gate(0), f = gate(1), g = gate(2), o = gate(3), c = load(c_before + u, count);
      const Vector t = tanh(f * c + i * g), dm = load(d_m + u);
      const Vector dc = load(d_c + u) + dm * o * (1.0f - t * t);
      const auto put = [&](int k, Vector d) { store(d_z + k * H + u, d, count); };
      put(0, dc * g * i * (1.0f - i));
      put(1, dc * c * f * (1.0f - f));
      put(2, dc * i * (1.0f - g * g));
      put(3, dm * t * o * (1.0f - o));
      store(d_c + u, dc * f);
      if (m) store(m + u, o * t, count);
    }
  }
};

}  // namespace jaxlstm::INSTRUCTION_SET
