// What the kernels are given, and the table of them that each instruction set fills.
//
// Letters as everywhere in this project: T steps, B rows of the batch, I inputs, H hidden units, P outputs (H where
// there is no projection). All arrays are dense, row-major float32. Gates lie in the order i, f, g, o.
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

// One direction of one layer.
struct Layer {
  Index T, B, I, H, P;
  bool reverse;                 // from step T-1 down to 0
  const float* x;               // [T, B, I]
  const float* h;               // [B, P], where the run sets out from
  const float* c;               // [B, H]
  const std::int32_t* lengths;  // [B], or null: past its length a row's state stands still and its output is 0
  const bool* begins;           // [T, B], or null: the state is zero before this step
};

// Packed, a matrix [K, N] is the right operand of products; product.h says why one row more.
[[gnu::always_inline]] constexpr Index packed_size(Index K, Index N) { return up(N) * (K + 1); }

struct Pack {
  Index K, N;
  bool turned;          // the matrix lies in memory as [N, K]
  Index groups;         // of columns, each padded with zeros to LANES: 4 where gates are to lie apart
  const float* matrix;
  float* packed;
};

struct Forward {
  Layer layer;
  const float *w_ih, *w_hh, *w_hr;  // packed: turned, gates apart, and [H, P] turned or null
  const float* bias;                // [4H], or null
  float *y, *h, *c;                 // [T, B, P], [B, P], [B, H]
  float *gates, *kept_c;            // [T, B, 4H] active, [T, B, H] before the step; both null if nothing is kept
};

struct Backward {
  Layer layer;
  const float *w_ih, *w_hh, *w_hr;  // packed: [4H, I], [4H, P], and [P, H] or null
  const float *d_y, *d_h, *d_c;     // [T, B, P], [B, P], [B, H]: cotangents of the results
  const float *gates, *kept_c;      // as kept
  float *d_x, *d_h0, *d_c0;         // [T, B, I], [B, P], [B, H]
  float* d_z;                       // [T, B, 4H]; may be `gates`. Unset at padding, as are the next two.
  float *d_m, *m;                   // [T, B, P], and [T, B, H] or `kept_c`: h = W_hr m. Null without projection.
};

struct Weights {
  Layer layer;
  const float *y, *d_z;    // [T, B, P], [T, B, 4H]
  const float *d_m, *m;    // as above
  float *d_w_ih, *d_w_hh;  // [4H, I], [4H, P]
  float* d_bias;           // [4H]
  float* d_w_hr;           // [P, H], or null
};

struct Range {
  Index first, last;
  [[gnu::always_inline]] Index size() const { return last - first; }
};

// Each function does a share of the whole, and shares may run at once. `space` is room to work in, as much as the
// function named so says; it need not be set, and is aligned to a line of the cache.
struct Kernels {
  const char* name;
  void (*pack)(const Pack&, Range columns);  // as packed, from a multiple of LANES to another
  Index (*forward_space)(const Layer&, Index rows);
  void (*forward)(const Forward&, Range rows, float* space);
  Index (*backward_space)(const Layer&, Index rows);
  void (*backward)(const Backward&, Range rows, float* space);
  Index (*weights_space)(const Layer&);
  void (*weights)(const Weights&, Range gates, float* space);  // of 4H; and a like share of the rows of w_hr
};

}  // namespace jaxlstm
