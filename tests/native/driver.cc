// Runs the kernels without XLA on random problems and holds them against the same equations in double, step by step.
//
//     driver [how many problems]
//
// Sizes are small and odd, so that every tail is met. Some inputs hold NaN, infinities, huge and denormal numbers: then
// the two must agree in what is finite. A problem's rows alone, and any number of threads, must give the same bits.
// Built with a sanitizer, it shows that nothing is read or written out of bounds, uninitialized, or by two at once.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "instruction_sets.h"
#include "jobs.h"
#include "reference.h"

namespace {

using namespace jaxlstm;

// Threads that start when they are scheduled, and end with the pool.
class Pool {
 public:
  ~Pool() {
    for (std::thread& thread : threads_) thread.join();
  }
  template <typename F>
  void Schedule(F f) {
    threads_.emplace_back(std::move(f));
  }

 private:
  std::vector<std::thread> threads_;
};

template <typename Run>
void run_on(const Kernels& kernels, const Run& run, Index M, Index threads) {
  Pool pool;
  share(pool, job(kernels, run, M, threads), [] {});
}

std::vector<float> pack(const Kernels& kernels, const std::vector<float>& matrix, Index M, Index K, Index N, bool transposed,
                        Index groups, Index threads) {
  if (matrix.empty()) return {};
  std::vector<float> packed(static_cast<std::size_t>(M * packed_size(K, groups * up(N / groups))));
  run_on(kernels, Pack{K, N, transposed, groups, matrix.data(), packed.data()}, M, threads);
  return packed;
}

// All results of a problem by the kernels.
Results by_kernels(const Kernels& kernels, const Problem& p, Index threads) {
  const Index M = p.M, G = p.G, I = p.I, H = p.H, P = p.P;
  const Layer layer = p.layer();
  const auto packed = [&](const std::vector<float>& w, Index K, Index N, bool transposed, Index groups) {
    if (p.single()) return w;
    return pack(kernels, w, M, K, N, transposed, groups, threads);
  };
  const auto ih = packed(p.w_ih, I, G * H, true, G), hh = packed(p.w_hh, P, G * H, true, G);
  const auto hr = packed(p.w_hr, H, P, true, 1);
  Results r(p);
  std::vector<float> gates(p.of(p.T * p.B * SUMS * H)), c_before(G == 4 ? p.of(p.T * p.B * H) : 0);
  std::vector<float> d_m(p.w_hr.empty() ? 0 : r.y.size()), apart(p.single() ? gates.size() : 0);
  float* d_z = p.single() ? apart.data() : gates.data();
  run_on(kernels,
         Forward{layer, ih.data(), hh.data(), pointer(hr), pointer(p.bias), r.y.data(), r.h.data(), pointer(r.c),
                 gates.data(), pointer(c_before)},
         M, threads);
  const auto ih_back = packed(p.w_ih, G * H, I, false, 1), hh_back = packed(p.w_hh, G * H, P, false, 1);
  const auto hr_back = packed(p.w_hr, P, H, false, 1);
  float* m = p.w_hr.empty() ? nullptr : c_before.data();
  run_on(kernels,
         Backward{layer, ih_back.data(), hh_back.data(), pointer(hr_back), p.d_y.data(), p.d_h.data(), pointer(p.d_c),
                  r.y.data(), gates.data(), pointer(c_before), r.d_x.data(), r.d_h0.data(), pointer(r.d_c0), d_z, pointer(d_m), m},
         M, threads);
  run_on(kernels,
         Weights{layer, r.y.data(), d_z, pointer(d_m), m, r.d_w_ih.data(), r.d_w_hh.data(), r.d_bias.data(),
                 pointer(r.d_w_hr)},
         M, threads);
  return r;
}

[[noreturn]] void fail(const Kernels& kernels, const Problem& p, const std::string& what) {
  std::printf("%s: %s: %s\n", kernels.name, p.text().c_str(), what.c_str());
  std::exit(1);
}

void check_close(const Kernels& kernels, const Problem& p, const Results& got) {
  const auto wanted = by_reference(p);
  std::size_t k = 0;
  for (const auto* array : got.all()) {
    const std::vector<double>& want = wanted[k++];
    double largest = 1;
    for (double value : want)
      if (std::isfinite(value)) largest = std::fmax(largest, std::fabs(value));
    for (std::size_t at = 0; at < want.size(); ++at) {
      const double value = static_cast<double>((*array)[at]);
      const bool same = p.extreme ? std::isnan(value) == std::isnan(want[at]) || !std::isfinite(value)
                                  : std::fabs(value - want[at]) <= 2e-5 * largest;
      if (!same)
        fail(kernels, p, "array " + std::to_string(k - 1) + "[" + std::to_string(at) + "] is " +
                             std::to_string(value) + ", not " + std::to_string(want[at]));
    }
  }
}

void check_same_bits(const Kernels& kernels, const Problem& p, const Results& a, const Results& b) {
  const auto of_a = a.all(), of_b = b.all();
  const auto same = [](float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); };  // -0 is 0
  for (std::size_t k = 0; k < of_a.size(); ++k)
    if (!std::equal(of_a[k]->begin(), of_a[k]->end(), of_b[k]->begin(), of_b[k]->end(), same))
      fail(kernels, p, "array " + std::to_string(k) + " has other bits");
}

void check_rows_alone(const Kernels& kernels, const Problem& p, const Results& all) {
  for (Index b = 0; b < p.B; ++b) {
    const Problem row = p.row(b);
    const Results alone = by_kernels(kernels, row, 1);
    check_same_bits(kernels, p, Results::rows_only(alone, row, 0), Results::rows_only(all, p, b));
  }
}

}  // namespace

int main(int count, char** arguments) {
  const int problems = count > 1 ? std::atoi(arguments[1]) : 100;
  worth_a_thread = 1;  // Threads for the smallest problem.
  int sets = 0;
  while (const Kernels* kernels = runnable_kernels(sets)) {
    std::mt19937 random(1);
    for (int k = 0; k < problems; ++k) {
      const Problem p = Problem::draw(random);
      const Results one = by_kernels(*kernels, p, 1);
      check_close(*kernels, p, one);
      check_same_bits(*kernels, p, one, by_kernels(*kernels, p, 2 + k % 3));
      if (k % 4 == 0) check_rows_alone(*kernels, p, one);
    }
    ++sets;
  }
  std::printf("%d problems agree in each of %d instruction sets\n", problems, sets);
  return 0;
}
