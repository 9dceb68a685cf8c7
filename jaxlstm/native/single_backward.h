// `single` transposed, for some units and a like share of the inputs; letters as in backward.h.
#pragma once

#include "single.h"

namespace jaxlstm::INSTRUCTION_SET {

// Adds to M rows [., columns] the products of N elements of d [M][.], from n on, and of so many rows of W.
template <int M, int N>
inline void add_rows(const float* w, Index stride, const float* const* d, Index n, Range columns, float* const* to) {
  for (Index column = columns.first; column < columns.last; column += W) {
    Vector weights[N];
    for (int k = 0; k < N; ++k) weights[k] = load(w + (n + k) * stride + column, columns.last - column);
    for (int m = 0; m < M; ++m) {
      Vector sum = load(to[m] + column);
      for (int k = 0; k < N; ++k) sum += d[m][n + k] * weights[k];
      store(to[m] + column, sum);
    }
  }
}

// to += W^T d, of some columns of W [rows, stride]; each element is one sum over the rows, in their order.
template <int M = AT_ONCE>
void add_transposed(const float* w, Index rows, Index stride, int count, const float* const* d, Range columns,
                    float* const* to) {
  if constexpr (M > 1)
    if (count < M) return add_transposed<M - 1>(w, rows, stride, count, d, columns, to);
  Index n = 0;
  for (; n + 4 <= rows; n += 4) add_rows<M, 4>(w, stride, d, n, columns, to);
  for (; n < rows; ++n) add_rows<M, 1>(w, stride, d, n, columns, to);
}

struct SingleBackwardRoom {
  SingleBackwardRoom(const Layer& layer, Room& room) : zeros(room.take(padded(layer.H))) {
    for (int k = 0; k < AT_ONCE; ++k) {
      z[k] = room.take(padded(SUMS * layer.H));
      x[k] = room.take(padded(layer.I));
      h[k] = room.take(padded(layer.H));
      c[k] = room.take(padded(layer.H));
    }
  }

  float* zeros;       // [H]
  float* z[AT_ONCE];  // d_z [4H]
  float* x[AT_ONCE];  // d_x [I]
  float* h[AT_ONCE];  // d_h [H], after the step and then before it
  float* c[AT_ONCE];  // d_c [H], likewise
};

inline Index single_backward_space(const Layer& layer) {
  Room room(nullptr);
  SingleBackwardRoom(layer, room);
  return room.taken();
}

template <typename Cell>
void single_backward(const Backward& run, Range units, float* space) {
  const Layer& layer = run.layer;
  const Index I = layer.I, H = layer.H, joint = Cell::JOINT * H;
  const Range inputs{units.first * I / H, units.last * I / H};
  Room parts(space);
  const SingleBackwardRoom room(layer, parts);
  zero(space, parts.taken());
  const auto end = [&](Index b, const float* x, const float* h, const float* c) {
    copy(run.d_x + b * I + inputs.first, x + inputs.first, inputs.size());
    copy(run.d_h0 + b * H + units.first, h + units.first, units.size());
    if (Cell::CARRIES_C) copy(run.d_c0 + b * H + units.first, c + units.first, units.size());
  };

  Index next = 0;
  for (Batch batch; (batch = next_batch(layer, room.zeros, next)).count > 0;) {
    const float* own[AT_ONCE];  // of d_z those sums that only W_hh h went into
    for (int k = 0; k < batch.count; ++k) {
      const Index b = batch.row[k];
      zero(room.x[k], I);
      copy(room.h[k], run.d_h + b * H, H);
      add(room.h[k], run.d_y + b * H, H);
      if (Cell::CARRIES_C) copy(room.c[k], run.d_c + b * H, H);
      Cell::step_transposed(H, run.gates + b * SUMS * H, Cell::CARRIES_C ? run.c_before + b * H : batch.h[k], room.h[k],
                            Cell::CARRIES_C ? room.c[k] : room.h[k], room.z[k], nullptr);
      if (Cell::CARRIES_C) zero(room.h[k], H);
      own[k] = room.z[k] + Cell::GATES * H;
      for (Index sum = 0; sum < SUMS; ++sum)
        copy(run.d_z + (b * SUMS + sum) * H + units.first, room.z[k] + sum * H + units.first, units.size());
    }
    add_transposed(run.w_ih, Cell::GATES * H, I, batch.count, room.z, inputs, room.x);
    add_transposed(run.w_hh, joint, H, batch.count, room.z, units, room.h);
    add_transposed(run.w_hh + joint * H, Cell::GATES * H - joint, H, batch.count, own, units, room.h);
    for (int k = 0; k < batch.count; ++k) {
      if (resets(layer, 0, batch.row[k])) {
        zero(room.h[k], H);
        zero(room.c[k], H);
      }
      end(batch.row[k], room.x[k], room.h[k], room.c[k]);
    }
  }
  for (Index b = 0; b < layer.B; ++b)
    if (length(layer, b) == 0) {
      zero(room.x[0], I);
      end(b, room.x[0], run.d_h + b * H, Cell::CARRIES_C ? run.d_c + b * H : nullptr);
    }
}

}  // namespace jaxlstm::INSTRUCTION_SET
