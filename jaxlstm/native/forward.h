// The LSTM over time, for some rows of the batch.
//
//   z = b + W_ih x + W_hh h              gates i, f, g, o
//   c' = sigmoid(f) c + sigmoid(i) tanh(g)
//   m = sigmoid(o) tanh(c')              h' = W_hr m, or m
#pragma once

#include "math.h"
#include "product.h"
#include "rows.h"

namespace jaxlstm::INSTRUCTION_SET {

struct ForwardRoom {
  ForwardRoom(const Layer& layer, Index rows, Room& room)
      : cells(cells_at_once(layer, rows, z_stride(layer))),
        steps(cells / rows),
        left_stride(padded(larger(layer.I, larger(layer.P, layer.H)))),
        h_stride(up(layer.P)),
        c_stride(up(layer.H)),
        left(room.take(cells * left_stride)),
        z(room.take(cells * z_stride(layer))),
        h(room.take(rows * h_stride)),
        c(room.take(rows * c_stride)),
        projected(room.take(rows * h_stride)),
        bias(room.take(z_stride(layer))) {}

  static Index z_stride(const Layer& layer) { return 4 * up(layer.H); }

  Index cells, steps, left_stride, h_stride, c_stride;
  float* left;       // the left operand of a product, row by row
  float* z;          // [cells, 4, up(H)]
  float *h, *c;      // the state of each row
  float* projected;  // [rows, up(P)]
  float* bias;       // [4, up(H)], zero where there is none
};

// From the products of one row at one step, z [4, up(H)], to c and m, both [up(H)]; keeps if there is where.
inline void activate(Index H, const float* z, const float* bias, float* c, float* m, float* gates, float* kept_c) {
  for (Index u = 0; u < H; u += W) {
    const auto sum = [&](Index gate) { return load(z + gate * up(H) + u) + load(bias + gate * up(H) + u); };
    const Vector i = sigmoid(sum(0)), f = sigmoid(sum(1)), g = tanh(sum(2)), o = sigmoid(sum(3));
    const Vector before = load(c + u), after = f * before + i * g;
    store(c + u, after);
    store(m + u, o * tanh(after));
    if (gates) {
      const Index count = H - u;
      store(gates + u, i, count);
      store(gates + H + u, f, count);
      store(gates + 2 * H + u, g, count);
      store(gates + 3 * H + u, o, count);
      store(kept_c + u, before, count);
    }
  }
}

// One step of all rows that take it, from z = W_ih x. Returns how many.
inline Index advance(const Forward& run, Range rows, Index t, const ForwardRoom& room, float* z) {
  const Layer& layer = run.layer;
  const Index H = layer.H, P = layer.P, z_stride = room.z_stride(layer);
  const auto h_of = [&](Index b) { return room.h + (b - rows.first) * room.h_stride; };
  const auto c_of = [&](Index b) { return room.c + (b - rows.first) * room.c_stride; };
  Index count = 0;
  each_live(layer, rows, t, [&](Index b) {
    if (begins(layer, t, b)) {
      zero(h_of(b), P);
      zero(c_of(b), H);
    }
    copy(room.left + count++ * room.left_stride, h_of(b), P);
  });
  product({room.left, room.left_stride}, count, run.w_hh, P, z_stride, z, z_stride, true);

  const auto cell = [&](Index b) { return t * layer.B + b; };
  Index k = 0;
  each_live(layer, rows, t, [&](Index b) {
    float* m = run.w_hr ? room.left + k * room.left_stride : h_of(b);
    float* gates = run.gates ? run.gates + cell(b) * 4 * H : nullptr;
    activate(H, z + k++ * z_stride, room.bias, c_of(b), m, gates, run.kept_c + (gates ? cell(b) * H : 0));
  });
  if (run.w_hr) {
    product({room.left, room.left_stride}, count, run.w_hr, H, room.h_stride, room.projected, room.h_stride, false);
    k = 0;
    each_live(layer, rows, t, [&](Index b) { copy(h_of(b), room.projected + k++ * room.h_stride, P); });
  }
  each_live(layer, rows, t, [&](Index b) { copy(run.y + cell(b) * P, h_of(b), P); });
  return count;
}

inline Index forward_space(const Layer& layer, Index rows) {
  Room room(nullptr);
  ForwardRoom(layer, rows, room);
  return room.taken();
}

inline void forward(const Forward& run, Range rows, float* space) {
  const Layer& layer = run.layer;
  const Index I = layer.I, H = layer.H, P = layer.P;
  Room parts(space);
  const ForwardRoom room(layer, rows.size(), parts);
  const Index z_stride = room.z_stride(layer);
  zero(room.bias, z_stride);
  if (run.bias)
    for (Index gate = 0; gate < 4; ++gate) copy(room.bias + gate * up(H), run.bias + gate * H, H);
  zero(room.c, rows.size() * room.c_stride);
  for (Index b = rows.first; b < rows.last; ++b) {
    copy(room.h + (b - rows.first) * room.h_stride, layer.h + b * P, P);
    copy(room.c + (b - rows.first) * room.c_stride, layer.c + b * H, H);
  }
  zero_padding(layer, rows, run.y, P);

  for (Index first = 0; first < layer.T; first += room.steps) {
    const Index last = smaller(first + room.steps, layer.T);
    Index cells = 0;
    for (Index taken = first; taken < last; ++taken) {
      const Index t = step(layer, taken);
      each_live(layer, rows, t, [&](Index b) {
        copy(room.left + cells++ * room.left_stride, layer.x + (t * layer.B + b) * I, I);
      });
    }
    product({room.left, room.left_stride}, cells, run.w_ih, I, z_stride, room.z, z_stride, false);
    float* z = room.z;
    for (Index taken = first; taken < last; ++taken) z += advance(run, rows, step(layer, taken), room, z) * z_stride;
  }

  for (Index b = rows.first; b < rows.last; ++b) {
    copy(run.h + b * P, room.h + (b - rows.first) * room.h_stride, P);
    copy(run.c + b * H, room.c + (b - rows.first) * room.c_stride, H);
  }
}

}  // namespace jaxlstm::INSTRUCTION_SET
