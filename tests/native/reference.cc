#include "reference.h"

namespace jaxlstm {
namespace {

using Doubles = std::vector<double>;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Step {
  std::array<Doubles, SUMS> gates;  // active; of a GRU r, z, n, and n's sum of h
  Doubles c, h, m;                  // what the step set out from (c, h) and made (m)
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
    Doubles h = at(p.h, m * p.B + b, p.P), c = at(p.c, m * p.B + b, p.c.empty() ? 0 : p.H);
    std::vector<Step> steps(static_cast<std::size_t>(length));
    for (Index taken = 0; taken < length; ++taken) {
      const Index t = p.reverse ? length - 1 - taken : taken;
      if (p.reset(m, t, b)) h.assign(h.size(), 0), c.assign(c.size(), 0);
      forward(steps[static_cast<std::size_t>(t)], t, h, c);
      put(r[0], cell(t), h);
    }
    put(r[1], m * p.B + b, h), put(r[2], m * p.B + b, c);

    Doubles d_h = at(p.d_h, m * p.B + b, p.P), d_c = at(p.d_c, m * p.B + b, p.d_c.empty() ? 0 : p.H);
    for (Index taken = length; taken-- > 0;) {
      const Index t = p.reverse ? length - 1 - taken : taken;
      backward(steps[static_cast<std::size_t>(t)], t, d_h, d_c);
      if (p.reset(m, t, b)) d_h.assign(d_h.size(), 0), d_c.assign(d_c.size(), 0);
    }
    put(r[4], m * p.B + b, d_h), put(r[5], m * p.B + b, d_c);
  }

 private:
  Index cell(Index t) const { return (m * p.T + t) * p.B + b; }

  static Doubles at(const std::vector<float>& a, Index row, Index columns) {
    if (columns == 0) return {};
    return Doubles(a.begin() + row * columns, a.begin() + (row + 1) * columns);
  }

  static void put(Doubles& a, Index row, const Doubles& values) {
    std::copy(values.begin(), values.end(), a.begin() + row * static_cast<Index>(values.size()));
  }

  // Which sum, of those with a bias of their own, the products of gate q with x and with h go into.
  Index x_sum(Index q) const { return q; }
  Index h_sum(Index q) const { return p.G == 3 && q == 2 ? 3 : q; }

  void forward(Step& step, Index t, Doubles& h, Doubles& c) {
    const Doubles x = at(p.x, cell(t), p.I);
    step.c = c, step.h = h, step.m.resize(static_cast<std::size_t>(p.H));
    for (Doubles& gate : step.gates) gate.resize(static_cast<std::size_t>(p.H));
    for (Index u = 0; u < p.H; ++u) {
      double z[SUMS];
      for (Index s = 0; s < SUMS; ++s)
        z[s] = p.bias.empty() ? 0 : static_cast<double>(p.bias[static_cast<std::size_t>((m * SUMS + s) * p.H + u)]);
      for (Index q = 0; q < p.G; ++q) {
        const Index gate = (m * p.G + q) * p.H + u;
        z[x_sum(q)] += dot(&p.w_ih[static_cast<std::size_t>(gate * p.I)], x);
        z[h_sum(q)] += dot(&p.w_hh[static_cast<std::size_t>(gate * p.P)], step.h);
      }
      p.G == 4 ? lstm(step, static_cast<std::size_t>(u), z, c) : gru(step, static_cast<std::size_t>(u), z);
    }
    if (p.w_hr.empty()) h = step.m;
    else
      for (Index k = 0; k < p.P; ++k)
        h[static_cast<std::size_t>(k)] = dot(&p.w_hr[static_cast<std::size_t>((m * p.P + k) * p.H)], step.m);
  }

  static void lstm(Step& s, std::size_t u, const double* z, Doubles& c) {
    const double i = sigmoid(z[0]), f = sigmoid(z[1]), g = std::tanh(z[2]), o = sigmoid(z[3]);
    c[u] = f * c[u] + i * g;
    s.m[u] = o * std::tanh(c[u]);
    s.gates[0][u] = i, s.gates[1][u] = f, s.gates[2][u] = g, s.gates[3][u] = o;
  }

  static void gru(Step& s, std::size_t u, const double* sums) {
    const double r = sigmoid(sums[0]), z = sigmoid(sums[1]), n = std::tanh(sums[2] + r * sums[3]);
    s.m[u] = (1 - z) * n + z * s.h[u];
    s.gates[0][u] = r, s.gates[1][u] = z, s.gates[2][u] = n, s.gates[3][u] = sums[3];
  }

  // From the cotangent of m to those of the sums; d_c becomes that of c, or d_before what of h goes by no product.
  static void lstm_transposed(const Step& s, std::size_t u, double d_m, double* d_z, Doubles& d_c) {
    const double i = s.gates[0][u], f = s.gates[1][u], g = s.gates[2][u], o = s.gates[3][u], c = s.c[u];
    const double tanh = std::tanh(f * c + i * g);
    d_c[u] += d_m * o * (1 - tanh * tanh);
    d_z[0] = d_c[u] * g * i * (1 - i), d_z[1] = d_c[u] * c * f * (1 - f), d_z[2] = d_c[u] * i * (1 - g * g);
    d_z[3] = d_m * tanh * o * (1 - o);
    d_c[u] *= f;
  }

  static void gru_transposed(const Step& s, std::size_t u, double d_m, double* d_sums, Doubles& d_before) {
    const double r = s.gates[0][u], z = s.gates[1][u], n = s.gates[2][u], q = s.gates[3][u];
    const double d_n = d_m * (1 - z) * (1 - n * n);
    d_sums[0] = d_n * q * r * (1 - r), d_sums[1] = d_m * (s.h[u] - n) * z * (1 - z), d_sums[2] = d_n, d_sums[3] = d_n * r;
    d_before[u] += d_m * z;
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
    for (std::size_t u = 0; u < d_m.size(); ++u) {
      double d_z[SUMS];
      p.G == 4 ? lstm_transposed(s, u, d_m[u], d_z, d_c) : gru_transposed(s, u, d_m[u], d_z, d_before);
      for (Index q = 0; q < p.G; ++q) {
        const std::size_t gate = static_cast<std::size_t>((m * p.G + q) * p.H) + u;
        const std::size_t ih = gate * x.size(), hh = gate * d_h.size();
        dot_transposed(d_z[x_sum(q)], &p.w_ih[ih], x, d_x, &r[6][ih]);
        dot_transposed(d_z[h_sum(q)], &p.w_hh[hh], s.h, d_before, &r[7][hh]);
      }
      for (Index k = 0; k < SUMS; ++k) r[8][static_cast<std::size_t>((m * SUMS + k) * p.H) + u] += d_z[k];
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
