// The calls that XLA makes: operands and results checked, the kernels of the best instruction set, threads.
#include <exception>
#include <string>

#include "instruction_sets.h"
#include "jobs.h"
#include "pages.h"
#include "xla/ffi/api/ffi.h"

namespace jaxlstm {
namespace {

namespace ffi = xla::ffi;

template <typename T>
constexpr ffi::DataType DTYPE = ffi::DataType::F32;
template <>
constexpr ffi::DataType DTYPE<std::int32_t> = ffi::DataType::S32;
template <>
constexpr ffi::DataType DTYPE<bool> = ffi::DataType::PRED;

struct Refused : std::exception {
  explicit Refused(std::string what) : text(std::move(what)) {}
  const char* what() const noexcept override { return text.c_str(); }
  std::string text;
};

// Sets a run's pointers, one after the other, to a call's buffers. What is optional is absent if it has no elements.
class Binder {
 public:
  Binder(ffi::RemainingArgs operands, ffi::RemainingRets results, Index M)
      : operands_(operands), results_(results), M_(M) {}

  template <typename T>
  void operator()(const T*& pointer, Index elements, Presence presence) {
    const auto buffer = operands_.get<ffi::AnyBuffer>(operand_);
    if (!buffer) throw Refused("an operand is missing");
    pointer = checked<T>(*buffer, elements, presence, "operand " + std::to_string(operand_++));
  }

  template <typename T>
  void operator()(T*& pointer, Index elements, Presence presence) {
    auto buffer = results_.get<ffi::AnyBuffer>(result_);
    if (!buffer) throw Refused("a result is missing");
    pointer = checked<T>(**buffer, elements, presence, "result " + std::to_string(result_++));
    if (pointer) prefer_large_pages(pointer, (**buffer).size_bytes());
  }

 private:
  template <typename T>
  T* checked(const ffi::AnyBuffer& buffer, Index elements, Presence presence, const std::string& name) const {
    const Index got = static_cast<Index>(buffer.element_count());
    if (got == 0 && presence == Presence::optional) return nullptr;
    if (buffer.element_type() != DTYPE<T>) throw Refused(name + " has another dtype than the kernel");
    if (got != M_ * elements)
      throw Refused(name + ": expected " + std::to_string(M_ * elements) + " elements, got " + std::to_string(got));
    return static_cast<T*>(buffer.untyped_data());
  }

  ffi::RemainingArgs operands_;
  ffi::RemainingRets results_;
  Index M_;
  std::size_t operand_ = 0, result_ = 0;
};

void check(const Pack&) {}

template <typename Run>
void check(const Run& run) {
  if (run.layer.G != 4 && run.layer.G != 3) throw Refused("G: expected the 4 gates of an LSTM or the 3 of a GRU");
  if (run.layer.G == 3 && run.layer.P != run.layer.H) throw Refused("a GRU has no projection");
  if (run.layer.single && (run.layer.T != 1 || run.layer.P != run.layer.H))
    throw Refused("single: expected one step, without a projection");
}

template <typename Run>
ffi::Future call(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results, Run run, Index M) {
  ffi::Promise promise;
  ffi::Future future(promise);
  try {
    check(run);
    Binder binder(operands, results, M);
    each_array(run, [&](auto*& pointer, Index elements, Presence presence) { binder(pointer, elements, presence); });
    const Index threads = larger(1, pool.num_threads());
    share(pool, job(*jaxlstm::chosen(), run, M, threads), [promise]() mutable { promise.SetAvailable(); });
  } catch (const Refused& refused) {
    promise.SetError(ffi::Error::InvalidArgument(std::string("jaxlstm's native kernels: ") + refused.what()));
  } catch (const std::bad_alloc&) {
    promise.SetError(ffi::Error(ffi::ErrorCode::kResourceExhausted, "jaxlstm's native kernels: no memory to work in"));
  }
  return future;
}

template <typename Run>
ffi::Future call_layer(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results, Index M, Index G,
                       Index T, Index B, Index I, Index H, Index P, bool reverse, bool single) {
  Run run{};
  Layer& layer = run.layer;
  layer.G = G, layer.T = T, layer.B = B, layer.I = I, layer.H = H, layer.P = P, layer.reverse = reverse;
  layer.single = single;
  return call(pool, operands, results, run, M);
}

ffi::Future call_pack(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results, Index M, Index K,
                       Index N, Index groups, bool transposed) {
  return call(pool, operands, results, Pack{K, N, transposed, groups, nullptr, nullptr}, M);
}

auto binding() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().RemainingRets().Attr<Index>("M"); }

auto layer_binding() {
  return binding().Attr<Index>("G").Attr<Index>("T").Attr<Index>("B").Attr<Index>("I").Attr<Index>("H")
      .Attr<Index>("P").Attr<bool>("reverse").Attr<bool>("single");
}

}  // namespace
}  // namespace jaxlstm

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxlstm_pack, jaxlstm::call_pack,
                              jaxlstm::binding().Attr<jaxlstm::Index>("K").Attr<jaxlstm::Index>("N")
                                  .Attr<jaxlstm::Index>("groups").Attr<bool>("transposed"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxlstm_forward, jaxlstm::call_layer<jaxlstm::Forward>, jaxlstm::layer_binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxlstm_backward, jaxlstm::call_layer<jaxlstm::Backward>, jaxlstm::layer_binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxlstm_weights, jaxlstm::call_layer<jaxlstm::Weights>, jaxlstm::layer_binding());

// The name of the number-th instruction set that this machine can run, widest first; null past the last.
extern "C" const char* jaxlstm_instruction_set(int number) {
  const jaxlstm::Kernels* kernels = jaxlstm::runnable_kernels(number);
  return kernels ? kernels->name : nullptr;
}

// From now on that one runs, for all threads.
extern "C" void jaxlstm_choose(int number) {
  if (const jaxlstm::Kernels* kernels = jaxlstm::runnable_kernels(number)) jaxlstm::chosen() = kernels;
}

#pragma GCC visibility pop
