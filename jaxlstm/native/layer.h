// What the kernels are given, and the table of them that each instruction set fills.
//
// Letters as everywhere in this project: T steps, B rows of the batch, I inputs, H hidden units, P outputs (H where
// there is no projection), G gates. All arrays are dense, row-major float32.
//
// Rows of the weights lie by gates, i, f, g, o of an LSTM and r, z, n of a GRU. Each unit of either has four sums that
// its gates are made of: an LSTM's, from x and h together; a GRU's r and z likewise, n from x, and n from h.
#pragma once

#include <cstdint>

namespace jaxlstm {

using Index = std::int64_t;

// Every packed matrix and every row of a sum is this much longer or a multiple of it: what all vectors divide.
inline constexpr Index LANES = 16;

// Inlined always: a copy compiled for one instruction set must not be linked into the code for another.
[[gnu::always_inline]] constexpr Index smaller(Index a, Index b) { return a < b ? a : b; }
[[gnu::always_inline]] constexpr Index larger(Index a, Index b) { return a > b ? a : b; }
[[gnu::always_inline]] constexpr Index up(Index size, Index multiple = LANES) {
  return (size + multiple - 1) / multiple * multiple;
}

inline constexpr Index SUMS = 4;

// One direction of one layer.
struct Layer {
  Index G, T, B, I, H, P;       // 4 gates are an LSTM, 3 a GRU
  bool reverse;                 // from step T-1 down to 0
  bool single;                  // T = 1 without projection: W_ih and W_hh are as they lie, [G H, .], and not packed
  const float* x;               // [T, B, I]
  const float* h;               // [B, P], where the run sets out from
  const float* c;               // [B, H]; null for a GRU, as all its c
  const std::int32_t* lengths;  // [B], or null: past its length a row's state stands still and its output is 0
  const bool* resets;           // [T, B], or null: the state is zero before this step
};

// Packed, a matrix [K, N] is the right operand of products; product.h says why one row more.
[[gnu::always_inline]] constexpr Index packed_size(Index K, Index N) { return up(N) * (K + 1); }

struct Pack {
  Index K, N;
  bool transposed;  // the matrix lies in memory as [N, K]
  Index groups;     // of columns, each padded with zeros to LANES: G where gates are to lie apart
  const float* matrix;
  float* packed;
};

struct Forward {
  Layer layer;
  const float *w_ih, *w_hh, *w_hr;  // packed: transposed, gates apart, and [H, P] transposed or null
  const float* bias;                // [4H] of the sums, or null
  float *y, *h, *c;                 // [T, B, P], [B, P], [B, H]
  float *gates, *c_before;            // [T, B, 4H] active, [T, B, H] before the step; null if nothing is kept
};

struct Backward {
  Layer layer;
  const float *w_ih, *w_hh, *w_hr;  // packed: [G H, I], [G H, P], and [P, H] or null
  const float *d_y, *d_h, *d_c;     // [T, B, P], [B, P], [B, H]: cotangents of the results
  const float *y, *gates, *c_before;  // as forward gave them
  float *d_x, *d_h0, *d_c0;         // [T, B, I], [B, P], [B, H]
  float* d_z;                       // [T, B, 4H] of the sums; may be `gates`, unless single
  float *d_m, *m;                   // [T, B, P], and [T, B, H] or `c_before`: h = W_hr m. Null without projection.
                                    // All three are unset at padding.
};

struct Weights {
  Layer layer;
  const float *y, *d_z;    // [T, B, P], [T, B, 4H]
  const float *d_m, *m;    // as above
  float *d_w_ih, *d_w_hh;  // [G H, I], [G H, P]
  float* d_bias;           // [4H] of the sums
  float* d_w_hr;           // [P, H], or null
};

struct Range {
  Index first, last;
  [[gnu::always_inline]] Index size() const { return last - first; }
};

// Each function does a share of the whole, and shares may run at once. `space` is room to work in, as much as the
// function named so says; it need not be set, and is aligned to a line of the cache.
struct CellKernels {
  Index (*single_space)(const Layer&);
  void (*single)(const Forward&, Range units, float* space);
  Index (*single_backward_space)(const Layer&);
  void (*single_backward)(const Backward&, Range units, float* space);
  Index (*forward_space)(const Layer&, Index rows);
  void (*forward)(const Forward&, Range rows, float* space);
  Index (*backward_space)(const Layer&, Index rows);
  void (*backward)(const Backward&, Range rows, float* space);
  Index (*weights_space)(const Layer&);
  void (*weights)(const Weights&, Range gates, float* space);  // of G H; and a like share of the rows of w_hr
};

struct Kernels {
  const char* name;
  void (*pack)(const Pack&, Range columns);  // as packed, from a multiple of LANES to another
  CellKernels lstm, gru;
  const CellKernels& of(const Layer& layer) const { return layer.G == 3 ? gru : lstm; }
};

}  // namespace jaxlstm
