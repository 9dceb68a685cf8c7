// Rows of the batch on their way through time, and room to work in.
#pragma once

#include "vector.h"

namespace jaxlstm::INSTRUCTION_SET {

// Rows in the cache start on lines of their own, and one line apart from a power of two.
constexpr Index padded(Index columns) { return up(columns) + LANES; }

// Parts of one allocation, one after the other; counts them where there is none yet.
class Room {
 public:
  explicit Room(float* from) : from_(from) {}

  float* take(Index floats) {
    float* part = from_ ? from_ + taken_ : nullptr;
    taken_ += up(floats);
    return part;
  }

  Index taken() const { return taken_; }

 private:
  float* from_;
  Index taken_ = 0;
};

inline Index length(const Layer& layer, Index b) {
  return layer.lengths ? larger(0, smaller(layer.lengths[b], layer.T)) : layer.T;
}

// The number of the step that is taken after so many others.
inline Index step(const Layer& layer, Index taken) { return layer.reverse ? layer.T - 1 - taken : taken; }

// Whether W_hh is read from its end at step t: steps take turns, so that each begins with what the one before has left
// in the cache. For B = 1 row that is 6 % of the time, at H = 64 and at H = 256.
inline bool to_and_fro(Index t) { return t % 2 != 0; }

// How many cells, steps of rows, at most are multiplied at once where no state is waited for: as many as leave their
// result in the cache, but so many that W_ih is not read too often: 0.91 of the time at B, I, H = 32, 512, 512. Grows
// with the rows, as the room that it is taken for must.
inline Index cells_at_once(const Layer& layer, Index rows, Index columns) {
  constexpr Index FLOATS = 32 * 1024;
  return larger(rows, smaller(layer.T * rows, larger(FLOATS / columns, layer.I / 8)));
}

// Calls f(b) for each row that takes step t.
template <typename F>
inline void each_live(const Layer& layer, Range rows, Index t, F f) {
  for (Index b = rows.first; b < rows.last; ++b)
    if (t < length(layer, b)) f(b);
}

// Zeros in [T, B, columns] past each row's length.
inline void zero_padding(const Layer& layer, Range rows, float* a, Index columns) {
  if (!layer.lengths) return;
  for (Index t = 0; t < layer.T; ++t)
    for (Index b = rows.first; b < rows.last; ++b)
      if (t >= length(layer, b)) zero(a + (t * layer.B + b) * columns, columns);
}

inline bool resets(const Layer& layer, Index t, Index b) { return layer.resets && layer.resets[t * layer.B + b]; }

// The h [P] that row b set out from at step t of its output y; zeros [P] where it began anew.
inline const float* h_before(const Layer& layer, const float* y, const float* zeros, Index t, Index b) {
  if (resets(layer, t, b)) return zeros;
  const bool first = layer.reverse ? t == length(layer, b) - 1 : t == 0;
  return first ? layer.h + b * layer.P : y + ((layer.reverse ? t + 1 : t - 1) * layer.B + b) * layer.P;
}

inline void add(float* to, const float* from, Index count) {
  for (Index k = 0; k < count; ++k) to[k] += from[k];
}

}  // namespace jaxlstm::INSTRUCTION_SET
