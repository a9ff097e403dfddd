// What GCC's -fopenmp code calls, on std::thread: ThreadSanitizer does not see how libgomp's threads wait for each
// other, and would report every loop. Serves the constructs that the kernels use; another one does not link.
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace {

// The threads of one parallel region.
struct Team {
    unsigned size;
    std::mutex mutex;
    std::condition_variable changed;
    long next = 0, end = 0, chunk = 1;
    bool begun = false;
    unsigned waiting = 0, round = 0;

    explicit Team(unsigned size) : size(size) {}

    void barrier() {
        std::unique_lock<std::mutex> lock(mutex);
        const unsigned mine = round;
        if (++waiting == size) {
            waiting = 0;
            ++round;
            begun = false;
            changed.notify_all();
        } else {
            changed.wait(lock, [&] { return round != mine; });
        }
    }
    bool take(long* first, long* last) {
        std::lock_guard<std::mutex> lock(mutex);
        if (next >= end) return false;
        *first = next;
        *last = next = end - next < chunk ? end : next + chunk;
        return true;
    }
};

thread_local Team* team = nullptr;
thread_local unsigned number = 0;

}  // namespace

extern "C" {

void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned) {
    Team of_this(threads ? threads : 2);
    Team* const outer = team;
    const unsigned outer_number = number;
    const auto work = [&](unsigned mine) {
        team = &of_this;
        number = mine;
        body(data);
    };
    std::vector<std::thread> others;
    for (unsigned i = 1; i < of_this.size; ++i) others.emplace_back(work, i);
    work(0);
    for (std::thread& other : others) other.join();
    team = outer;
    number = outer_number;
}

bool GOMP_loop_nonmonotonic_dynamic_start(long start, long end, long, long chunk, long* first, long* last) {
    if (!team) {
        *first = start;
        *last = end;
        return start < end;
    }
    {
        std::lock_guard<std::mutex> lock(team->mutex);
        if (!team->begun) {
            team->begun = true;
            team->next = start;
            team->end = end;
            team->chunk = chunk;
        }
    }
    return team->take(first, last);
}
bool GOMP_loop_nonmonotonic_dynamic_next(long* first, long* last) { return team && team->take(first, last); }
void GOMP_loop_end() {
    if (team) team->barrier();
}
void GOMP_loop_end_nowait() {}
void GOMP_barrier() {
    if (team) team->barrier();
}
int omp_get_num_threads() { return team ? int(team->size) : 1; }
int omp_get_thread_num() { return int(number); }

}  // extern "C"
