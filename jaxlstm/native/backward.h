// `forward` transposed: what a change of the results is worth, carried back through time for some rows of the batch.
// d_a stands for the cotangent of a; gates i, f, g, o are active, and c is that before the step.
//
//   d_h += d_y                    d_m = W_hr^T d_h, or d_h
//   t = tanh(f c + i g)           d_c += d_m o (1 - t^2)
//   d_z = [ d_c g i (1 - i),  d_c c f (1 - f),  d_c i (1 - g^2),  d_m t o (1 - o) ]
//   d_x = W_ih^T d_z              d_h = W_hh^T d_z              d_c = d_c f
#pragma once

#include "math.h"
#include "product.h"
#include "rows.h"

namespace jaxlstm::INSTRUCTION_SET {

struct BackwardRoom {
  BackwardRoom(const Layer& layer, Index rows, Room& room)
      : cells(cells_at_once(layer, rows, z_stride(layer))),
        steps(cells / rows),
        x_stride(up(layer.I)),
        h_stride(up(layer.P)),
        c_stride(up(layer.H)),
        left_stride(padded(layer.P)),
        z(room.take(cells * z_stride(layer))),
        x(room.take(cells * x_stride)),
        left(room.take(rows * left_stride)),
        product(room.take(rows * larger(h_stride, c_stride))),
        h(room.take(rows * h_stride)),
        c(room.take(rows * c_stride)) {}

  static Index z_stride(const Layer& layer) { return padded(4 * layer.H); }

  Index cells, steps, x_stride, h_stride, c_stride, left_stride;
  float *z, *x;    // d_z and d_x of some steps, a row a cell
  float* left;     // d_h of one step's cells
  float* product;  // a product's rows, likewise
  float *h, *c;    // d_h and d_c of each row
};

// One row at one step: from d_m [up(H)] and d_c [up(H)] to d_z [4H] and the new d_c; keeps m if there is where.
inline void activate_transposed(Index H, const float* gates, const float* kept_c, const float* d_m, float* d_c,
                                float* d_z, float* m) {
  for (Index u = 0; u < H; u += W) {
    const Index count = H - u;
    const auto gate = [&](int k) { return load(gates + k * H + u, count); };
    const Vector i = gate(0), f = gate(1), g = gate(2), o = gate(3), c = load(kept_c + u, count);
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

// One step back of all rows that took it; leaves their d_z in rows of `z` too. Returns how many.
inline Index retreat(const Backward& run, Range rows, Index t, const BackwardRoom& room, float* z) {
  const Layer& layer = run.layer;
  const Index H = layer.H, P = layer.P, z_stride = room.z_stride(layer);
  const auto cell = [&](Index b) { return t * layer.B + b; };
  const auto h_of = [&](Index b) { return room.h + (b - rows.first) * room.h_stride; };
  const auto c_of = [&](Index b) { return room.c + (b - rows.first) * room.c_stride; };
  Index count = 0;
  each_live(layer, rows, t, [&](Index b) {
    add(h_of(b), run.d_y + cell(b) * P, P);
    if (!run.w_hr) return;
    copy(room.left + count++ * room.left_stride, h_of(b), P);
    copy(run.d_m + cell(b) * P, h_of(b), P);
  });
  if (run.w_hr)
    product({room.left, room.left_stride}, count, run.w_hr, P, room.c_stride, room.product, room.c_stride, false);

  count = 0;
  each_live(layer, rows, t, [&](Index b) {
    const float* d_m = run.w_hr ? room.product + count * room.c_stride : h_of(b);
    float* d_z = run.d_z + cell(b) * 4 * H;
    activate_transposed(H, run.gates + cell(b) * 4 * H, run.kept_c + cell(b) * H, d_m, c_of(b), d_z,
                        run.w_hr ? run.m + cell(b) * H : nullptr);
    copy(z + count++ * z_stride, d_z, 4 * H);
  });
  product({z, z_stride}, count, run.w_hh, 4 * H, room.h_stride, room.product, room.h_stride, false);
  Index k = 0;
  each_live(layer, rows, t, [&](Index b) {
    copy(h_of(b), room.product + k++ * room.h_stride, P);
    if (!begins(layer, t, b)) return;
    zero(h_of(b), P);
    zero(c_of(b), H);
  });
  return count;
}

inline Index backward_space(const Layer& layer, Index rows) {
  Room room(nullptr);
  BackwardRoom(layer, rows, room);
  return room.taken();
}

inline void backward(const Backward& run, Range rows, float* space) {
  const Layer& layer = run.layer;
  const Index I = layer.I, H = layer.H, P = layer.P;
  Room parts(space);
  const BackwardRoom room(layer, rows.size(), parts);
  const Index z_stride = room.z_stride(layer);
  zero(room.h, rows.size() * room.h_stride);
  zero(room.c, rows.size() * room.c_stride);
  for (Index b = rows.first; b < rows.last; ++b) {
    copy(room.h + (b - rows.first) * room.h_stride, run.d_h + b * P, P);
    copy(room.c + (b - rows.first) * room.c_stride, run.d_c + b * H, H);
  }
  zero_padding(layer, rows, run.d_x, I);

  for (Index last = layer.T; last > 0; last = larger(0, last - room.steps)) {
    const Index first = larger(0, last - room.steps);
    Index cells = 0;
    for (Index taken = last; taken-- > first;)
      cells += retreat(run, rows, step(layer, taken), room, room.z + cells * z_stride);
    product({room.z, z_stride}, cells, run.w_ih, 4 * H, room.x_stride, room.x, room.x_stride, false);
    Index k = 0;
    for (Index taken = last; taken-- > first;) {
      const Index t = step(layer, taken);
      each_live(layer, rows, t,
                [&](Index b) { copy(run.d_x + (t * layer.B + b) * I, room.x + k++ * room.x_stride, I); });
    }
  }

  for (Index b = rows.first; b < rows.last; ++b) {
    copy(run.d_h0 + b * P, room.h + (b - rows.first) * room.h_stride, P);
    copy(run.d_c0 + b * H, room.c + (b - rows.first) * room.c_stride, H);
  }
}

}  // namespace jaxlstm::INSTRUCTION_SET
