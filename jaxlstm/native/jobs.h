// Each call as a job: how it is cut into parts.
#pragma once

#include <algorithm>

#include "arrays.h"
#include "threads.h"

namespace jaxlstm {

// A part is worth a thread of its own if it has so many operations, some 20 us: waking one takes about as long.
inline double worth_a_thread = 2e6;

// What is cut for each model, at multiples of `unit` only.
struct Extent {
  Index size, unit;

  Index units() const { return (size + unit - 1) / unit; }
  Range part(Index k, Index parts) const {
    return {units() * k / parts * unit, smaller(size, units() * (k + 1) / parts * unit)};
  }
};

// run_part(run, range, space) for each part of each of M models; space_for(size) is what a range of that size needs.
template <typename Run, typename SpaceFor, typename RunPart>
Job cut(const Run& run, Index M, Index threads, Extent extent, double operations, SpaceFor space_for,
        RunPart run_part) {
  const double worth = std::min(static_cast<double>(threads), operations / worth_a_thread);
  const Index workers = larger(1, static_cast<Index>(worth));
  const Index parts = larger(1, smaller(extent.units(), (workers + M - 1) / M));
  const Index largest = (extent.units() + parts - 1) / parts * extent.unit;
  return {M * parts, smaller(workers, M * parts), space_for(largest), [=](Index k, float* space) {
            run_part(of_model(run, k / parts), extent.part(k % parts, parts), space);
          }};
}

// 2 for each element of W_ih and W_hh, at each step of each row of each model; that it is read at all takes 8 more.
inline double operations(const Layer& layer, Index M) {
  const double cells = static_cast<double>(layer.T) * static_cast<double>(layer.B);
  const double elements = static_cast<double>(layer.G * layer.H) * static_cast<double>(layer.I + layer.P);
  return static_cast<double>(M) * elements * (2.0 * cells + 8.0);
}

// Of the batch, two rows at least: one alone leaves half of the arithmetic idle.
inline Extent rows(const Layer& layer) { return {layer.B, 2}; }

inline Job job(const Kernels& kernels, const Pack& run, Index M, Index threads) {
  const Extent columns{run.groups * up(run.N / run.groups), LANES};
  const double moves = static_cast<double>(M) * static_cast<double>(run.K) * static_cast<double>(run.N);
  return cut(run, M, threads, columns, 16.0 * moves, [](Index) { return Index{0}; },
             [pack = kernels.pack](const Pack& part, Range range, float*) { pack(part, range); });
}

inline Extent units(const Layer& layer) { return {layer.H, LANES}; }

inline Job job(const Kernels& kernels, const Forward& run, Index M, Index threads) {
  if (run.layer.single)
    return cut(run, M, threads, units(run.layer), operations(run.layer, M),
               [&](Index) { return kernels.of(run.layer).single_space(run.layer); }, kernels.of(run.layer).single);
  return cut(run, M, threads, rows(run.layer), operations(run.layer, M),
             [&](Index size) { return kernels.of(run.layer).forward_space(run.layer, size); },
             kernels.of(run.layer).forward);
}

inline Job job(const Kernels& kernels, const Backward& run, Index M, Index threads) {
  if (run.layer.single)
    return cut(run, M, threads, units(run.layer), operations(run.layer, M),
               [&](Index) { return kernels.of(run.layer).single_backward_space(run.layer); },
               kernels.of(run.layer).single_backward);
  return cut(run, M, threads, rows(run.layer), operations(run.layer, M),
             [&](Index size) { return kernels.of(run.layer).backward_space(run.layer, size); },
             kernels.of(run.layer).backward);
}

inline Job job(const Kernels& kernels, const Weights& run, Index M, Index threads) {
  return cut(run, M, threads, {run.layer.G * run.layer.H, 8}, operations(run.layer, M),
             [&](Index) { return kernels.of(run.layer).weights_space(run.layer); }, kernels.of(run.layer).weights);
}

}  // namespace jaxlstm
