// A job in parts, shared out over a pool of threads.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <new>
#include <utility>

#include "layer.h"

namespace jaxlstm {

// Floats on a line of the cache of their own; throws std::bad_alloc.
class Space {
 public:
  explicit Space(Index floats)
      : data_(static_cast<float*>(::operator new(static_cast<std::size_t>(floats) * sizeof(float), ALIGNMENT))) {}
  ~Space() { ::operator delete(data_, ALIGNMENT); }
  Space(const Space&) = delete;
  Space& operator=(const Space&) = delete;

  float* data() const { return data_; }

 private:
  static constexpr std::align_val_t ALIGNMENT{64};
  float* data_;
};

struct Job {
  Index parts, workers;
  Index space;                                         // floats for each worker
  std::function<void(Index part, float* space)> part;  // parts may run at once
};

// Runs the job on the calling thread and on others of the pool, and `done` on whichever ends the last part. Workers
// take part after part, so one that the pool starts late or never costs nothing, and nobody waits for anybody.
// `pool` has `Schedule(function)`. Throws std::bad_alloc before anything has run.
template <typename Pool>
void share(Pool& pool, Job job, std::function<void()> done) {
  struct Shared {
    Shared(Job of, std::function<void()> then)
        : job(std::move(of)), done(std::move(then)), space(job.space * job.workers) {}
    Job job;
    std::function<void()> done;
    Space space;
    std::atomic<Index> started{0}, ended{0};
  };
  const auto shared = std::make_shared<Shared>(std::move(job), std::move(done));
  const auto worker = [shared](Index number) {
    const Job& job = shared->job;
    float* space = shared->space.data() + number * job.space;
    for (Index part; (part = shared->started.fetch_add(1)) < job.parts;) {
      job.part(part, space);
      if (shared->ended.fetch_add(1) + 1 == job.parts) shared->done();
    }
  };
  for (Index number = 1; number < shared->job.workers; ++number) pool.Schedule([worker, number] { worker(number); });
  worker(0);
}

}  // namespace jaxlstm
