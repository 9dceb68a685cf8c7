// The gradients of the weights, for some of their rows: sums over all steps of all rows of the batch.
//
//   d_W_ih = sum d_z x^T      d_W_hh = sum d_z h^T      d_b = sum d_z      d_W_hr = sum d_h m^T
//
// with the d_z of those sums that the weight's product went into.
// DEPTH cells are summed in registers at a time, in the same order always; the sums are added to the result one by one.
#pragma once

#include "product.h"
#include "rows.h"

namespace jaxlstm::INSTRUCTION_SET {

inline constexpr Index DEPTH = 384, HEIGHT = 8 * MOST_ROWS;

// A result [rows, columns], and its right operand: the rows that it is made of, one for each cell, and packed.
struct Outer {
  Index columns;
  float* result;
  float* packed;
  const float* right[DEPTH];
};

struct Cells {
  Index count;
  Index at[DEPTH];  // t B + b
};

struct WeightsRoom {
  WeightsRoom(Index columns, Room& room)
      : left_stride(padded(HEIGHT)),
        left(room.take(DEPTH * left_stride)),
        right(room.take(columns * (DEPTH + 1))),
        edge(room.take(HEIGHT * W)) {}

  Index left_stride;
  float *left, *right;  // [DEPTH, HEIGHT]; what of right operands is packed
  float* edge;          // [HEIGHT, W]: the sums of a result's last columns, where they are fewer than W
};

inline void pack_right(const Outer& outer, Index count) {
  float* to = outer.packed;
  for (Index column = 0; column < outer.columns; column += W, to += strip(count))
    for (Index k = 0; k < count; ++k) store(to + k * W, load(outer.right[k] + column, outer.columns - column));
}

// Adds the cells' left [., rows] times right to the results of so many outers, and left to `bias` if it is there.
inline void add_cells(const Cells& cells, const float* left, Index left_columns, Range rows, const Outer* outers,
                      int number, float* bias, const WeightsRoom& room) {
  for (Index row = rows.first; row < rows.last; row += HEIGHT) {
    const Index height = smaller(HEIGHT, rows.last - row);
    for (Index k = 0; k < cells.count; ++k) {
      const float* from = left + cells.at[k] * left_columns + row;
      copy(room.left + k * room.left_stride, from, height);
      if (bias) add(bias + row, from, height);
    }
    const Left block{room.left, room.left_stride};
    for (const Outer* outer = outers; outer < outers + number; ++outer) {
      const Index whole = outer->columns / W * W, rest = outer->columns - whole, K = cells.count;
      float* to = outer->result + row * outer->columns;
      product<true>(block, height, outer->packed, K, whole, to, outer->columns, {true});
      if (rest > 0) {
        product<true>(block, height, outer->packed + whole / W * strip(K), K, W, room.edge, W);
        for (Index k = 0; k < height; ++k) add(to + k * outer->columns + whole, room.edge + k * W, rest);
      }
    }
  }
}

// Calls f(cells) with DEPTH cells after DEPTH cells, and fill(k, t, b) for the k-th of them beforehand.
template <typename Fill, typename F>
void by_cells(const Layer& layer, Fill fill, F f) {
  Cells cells{};
  for (Index t = 0; t < layer.T; ++t)
    each_live(layer, {0, layer.B}, t, [&](Index b) {
      fill(cells.count, t, b);
      cells.at[cells.count++] = t * layer.B + b;
      if (cells.count < DEPTH) return;
      f(cells);
      cells.count = 0;
    });
  if (cells.count > 0) f(cells);
}

inline Index weights_space(const Layer& layer) {
  Room room(nullptr);
  WeightsRoom(larger(up(layer.I) + up(layer.P), up(layer.H)), room);
  return room.taken() + up(layer.P);
}

inline void projection(const Weights& run, Range outputs, float* space) {
  const Layer& layer = run.layer;
  Room parts(space);
  const WeightsRoom room(up(layer.H), parts);
  zero(run.d_w_hr + outputs.first * layer.H, outputs.size() * layer.H);
  Outer outer{layer.H, run.d_w_hr, room.right, {}};
  by_cells(
      layer, [&](Index k, Index t, Index b) { outer.right[k] = run.m + (t * layer.B + b) * layer.H; },
      [&](const Cells& cells) {
        pack_right(outer, cells.count);
        add_cells(cells, run.d_m, layer.P, outputs, &outer, 1, nullptr, room);
      });
}

template <typename Cell>
void weights(const Weights& run, Range gates, float* space) {
  const Layer& layer = run.layer;
  const Index I = layer.I, H = layer.H, P = layer.P;
  Room parts(space);
  const WeightsRoom room(up(I) + up(P), parts);
  float* zeros = parts.take(P);
  zero(zeros, P);

  // Rows whose d_z both weights share, and those of which W_hh has a d_z of its own, `apart` columns further on.
  const Index joint = Cell::JOINT * H, apart = (SUMS - Cell::GATES) * H;
  const Range shared{smaller(gates.first, joint), smaller(gates.last, joint)};
  const Range own{larger(gates.first, joint), larger(gates.last, joint)};
  zero(run.d_w_ih + gates.first * I, gates.size() * I);
  zero(run.d_w_hh + gates.first * P, gates.size() * P);
  zero(run.d_bias + gates.first, gates.size());
  if (apart > 0) zero(run.d_bias + own.first + apart, own.size());

  Outer outers[] = {{I, run.d_w_ih, room.right, {}}, {P, run.d_w_hh, room.right + up(I) * (DEPTH + 1), {}}};
  by_cells(
      layer,
      [&](Index k, Index t, Index b) {
        outers[0].right[k] = layer.x + (t * layer.B + b) * I;
        outers[1].right[k] = h_before(layer, run.y, zeros, t, b);
      },
      [&](const Cells& cells) {
        for (const Outer& outer : outers) pack_right(outer, cells.count);
        add_cells(cells, run.d_z, SUMS * H, shared, outers, 2, run.d_bias, room);
        add_cells(cells, run.d_z, SUMS * H, own, &outers[0], 1, run.d_bias, room);
        add_cells(cells, run.d_z + apart, SUMS * H, own, &outers[1], 1, run.d_bias + apart, room);
      });
  if (run.d_w_hr) {
    const auto share = [&](Index gate) { return gate * P / (Cell::GATES * H); };
    projection(run, {share(gates.first), share(gates.last)}, space);
  }
}

}  // namespace jaxlstm::INSTRUCTION_SET
