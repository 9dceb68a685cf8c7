// One step alone, as when a model streams or acts: weights are read once, as they lie.
//
// Without a projection no unit waits for another, so threads share the units, where those of forward.h share the rows
// of the batch: reading the weights is most of the time.
#pragma once

#include "rows.h"

namespace jaxlstm::INSTRUCTION_SET {

// Rows of the batch that a vector of the weights is used for, once it is loaded.
inline constexpr int AT_ONCE = REGISTERS / 8;

// So many rows that take the step, and the x and h that they do it with.
struct Batch {
  int count;
  Index row[AT_ONCE];
  const float *x[AT_ONCE], *h[AT_ONCE];
};

// The next rows from b on, which is moved past them; none at the end.
inline Batch next_batch(const Layer& layer, const float* zeros, Index& b) {
  Batch batch{};
  for (; b < layer.B && batch.count < AT_ONCE; ++b) {
    if (length(layer, b) == 0) continue;
    batch.row[batch.count] = b;
    batch.x[batch.count] = layer.x + b * layer.I;
    batch.h[batch.count++] = resets(layer, 0, b) ? zeros : layer.h + b * layer.H;
  }
  return batch;
}

template <int N>
struct Floats {
  typedef float Type __attribute__((vector_size(4 * N)));
};

// The sum of N elements: those of one half are added to those of the other until one is left.
template <int N>
inline float total(typename Floats<N>::Type v) {
  if constexpr (N == 2) {
    return v[0] + v[1];
  } else {
    typename Floats<N / 2>::Type halves[2];
    __builtin_memcpy(halves, &v, sizeof v);
    return total<N / 2>(halves[0] + halves[1]);
  }
}

// Out of line, for with its branches among them GCC rounds some products before it adds them, and others not.
[[gnu::noinline]] inline Vector load_rest(const float* from, Index count) { return load(from, count); }

// Adds to M rows' sums of a unit, lane by lane, the products of weights [GATES][., K] and a [M][K]: those of gates from
// FIRST to before LAST, to sums that are APART further on.
template <int M, Index FIRST, Index LAST, Index APART = 0>
inline void add_products(const float* w, Index gate, Index K, const float* const* a, Vector (*sums)[SUMS]) {
  const auto at = [&](Index k, auto load_from) {
    for (Index q = FIRST; q < LAST; ++q) {
      const Vector weights = load_from(w + q * gate + k);
      for (int m = 0; m < M; ++m) sums[m][q + APART] += weights * load_from(a[m] + k);
    }
  };
  const Index whole = K / W * W;
  for (Index k = 0; k < whole; k += W) at(k, [](const float* from) { return load(from); });
  if (whole < K) at(whole, [&](const float* from) { return load_rest(from, K - whole); });
}

struct SingleRoom {
  SingleRoom(const Layer& layer, Room& room)
      : stride(padded(SUMS * up(layer.H))),
        z(room.take(AT_ONCE * stride)),
        bias(room.take(SUMS * up(layer.H))),
        state(room.take(up(layer.H))),
        m(room.take(up(layer.H))),
        zeros(room.take(layer.H)) {}

  Index stride;
  float* z;          // [AT_ONCE, 4, up(H)]
  float* bias;       // [4, up(H)], zero where there is none
  float *state, *m;  // of one row
  float* zeros;      // [H]
};

// z = W_ih x + W_hh h of some units.
template <typename Cell, int M = AT_ONCE>
void unit_sums(const Forward& run, const Batch& batch, Range units, const SingleRoom& room) {
  if constexpr (M > 1)
    if (batch.count < M) return unit_sums<Cell, M - 1>(run, batch, units, room);
  const Index I = run.layer.I, H = run.layer.H;
  for (Index u = units.first; u < units.last; ++u) {
    Vector sums[M][SUMS] = {};
    add_products<M, 0, Cell::GATES>(run.w_ih + u * I, H * I, I, batch.x, sums);
    add_products<M, 0, Cell::JOINT>(run.w_hh + u * H, H * H, H, batch.h, sums);
    add_products<M, Cell::JOINT, Cell::GATES, SUMS - Cell::GATES>(run.w_hh + u * H, H * H, H, batch.h, sums);
    for (int m = 0; m < M; ++m)
      for (Index s = 0; s < SUMS; ++s) room.z[m * room.stride + s * up(H) + u] = total<W>(sums[m][s]);
  }
}

inline Index single_space(const Layer& layer) {
  Room room(nullptr);
  SingleRoom(layer, room);
  return room.taken();
}

template <typename Cell>
void single(const Forward& run, Range units, float* space) {
  const Layer& layer = run.layer;
  const Index H = layer.H, first = units.first;
  Room parts(space);
  const SingleRoom room(layer, parts);
  zero(space, parts.taken());
  if (run.bias)
    for (Index sum = 0; sum < SUMS; ++sum) copy(room.bias + sum * up(H), run.bias + sum * H, H);
  const auto c_of = [&](Index b) { return Cell::CARRIES_C ? layer.c + b * H : nullptr; };
  const auto end = [&](Index b, const float* y, const float* h, const float* c) {
    copy(run.y + b * H + first, y + first, units.size());
    copy(run.h + b * H + first, h + first, units.size());
    if (Cell::CARRIES_C) copy(run.c + b * H + first, c + first, units.size());
  };
  Index next = 0;
  for (Batch batch; (batch = next_batch(layer, room.zeros, next)).count > 0;) {
    unit_sums<Cell>(run, batch, units, room);
    for (int k = 0; k < batch.count; ++k) {
      const Index b = batch.row[k];
      const float* before = !Cell::CARRIES_C ? batch.h[k] : resets(layer, 0, b) ? room.zeros : c_of(b);
      copy(room.state + first, before + first, units.size());
      Cell::step(H, units, room.z + k * room.stride, room.bias, room.state, room.m,
                 run.gates ? run.gates + b * SUMS * H : nullptr, run.c_before ? run.c_before + b * H : nullptr);
      const float* h = Cell::CARRIES_C ? room.m : room.state;
      end(b, h, h, room.state);
    }
  }
  for (Index b = 0; b < layer.B; ++b)
    if (length(layer, b) == 0) end(b, room.zeros, layer.h + b * H, c_of(b));
}

}  // namespace jaxlstm::INSTRUCTION_SET
