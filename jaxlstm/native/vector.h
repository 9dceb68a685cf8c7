// A vector of W floats that fills a register of the instruction set which this is compiled for.
//
// Here and in all that includes it nothing of the standard library is called: an inline function of it, compiled for
// one instruction set, could be linked into code for another.
#pragma once

#include "layer.h"

namespace jaxlstm::INSTRUCTION_SET {

#if defined(__AVX512F__)
inline constexpr int W = 16, REGISTERS = 32;
#elif defined(__AVX__)
inline constexpr int W = 8, REGISTERS = 16;
#elif defined(__x86_64__)
inline constexpr int W = 4, REGISTERS = 16;
#else
inline constexpr int W = 4, REGISTERS = 32;
#endif

static_assert(LANES % W == 0);

typedef float Vector __attribute__((vector_size(4 * W)));
typedef std::uint32_t Bits __attribute__((vector_size(4 * W)));

inline void copy(float* to, const float* from, Index count) {
  __builtin_memcpy(to, from, static_cast<unsigned long>(count) * sizeof(float));
}

inline void zero(float* to, Index count) {
  __builtin_memset(to, 0, static_cast<unsigned long>(count) * sizeof(float));
}

inline Vector load(const float* from) {
  Vector v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float* to, Vector v) { __builtin_memcpy(to, &v, sizeof v); }

// At the end of a row: the first `count` elements, and zeros after them.
inline Vector load(const float* from, Index count) {
  if (count >= W) return load(from);
  Vector v{};
  for (int k = 0; k < count; ++k) v[k] = from[k];
  return v;
}

inline void store(float* to, Vector v, Index count) {
  if (count >= W) return store(to, v);
  for (int k = 0; k < count; ++k) to[k] = v[k];
}

inline Bits bits(Vector v) { return reinterpret_cast<Bits>(v); }

}  // namespace jaxlstm::INSTRUCTION_SET
