// `forward` transposed: what a change of the results is worth, carried back through time for some rows of the batch.
//
//   d_h += d_y                    d_m = W_hr^T d_h, or d_h
//   d_z                           by lstm_cell.h or gru_cell.h
//   d_x = W_ih^T d_z              d_h = W_hh^T d_z, of each those sums that it went into
#pragma once

#include "product.h"
#include "rows.h"

namespace jaxlstm::INSTRUCTION_SET {

template <typename Cell>
struct BackwardRoom {
  BackwardRoom(const Layer& layer, Index rows, Room& room)
      : cells(cells_at_once(layer, rows, z_stride(layer))),
        steps(cells / rows),
        x_stride(up(layer.I)),
        h_stride(up(layer.P)),
        c_stride(up(layer.H)),
        left_stride(padded(larger(layer.P, OWN_H_SUMS ? Cell::GATES * layer.H : 0))),
        z(room.take(cells * z_stride(layer))),
        x(room.take(cells * x_stride)),
        left(room.take(rows * left_stride)),
        product(room.take(rows * larger(h_stride, c_stride))),
        h(room.take(rows * h_stride)),
        c(room.take(rows * c_stride)),
        zeros(room.take(layer.P)) {}

  static constexpr bool OWN_H_SUMS = Cell::JOINT < Cell::GATES;
  static Index z_stride(const Layer& layer) { return padded(SUMS * layer.H); }

  Index cells, steps, x_stride, h_stride, c_stride, left_stride;
  float *z, *x;    // d_z and d_x of some steps, a row a cell
  float* left;     // d_h of one step's cells, or d_z of what W_hh h went into
  float* product;  // a product's rows, likewise
  float *h, *c;    // d_h and d_c of each row
  float* zeros;    // [P]
};

// One step back of all rows that took it; leaves their d_z in rows of `z` too. Returns how many.
template <typename Cell>
Index retreat(const Backward& run, Range rows, Index t, const BackwardRoom<Cell>& room, float* z) {
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
    product({room.left, room.left_stride}, count, run.w_hr, P, room.c_stride, room.product, room.c_stride);

  count = 0;
  each_live(layer, rows, t, [&](Index b) {
    const float* d_m = run.w_hr ? room.product + count * room.c_stride : h_of(b);
    const float* before = Cell::CARRIES_C ? run.c_before + cell(b) * H : h_before(layer, run.y, room.zeros, t, b);
    float* d_z = run.d_z + cell(b) * SUMS * H;
    Cell::step_transposed(H, run.gates + cell(b) * SUMS * H, before, d_m, Cell::CARRIES_C ? c_of(b) : h_of(b), d_z,
                          run.w_hr ? run.m + cell(b) * H : nullptr);
    copy(z + count * z_stride, d_z, SUMS * H);
    if (room.OWN_H_SUMS) {
      float* left = room.left + count * room.left_stride;
      copy(left, d_z, Cell::JOINT * H);
      copy(left + Cell::JOINT * H, d_z + Cell::GATES * H, (Cell::GATES - Cell::JOINT) * H);
    }
    ++count;
  });
  const Left h_sums = room.OWN_H_SUMS ? Left{room.left, room.left_stride} : Left{z, z_stride};
  product(h_sums, count, run.w_hh, Cell::GATES * H, room.h_stride, room.product, room.h_stride,
          {false, to_and_fro(t)});
  Index k = 0;
  each_live(layer, rows, t, [&](Index b) {
    const float* by_w_hh = room.product + k++ * room.h_stride;
    Cell::CARRIES_C ? copy(h_of(b), by_w_hh, P) : add(h_of(b), by_w_hh, P);
    if (!resets(layer, t, b)) return;
    zero(h_of(b), P);
    zero(c_of(b), H);
  });
  return count;
}

template <typename Cell>
Index backward_space(const Layer& layer, Index rows) {
  Room room(nullptr);
  BackwardRoom<Cell>(layer, rows, room);
  return room.taken();
}

template <typename Cell>
void backward(const Backward& run, Range rows, float* space) {
  const Layer& layer = run.layer;
  const Index I = layer.I, H = layer.H, P = layer.P;
  Room parts(space);
  const BackwardRoom<Cell> room(layer, rows.size(), parts);
  const Index z_stride = room.z_stride(layer);
  zero(room.h, rows.size() * room.h_stride);
  zero(room.c, rows.size() * room.c_stride);
  zero(room.zeros, P);
  for (Index b = rows.first; b < rows.last; ++b) {
    copy(room.h + (b - rows.first) * room.h_stride, run.d_h + b * P, P);
    if (Cell::CARRIES_C) copy(room.c + (b - rows.first) * room.c_stride, run.d_c + b * H, H);
  }
  zero_padding(layer, rows, run.d_x, I);

  for (Index last = layer.T; last > 0; last = larger(0, last - room.steps)) {
    const Index first = larger(0, last - room.steps);
    Index cells = 0;
    for (Index taken = last; taken-- > first;)
      cells += retreat(run, rows, step(layer, taken), room, room.z + cells * z_stride);
    product({room.z, z_stride}, cells, run.w_ih, Cell::GATES * H, room.x_stride, room.x, room.x_stride);
    Index k = 0;
    for (Index taken = last; taken-- > first;) {
      const Index t = step(layer, taken);
      each_live(layer, rows, t,
                [&](Index b) { copy(run.d_x + (t * layer.B + b) * I, room.x + k++ * room.x_stride, I); });
    }
  }

  for (Index b = rows.first; b < rows.last; ++b) {
    copy(run.d_h0 + b * P, room.h + (b - rows.first) * room.h_stride, P);
    if (Cell::CARRIES_C) copy(run.d_c0 + b * H, room.c + (b - rows.first) * room.c_stride, H);
  }
}

}  // namespace jaxlstm::INSTRUCTION_SET
