// A cell over time, for some rows of the batch: products, and what lstm_cell.h or gru_cell.h makes of their sums z.
#pragma once

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

  static Index z_stride(const Layer& layer) { return SUMS * up(layer.H); }

  Index cells, steps, left_stride, h_stride, c_stride;
  float* left;       // the left operand of a product, row by row
  float* z;          // [cells, 4, up(H)]
  float *h, *c;      // the state of each row
  float* projected;  // [rows, up(P)]
  float* bias;       // [4, up(H)], zero where there is none
};

// z += W_hh h, where those of W_ih x are; what is of h alone lies after them.
template <typename Cell>
void add_h_sums(const Layer& layer, Left h, Index rows, const float* w_hh, float* z, bool from_end) {
  const Index P = layer.P, unit = up(layer.H), stride = SUMS * unit, joint = Cell::JOINT * unit;
  product(h, rows, w_hh, P, joint, z, stride, {true, from_end});
  if constexpr (Cell::JOINT < Cell::GATES)
    product(h, rows, w_hh + joint / W * strip(P), P, Cell::GATES * unit - joint, z + Cell::GATES * unit, stride,
            {false, from_end});
}

// One step of all rows that take it, from z = W_ih x. Returns how many.
template <typename Cell>
Index advance(const Forward& run, Range rows, Index t, const ForwardRoom& room, float* z) {
  const Layer& layer = run.layer;
  const Index H = layer.H, P = layer.P, z_stride = room.z_stride(layer);
  const auto h_of = [&](Index b) { return room.h + (b - rows.first) * room.h_stride; };
  const auto c_of = [&](Index b) { return room.c + (b - rows.first) * room.c_stride; };
  Index count = 0;
  each_live(layer, rows, t, [&](Index b) {
    if (resets(layer, t, b)) {
      zero(h_of(b), P);
      zero(c_of(b), H);
    }
    copy(room.left + count++ * room.left_stride, h_of(b), P);
  });
  add_h_sums<Cell>(layer, {room.left, room.left_stride}, count, run.w_hh, z, to_and_fro(t));

  const auto cell = [&](Index b) { return t * layer.B + b; };
  Index k = 0;
  each_live(layer, rows, t, [&](Index b) {
    float* m = run.w_hr ? room.left + k * room.left_stride : h_of(b);
    float* gates = run.gates ? run.gates + cell(b) * SUMS * H : nullptr;
    float* c_before = run.c_before ? run.c_before + cell(b) * H : nullptr;
    Cell::step(H, {0, H}, z + k++ * z_stride, room.bias, Cell::CARRIES_C ? c_of(b) : h_of(b), m, gates, c_before);
  });
  if (run.w_hr) {
    product({room.left, room.left_stride}, count, run.w_hr, H, room.h_stride, room.projected, room.h_stride);
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

template <typename Cell>
void forward(const Forward& run, Range rows, float* space) {
  const Layer& layer = run.layer;
  const Index I = layer.I, H = layer.H, P = layer.P;
  Room parts(space);
  const ForwardRoom room(layer, rows.size(), parts);
  const Index z_stride = room.z_stride(layer);
  zero(room.bias, z_stride);
  if (run.bias)
    for (Index sum = 0; sum < SUMS; ++sum) copy(room.bias + sum * up(H), run.bias + sum * H, H);
  zero(room.h, rows.size() * room.h_stride);
  zero(room.c, rows.size() * room.c_stride);
  for (Index b = rows.first; b < rows.last; ++b) {
    copy(room.h + (b - rows.first) * room.h_stride, layer.h + b * P, P);
    if (Cell::CARRIES_C) copy(room.c + (b - rows.first) * room.c_stride, layer.c + b * H, H);
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
    product({room.left, room.left_stride}, cells, run.w_ih, I, Cell::GATES * up(H), room.z, z_stride);
    float* z = room.z;
    for (Index taken = first; taken < last; ++taken)
      z += advance<Cell>(run, rows, step(layer, taken), room, z) * z_stride;
  }

  for (Index b = rows.first; b < rows.last; ++b) {
    copy(run.h + b * P, room.h + (b - rows.first) * room.h_stride, P);
    if (Cell::CARRIES_C) copy(run.c + b * H, room.c + (b - rows.first) * room.c_stride, H);
  }
}

}  // namespace jaxlstm::INSTRUCTION_SET
