// The arrays of each call, operands and then results, in order. Of each there are M, one model's after the other's.
#pragma once

#include "layer.h"

namespace jaxlstm {

enum class Presence { always, optional };

inline Presence of_c(const Layer& layer) { return layer.G == SUMS ? Presence::always : Presence::optional; }

// Calls f(pointer, elements of one model, presence); an operand's pointer is to const, a result's is not.
template <typename F>
void each_array(Pack& run, F f) {
  f(run.matrix, run.K * run.N, Presence::always);
  f(run.packed, packed_size(run.K, run.groups * up(run.N / run.groups)), Presence::always);
}

template <typename F>
void each_array(Layer& layer, F f) {
  const Index T = layer.T, B = layer.B;
  f(layer.x, T * B * layer.I, Presence::always);
  f(layer.h, B * layer.P, Presence::always);
  f(layer.c, B * layer.H, of_c(layer));
  f(layer.lengths, B, Presence::optional);
  f(layer.resets, T * B, Presence::optional);
}

template <typename F>
void each_array(Forward& run, F f) {
  const Index G = run.layer.G, B = run.layer.B, I = run.layer.I, H = run.layer.H, P = run.layer.P;
  const Index cells = run.layer.T * B;
  const Presence c = of_c(run.layer);
  each_array(run.layer, f);
  f(run.w_ih, run.layer.single ? G * H * I : packed_size(I, G * up(H)), Presence::always);
  f(run.w_hh, run.layer.single ? G * H * P : packed_size(P, G * up(H)), Presence::always);
  f(run.w_hr, packed_size(H, P), Presence::optional);
  f(run.bias, SUMS * H, Presence::optional);
  f(run.y, cells * P, Presence::always);
  f(run.h, B * P, Presence::always);
  f(run.c, B * H, c);
  f(run.gates, cells * SUMS * H, Presence::optional);
  f(run.c_before, cells * H, Presence::optional);
}

template <typename F>
void each_array(Backward& run, F f) {
  const Index G = run.layer.G, B = run.layer.B, I = run.layer.I, H = run.layer.H, P = run.layer.P;
  const Index cells = run.layer.T * B;
  const Presence c = of_c(run.layer);
  each_array(run.layer, f);
  f(run.w_ih, run.layer.single ? G * H * I : packed_size(G * H, I), Presence::always);
  f(run.w_hh, run.layer.single ? G * H * P : packed_size(G * H, P), Presence::always);
  f(run.w_hr, packed_size(P, H), Presence::optional);
  f(run.y, cells * P, Presence::always);
  f(run.gates, cells * SUMS * H, Presence::always);
  f(run.c_before, cells * H, c);
  f(run.d_y, cells * P, Presence::always);
  f(run.d_h, B * P, Presence::always);
  f(run.d_c, B * H, c);
  f(run.d_x, cells * I, Presence::always);
  f(run.d_h0, B * P, Presence::always);
  f(run.d_c0, B * H, c);
  f(run.d_z, cells * SUMS * H, Presence::always);
  f(run.m, cells * H, Presence::optional);
  f(run.d_m, cells * P, Presence::optional);
}

template <typename F>
void each_array(Weights& run, F f) {
  const Index G = run.layer.G, I = run.layer.I, H = run.layer.H, P = run.layer.P, cells = run.layer.T * run.layer.B;
  each_array(run.layer, f);
  f(run.y, cells * P, Presence::always);
  f(run.d_z, cells * SUMS * H, Presence::always);
  f(run.m, cells * H, Presence::optional);
  f(run.d_m, cells * P, Presence::optional);
  f(run.d_w_ih, G * H * I, Presence::always);
  f(run.d_w_hh, G * H * P, Presence::always);
  f(run.d_bias, SUMS * H, Presence::always);
  f(run.d_w_hr, P * H, Presence::optional);
}

// The run of model m, given that of model 0.
template <typename Run>
Run of_model(Run run, Index m) {
  const auto move = [m](auto*& pointer, Index elements, Presence) {
    if (pointer) pointer += m * elements;
  };
  each_array(run, move);
  return run;
}

}  // namespace jaxlstm
