// A matrix laid out for `product`.
#pragma once

#include "product.h"

namespace jaxlstm::INSTRUCTION_SET {

// The first `count` of W numbers that lie `stride` apart, and zeros after them. Put together in a register they are
// stored at once: two thirds of the time of storing them one by one.
inline Vector gather(const float* from, Index stride, Index count) {
  Vector v{};
  for (int n = 0; n < count; ++n) v[n] = from[n * stride];
  return v;
}

inline void pack(const Pack& run, Range columns) {
  const Index K = run.K, group = run.N / run.groups;
  for (Index column = columns.first; column < columns.last; column += W) {
    float* to = run.packed + column / W * strip(K);
    const Index within = column % up(group);
    const Index count = larger(0, smaller(W, group - within));  // what is no padding
    const Index from = column / up(group) * group + within;
    const float* rows = run.matrix + from * K;
    if (!run.transposed)
      for (Index k = 0; k < K; ++k) store(to + k * W, load(run.matrix + k * run.N + from, count));
    else if (count == W)  // Known to the compiler, which then unrolls it.
      for (Index k = 0; k < K; ++k) store(to + k * W, gather(rows + k, K, W));
    else
      for (Index k = 0; k < K; ++k) store(to + k * W, gather(rows + k, K, count));
  }
}

}  // namespace jaxlstm::INSTRUCTION_SET
