// A matrix laid out for `product`.
#pragma once

#include "product.h"

namespace jaxlstm::INSTRUCTION_SET {

inline void pack(const Pack& run, Range columns) {
  const Index K = run.K, group = run.N / run.groups;
  for (Index column = columns.first; column < columns.last; column += W) {
    float* to = run.packed + column / W * strip(K);
    const Index within = column % up(group);
    const Index count = larger(0, smaller(W, group - within));  // what is no padding
    const Index from = column / up(group) * group + within;
    if (count < W) zero(to, K * W);
    if (run.transposed) {
      for (Index n = 0; n < count; ++n)
        for (Index k = 0; k < K; ++k) to[k * W + n] = run.matrix[(from + n) * K + k];
    } else {
      for (Index k = 0; k < K; ++k) copy(to + k * W, run.matrix + k * run.N + from, count);
    }
  }
}

}  // namespace jaxlstm::INSTRUCTION_SET
