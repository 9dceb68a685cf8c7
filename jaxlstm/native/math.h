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
inline Exponential exponential(Vector x, float most) {
  x = x > most ? Vector{} + most : x;  // NaN compares false, and stays
  x = x < -30.0f ? Vector{} - 30.0f : x;  // exp(-30) is nothing beside 1
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

// 1 / (1 + exp(-x)); exp is infinite from 2^128, which 89 rounds to.
inline Vector sigmoid(Vector x) {
  const Exponential e = exponential(-x, 89.0f);
  return 1.0f / (e.scale * (e.fraction + 1.0f) + 1.0f);
}

// e / (e + 2) with e = exp(2x) - 1: exact near 0, and 1 from where 2 is nothing beside e.
inline Vector tanh(Vector x) {
  const Exponential power = exponential(x + x, 30.0f);
  const Vector e = power.scale * power.fraction + (power.scale - 1.0f);
  return e / (e + 2.0f);
}

}  // namespace jaxlstm::INSTRUCTION_SET
