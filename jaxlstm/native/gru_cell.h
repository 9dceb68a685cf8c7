// The GRU: what a step makes of the sums of one row, and that transposed; d_a stands for the cotangent of a.
//
//   s = b + W_ih x + W_hh h      of r, z        s_n = b + W_in x        q = b + W_hn h
//   n = tanh(s_n + sigmoid(r) q)
//   h' = (1 - sigmoid(z)) n + sigmoid(z) h
//
// Transposed, gates r, z, n are active, and h is that before the step:
//
//   d_n = d_h (1 - z) (1 - n^2)
//   d_s = [ d_n q r (1 - r),  d_h (h - n) z (1 - z),  d_n,  d_n r ]          d_h = d_h z, and W_hh^T d_s
#pragma once

#include "math.h"
#include "rows.h"

namespace jaxlstm::INSTRUCTION_SET {

struct Gru {
  static constexpr Index GATES = 3;
  static constexpr Index JOINT = 2;         // sums that W_ih x and W_hh h go into together
  static constexpr bool CARRIES_C = false;  // past the products it carries h

  // From s [4, up(H)] to the next h [up(H)] of some units, in its place; keeps r, z, n and q if there is where.
  static void step(Index H, Range units, const float* s, const float* bias, float* h, float*, float* gates, float*) {
    for (Index u = units.first; u < units.last; u += W) {
      const auto sum = [&](Index k) { return load(s + k * up(H) + u) + load(bias + k * up(H) + u); };
      const Vector r = sigmoid(sum(0)), z = sigmoid(sum(1)), q = sum(3), n = tanh(sum(2) + r * q);
      // (1 - z) n + z h has two products, either of which a compiler may round before it adds them.
      store(h + u, n + z * (load(h + u) - n));
      if (!gates) continue;
      const Index count = H - u;
      store(gates + u, r, count);
      store(gates + H + u, z, count);
      store(gates + 2 * H + u, n, count);
      store(gates + 3 * H + u, q, count);
    }
  }

  // From d_h [up(H)] to d_s [4H] and what of the new d_h does not come by W_hh; h is [H].
  static void step_transposed(Index H, const float* gates, const float* h, const float*, float* d_h, float* d_s,
                              float*) {
    for (Index u = 0; u < H; u += W) {
      const Index count = H - u;
      const auto gate = [&](int k) { return load(gates + k * H + u, count); };
      const Vector r = gate(0), z = gate(1), n = gate(2), q = gate(3), dh = load(d_h + u);
      const Vector dn = dh * (1.0f - z) * (1.0f - n * n);
      const auto put = [&](int k, Vector d) { store(d_s + k * H + u, d, count); };
      put(0, dn * q * r * (1.0f - r));
      put(1, dh * (load(h + u, count) - n) * z * (1.0f - z));
      put(2, dn);
      put(3, dn * r);
      store(d_h + u, dh * z);
    }
  }
};

}  // namespace jaxlstm::INSTRUCTION_SET
