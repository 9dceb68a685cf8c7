// C = A B, or C += A B, for a small or large A and a B that has been packed.
//
// Every element of C is one sum over k in one order, in a lane of its own: its bits depend neither on the other rows
// that are multiplied with it nor on the shape of the tile that it falls into.
#pragma once

#include "vector.h"

namespace jaxlstm::INSTRUCTION_SET {

// Packed, a matrix [K, N] is a row of strips, each W columns wide and K long, [N / W, K + 1, W]. The one row more keeps
// strips of K = 2^n from meeting in the same sets of the cache; it is never read.
constexpr Index strip(Index K) { return (K + 1) * W; }

// A [rows, K], or its transpose as it lies in memory.
struct Left {
  const float* data;
  Index stride;  // between rows, or, transposed, between columns
};

// How C takes the product: whether added to what is there, and from which end of k its sums begin.
struct Mode {
  bool add = false, from_end = false;
};

// M rows by N vectors of C, held in registers while k goes by.
template <int M, int N, bool transposed>
inline void tile(Left a, const float* b, Index K, float* c, Index c_stride, Mode mode) {
  Vector sum[M][N] = {};
  const Index by = mode.from_end ? -1 : 1;
  for (Index k = mode.from_end ? K - 1 : 0, left = K; left > 0; --left, k += by) {
    Vector row[N];
    for (int n = 0; n < N; ++n) row[n] = load(b + n * strip(K) + k * W);
    for (int m = 0; m < M; ++m) {
      const float element = transposed ? a.data[k * a.stride + m] : a.data[m * a.stride + k];
      for (int n = 0; n < N; ++n) sum[m][n] += element * row[n];
    }
  }
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) {
      float* to = c + m * c_stride + n * W;
      store(to, mode.add ? load(to) + sum[m][n] : sum[m][n]);
    }
}

// `strips` strips of C, N at a time; of its rows, the first `tall` tiles have M and the rest, `low` tiles, M - 1.
template <int M, int N, bool transposed>
void strips_of(Left a, Index tall, Index low, const float* b, Index K, Index strips, float* c, Index stride,
               Mode mode) {
  const Index a_step = transposed ? 1 : a.stride;
  for (; strips >= N; strips -= N, b += N * strip(K), c += N * W) {
    Left rows = a;
    float* to = c;
    for (Index k = 0; k < tall; ++k, rows.data += M * a_step, to += M * stride)
      tile<M, N, transposed>(rows, b, K, to, stride, mode);
    if constexpr (M > 1)
      for (Index k = 0; k < low; ++k, rows.data += (M - 1) * a_step, to += (M - 1) * stride)
        tile<M - 1, N, transposed>(rows, b, K, to, stride, mode);
  }
  if constexpr (N > 1) strips_of<M, N / 2, transposed>(a, tall, low, b, K, strips, c, stride, mode);
}

// Half of the registers hold sums; the more rows a tile has, the fewer vectors wide it is. A vector of B is then used
// M times, and W N of its lanes by each element of A.
inline constexpr int MOST_ROWS = REGISTERS / 4;

constexpr int width(int M) {
  int N = REGISTERS / 2;
  while (M * N > REGISTERS / 2) N /= 2;
  return N;
}

template <bool transposed, int M = MOST_ROWS>
void by_tiles(Index height, Left a, Index rows, const float* b, Index K, Index strips, float* c, Index stride,
              Mode mode) {
  if constexpr (M > 1)
    if (height < M) return by_tiles<transposed, M - 1>(height, a, rows, b, K, strips, c, stride, mode);
  const Index tiles = (rows + M - 1) / M, low = tiles * M - rows;
  strips_of<M, width(M), transposed>(a, tiles - low, low, b, K, strips, c, stride, mode);
}

// C [rows, columns] (+)= A [rows, K] B [K, columns]; columns is a multiple of W.
template <bool transposed = false>
void product(Left a, Index rows, const float* b, Index K, Index columns, float* c, Index c_stride, Mode mode = {}) {
  if (rows == 0) return;
  const Index tiles = (rows + MOST_ROWS - 1) / MOST_ROWS;  // as equal in height as can be
  by_tiles<transposed>((rows + tiles - 1) / tiles, a, rows, b, K, columns / W, c, c_stride, mode);
}

}  // namespace jaxlstm::INSTRUCTION_SET
