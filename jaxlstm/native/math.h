// sigmoid and tanh of a vector, to about two units in the last place; NaN stays NaN, and infinities saturate.
#pragma once

#include "vector.h"

namespace jaxlstm::INSTRUCTION_SET {

// exp(x) = scale (1 + fraction), with scale a power of two.
struct Exponential {
  Vector scale, fraction;
};

// x = n ln 2 + r, |r| <= ln 2 / 2, so that scale = 2^n and fraction = exp(r) - 1 = r + r^2 p(r). The polynomial is a
// least maximum fit of our own, error 3e-9. ln 2 is taken in two parts, of which n times the first is exact.
inline Exponential exponential(Vector x) {
  x = x > 88.0f ? Vector{} + 88.0f : x;  // NaN compares false, and stays
  x = x < -87.0f ? Vector{} - 87.0f : x;
  constexpr float TO_INTEGER = 12582912.0f;  // 1.5 * 2^23: adding it leaves the integer in the lowest bits
  const Vector shifted = x * 1.44269504f + TO_INTEGER;
  const Vector n = shifted - TO_INTEGER;
  const Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vector p = r * 1.3814601e-3f + 8.3687184e-3f;
  p = p * r + 4.1668388e-2f;
  p = p * r + 1.6666521e-1f;
  p = p * r + 4.9999993e-1f;
  const Bits scale = (bits(shifted) << 23) + 0x3f800000u;
  return {reinterpret_cast<Vector>(scale), p * (r * r) + r};
}

// 1 / (1 + exp(-x))
inline Vector sigmoid(Vector x) {
  const Exponential e = exponential(-x);
  return 1.0f / (e.scale * e.fraction + e.scale + 1.0f);
}

// e / (e + 2) with e = exp(2x) - 1, which is exact near 0 and at most 1.
inline Vector tanh(Vector x) {
  const Exponential power = exponential(x + x);
  const Vector e = power.scale * power.fraction + (power.scale - 1.0f);
  return e / (e + 2.0f);
}

}  // namespace jaxlstm::INSTRUCTION_SET
