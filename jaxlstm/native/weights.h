// The gradients of the weights, for some of their rows: sums over all steps of all rows of the batch.
//
//   d_W_ih = sum d_z x^T      d_W_hh = sum d_z h^T      d_b = sum d_z      d_W_hr = sum d_h m^T
//
// DEPTH cells are summed in registers at a time, in the same order always; the sums are added to the result one by one.
#pragma once

#include "product.h"
#include "rows.h"

namespace jaxlstm::INSTRUCTION_SET {

inline constexpr Index DEPTH = 384, HEIGHT = 8 * MOST_ROWS;

// A result [rows, columns] and the rows, one for each cell, that its right operand is made of.
struct Outer {
  Index columns;
  float* result;
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
  float *left, *right;  // [DEPTH, HEIGHT]; packed
  float* edge;          // [HEIGHT, W]: the sums of a result's last columns, where they are fewer than W
};

inline void pack_cells(const float* const* rows, Index count, Index columns, float* packed) {
  for (Index column = 0; column < columns; column += W, packed += strip(count))
    for (Index k = 0; k < count; ++k) store(packed + k * W, load(rows[k] + column, columns - column));
}

// Adds the cells' left [., rows] times right to each outer's result, and to `bias` if there is one.
template <int COUNT>
void add_cells(const Cells& cells, const float* left, Index left_columns, Range rows, const Outer (&outers)[COUNT],
               float* bias, const WeightsRoom& room) {
  float* packed = room.right;
  for (const Outer& outer : outers) {
    pack_cells(outer.right, cells.count, outer.columns, packed);
    packed += up(outer.columns, W) / W * strip(cells.count);
  }
  for (Index row = rows.first; row < rows.last; row += HEIGHT) {
    const Index height = smaller(HEIGHT, rows.last - row);
    for (Index k = 0; k < cells.count; ++k) {
      const float* from = left + cells.at[k] * left_columns + row;
      copy(room.left + k * room.left_stride, from, height);
      if (bias) add(bias + row, from, height);
    }
    const float* right = room.right;
    for (const Outer& outer : outers) {
      const Index whole = outer.columns / W * W, rest = outer.columns - whole, K = cells.count;
      float* to = outer.result + row * outer.columns;
      product<true>({room.left, room.left_stride}, height, right, K, whole, to, outer.columns, true);
      if (rest > 0) {
        product<true>({room.left, room.left_stride}, height, right + whole / W * strip(K), K, W, room.edge, W, false);
        for (Index k = 0; k < height; ++k) add(to + k * outer.columns + whole, room.edge + k * W, rest);
      }
      right += up(outer.columns, W) / W * strip(K);
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
  Outer outers[1] = {{layer.H, run.d_w_hr, {}}};
  by_cells(
      layer, [&](Index k, Index t, Index b) { outers[0].right[k] = run.m + (t * layer.B + b) * layer.H; },
      [&](const Cells& cells) { add_cells(cells, run.d_m, layer.P, outputs, outers, nullptr, room); });
}

inline void weights(const Weights& run, Range gates, float* space) {
  const Layer& layer = run.layer;
  const Index I = layer.I, P = layer.P;
  Room parts(space);
  const WeightsRoom room(up(I) + up(P), parts);
  float* nothing = parts.take(P);
  zero(nothing, P);
  zero(run.d_w_ih + gates.first * I, gates.size() * I);
  zero(run.d_w_hh + gates.first * P, gates.size() * P);
  zero(run.d_bias + gates.first, gates.size());

  Outer outers[2] = {{I, run.d_w_ih, {}}, {P, run.d_w_hh, {}}};
  const Index back = layer.reverse ? 1 : -1;
  const auto h_before = [&](Index t, Index b) -> const float* {
    if (begins(layer, t, b)) return nothing;
    const bool first = layer.reverse ? t == length(layer, b) - 1 : t == 0;
    return first ? layer.h + b * P : run.y + ((t + back) * layer.B + b) * P;
  };
  by_cells(
      layer,
      [&](Index k, Index t, Index b) {
        outers[0].right[k] = layer.x + (t * layer.B + b) * I;
        outers[1].right[k] = h_before(t, b);
      },
      [&](const Cells& cells) { add_cells(cells, run.d_z, 4 * layer.H, gates, outers, run.d_bias, room); });
  if (run.d_w_hr) {
    const auto share = [&](Index gate) { return gate * P / (4 * layer.H); };
    projection(run, {share(gates.first), share(gates.last)}, space);
  }
}

}  // namespace jaxlstm::INSTRUCTION_SET
