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

// Whether C takes the product added to what is there, and whether its columns are made from the last to the first.
struct Mode {
  bool add = false, from_end = false;
};

// M rows by N vectors of C, held in registers while k goes by.
template <int M, int N, bool transposed>
inline void tile(Left a, const float* b, Index K, float* c, Index c_stride, bool add) {
  Vector sum[M][N] = {};
  for (Index k = 0; k < K; ++k) {
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
      store(to, add ? load(to) + sum[m][n] : sum[m][n]);
    }
}

// `strips` strips of C, N at a time; of its rows, the first `tall` tiles have M and the rest, `low` tiles, M - 1.
template <int M, int N, bool transposed>
void strips_of(Left a, Index tall, Index low, const float* b, Index K, Index strips, float* c, Index stride,
               Mode mode) {
  const Index a_step = transposed ? 1 : a.stride, whole = strips / N * N;
  const auto rest = [&] {
    if constexpr (N > 1)
      strips_of<M, (N + 1) / 2, transposed>(a, tall, low, b + whole * strip(K), K, strips - whole, c + whole * W,
                                            stride, mode);
  };
  if (mode.from_end) rest();
  for (Index taken = 0; taken < whole; taken += N) {
    const Index first = mode.from_end ? whole - N - taken : taken;
    const float* columns = b + first * strip(K);
    Left rows = a;
    float* to = c + first * W;
    for (Index k = 0; k < tall; ++k, rows.data += M * a_step, to += M * stride)
      tile<M, N, transposed>(rows, columns, K, to, stride, mode.add);
    if constexpr (M > 1)
      for (Index k = 0; k < low; ++k, rows.data += (M - 1) * a_step, to += (M - 1) * stride)
        tile<M - 1, N, transposed>(rows, columns, K, to, stride, mode.add);
  }
  if (!mode.from_end) rest();
}

// Registers that hold sums. A sum waits four cycles for its last product, in which there is time for eight: 16 are
// enough, and of 16 registers 12 take 0.82 of the time of 8.
inline constexpr int HELD = REGISTERS == 16 ? 12 : 16, MOST_ROWS = HELD / 2;

// The more rows a tile has, the fewer vectors wide it is: one of B is used M times, and N of its lanes by each of A.
constexpr int width(int M) {
  int N = 8;
  while (M * N > HELD) N = N > 4 ? 4 : N - 1;
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
