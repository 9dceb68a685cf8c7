#include "reference.h"

namespace jaxlstm {
namespace {

using Doubles = std::vector<double>;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Step {
  Doubles i, f, g, o, c, m, h;  // gates, and what the step set out from (c, h) and made (m)
};

// Sums of one row of W, which has so many columns, and v.
double dot(const float* w, const Doubles& v) {
  double sum = 0;
  for (std::size_t k = 0; k < v.size(); ++k) sum += static_cast<double>(w[k]) * v[k];
  return sum;
}

// Adds what a cotangent d of W v is worth to v and to W.
void dot_transposed(double d, const float* w, const Doubles& v, Doubles& d_v, double* d_w) {
  for (std::size_t k = 0; k < v.size(); ++k) {
    d_v[k] += d * static_cast<double>(w[k]);
    d_w[k] += d * v[k];
  }
}

class Row {
 public:
  Row(const Problem& p, Index m, Index b, std::array<Doubles, 10>& r) : p(p), m(m), b(b), r(r) {}

  void run() {
    const Index length = p.length(m, b);
    Doubles h = at(p.h, m * p.B + b, p.P), c = at(p.c, m * p.B + b, p.H);
    std::vector<Step> steps(static_cast<std::size_t>(length));
    for (Index taken = 0; taken < length; ++taken) {
      const Index t = p.reverse ? length - 1 - taken : taken;
      if (p.begin(m, t, b)) h.assign(h.size(), 0), c.assign(c.size(), 0);
      forward(steps[static_cast<std::size_t>(t)], t, h, c);
      put(r[0], cell(t), h);
    }
    put(r[1], m * p.B + b, h), put(r[2], m * p.B + b, c);

    Doubles d_h = at(p.d_h, m * p.B + b, p.P), d_c = at(p.d_c, m * p.B + b, p.H);
    for (Index taken = length; taken-- > 0;) {
      const Index t = p.reverse ? length - 1 - taken : taken;
      backward(steps[static_cast<std::size_t>(t)], t, d_h, d_c);
      if (p.begin(m, t, b)) d_h.assign(d_h.size(), 0), d_c.assign(d_c.size(), 0);
    }
    put(r[4], m * p.B + b, d_h), put(r[5], m * p.B + b, d_c);
  }

 private:
  Index cell(Index t) const { return (m * p.T + t) * p.B + b; }

  static Doubles at(const std::vector<float>& a, Index row, Index columns) {
    return Doubles(a.begin() + row * columns, a.begin() + (row + 1) * columns);
  }

  static void put(Doubles& a, Index row, const Doubles& values) {
    std::copy(values.begin(), values.end(), a.begin() + row * static_cast<Index>(values.size()));
  }

  void forward(Step& step, Index t, Doubles& h, Doubles& c) {
    const Doubles x = at(p.x, cell(t), p.I);
    step.c = c, step.h = h;
    for (Index u = 0; u < p.H; ++u) {
      double z[4];
      for (Index q = 0; q < 4; ++q) {
        const Index gate = (m * 4 + q) * p.H + u;
        z[q] = (p.bias.empty() ? 0 : static_cast<double>(p.bias[static_cast<std::size_t>(gate)])) +
               dot(&p.w_ih[static_cast<std::size_t>(gate * p.I)], x) + dot(&p.w_hh[static_cast<std::size_t>(gate * p.P)], h);
      }
      step.i.push_back(sigmoid(z[0])), step.f.push_back(sigmoid(z[1]));
      step.g.push_back(std::tanh(z[2])), step.o.push_back(sigmoid(z[3]));
    }
    for (std::size_t u = 0; u < c.size(); ++u) {
      c[u] = step.f[u] * c[u] + step.i[u] * step.g[u];
      step.m.push_back(step.o[u] * std::tanh(c[u]));
    }
    if (p.w_hr.empty()) h = step.m;
    else
      for (Index k = 0; k < p.P; ++k)
        h[static_cast<std::size_t>(k)] = dot(&p.w_hr[static_cast<std::size_t>((m * p.P + k) * p.H)], step.m);
  }

  void backward(const Step& s, Index t, Doubles& d_h, Doubles& d_c) {
    const Doubles d_y = at(p.d_y, cell(t), p.P), x = at(p.x, cell(t), p.I);
    for (std::size_t k = 0; k < d_h.size(); ++k) d_h[k] += d_y[k];
    Doubles d_m = d_h;
    if (!p.w_hr.empty()) {
      d_m.assign(static_cast<std::size_t>(p.H), 0);
      for (Index k = 0; k < p.P; ++k) {
        const std::size_t row = static_cast<std::size_t>((m * p.P + k) * p.H);
        dot_transposed(d_h[static_cast<std::size_t>(k)], &p.w_hr[row], s.m, d_m, &r[9][row]);
      }
    }
    Doubles d_x(x.size()), d_before(d_h.size());
    for (std::size_t u = 0; u < d_c.size(); ++u) {
      const double i = s.i[u], f = s.f[u], g = s.g[u], o = s.o[u], c = s.c[u], tanh = std::tanh(f * c + i * g);
      d_c[u] += d_m[u] * o * (1 - tanh * tanh);
      const double d_z[] = {d_c[u] * g * i * (1 - i), d_c[u] * c * f * (1 - f), d_c[u] * i * (1 - g * g),
                            d_m[u] * tanh * o * (1 - o)};
      d_c[u] *= f;
      for (Index q = 0; q < 4; ++q) {
        const std::size_t gate = static_cast<std::size_t>((m * 4 + q) * p.H) + u;
        const std::size_t ih = gate * x.size(), hh = gate * d_h.size();
        dot_transposed(d_z[q], &p.w_ih[ih], x, d_x, &r[6][ih]);
        dot_transposed(d_z[q], &p.w_hh[hh], s.h, d_before, &r[7][hh]);
        r[8][gate] += d_z[q];
      }
    }
    put(r[3], cell(t), d_x);
    d_h = d_before;
  }

  const Problem& p;
  Index m, b;
  std::array<Doubles, 10>& r;
};

}  // namespace

std::array<std::vector<double>, 10> by_reference(const Problem& p) {
  std::array<Doubles, 10> results;
  const Results like(p);
  for (std::size_t k = 0; k < results.size(); ++k) results[k].resize(like.all()[k]->size());
  for (Index m = 0; m < p.M; ++m)
    for (Index b = 0; b < p.B; ++b) Row(p, m, b, results).run();
  return results;
}

}  // namespace jaxlstm
