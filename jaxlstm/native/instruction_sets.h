// The instruction sets that the kernels are compiled for, and the one that runs.
#pragma once

#include <atomic>

#include "layer.h"

namespace jaxlstm {

#if defined(__x86_64__)

namespace x86_64_v2 {
extern const Kernels kernels;
}
namespace x86_64_v3 {
extern const Kernels kernels;
}
namespace x86_64_v4 {
extern const Kernels kernels;
}

// The kernels of the level, widest first; null past those that this machine can run.
inline const Kernels* runnable_kernels(int number) {
  __builtin_cpu_init();
  // What CMakeLists.txt lets the compiler use, and no more.
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  const Kernels* runnable[] = {v4 ? &x86_64_v4::kernels : nullptr, v3 ? &x86_64_v3::kernels : nullptr,
                               &x86_64_v2::kernels};
  for (const Kernels* kernels : runnable)
    if (kernels && number-- == 0) return kernels;
  return nullptr;
}

#else

namespace plain {
extern const Kernels kernels;
}

inline const Kernels* runnable_kernels(int number) { return number == 0 ? &plain::kernels : nullptr; }

#endif

inline std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> kernels{runnable_kernels(0)};
  return kernels;
}

}  // namespace jaxlstm
