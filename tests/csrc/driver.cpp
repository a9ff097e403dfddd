// Runs every kernel of every instruction set over odd shapes in guarded memory, alone and from several threads at once.
//
//     driver [--threads] [--plant FAULT]
//
// Exit status 0 where nothing was found. --threads: fewer shapes, and several threads in every call, for
// ThreadSanitizer. --plant calls a kernel wrongly instead, which must end otherwise: write (an
// output is an element too short), read (an input is), align (a tensor lies between its elements' places), race (two
// threads write one output).
#include <algorithm>
#include <iostream>
#include <thread>

#include "calls.h"

using namespace compvae;

namespace {

const std::vector<std::vector<int64_t>> RAGGED = {{}, {0}, {1}, {2, 0, 65, 1}, {130}, {16, 15, 17}};
const std::vector<std::vector<int64_t>> DENSE = {{}, {1, 1, 1}, {5, 5}, {65}};
const std::vector<int64_t> WIDTHS = {0, 1, 3, 63, 64, 65, 200};
const std::vector<DType> DTYPES = {DType::float32, DType::float64, DType::bfloat16, DType::float16};
const std::vector<Strides> STRIDES = {Strides::contiguous, Strides::rows_apart, Strides::elements_apart, Strides::turned};

std::string told(const Example& example, const Manner& manner) {
    static const char* dtypes[] = {"float32", "float64", "bfloat16", "float16"};
    static const char* layouts[] = {"dense", "ragged", "padded"};
    static const char* strides[] = {"contiguous", "rows apart", "elements apart", "turned"};
    std::string sizes;
    for (const int64_t size : example.sizes) sizes += std::to_string(size) + " ";
    return "sizes " + sizes + "width " + std::to_string(example.width) + " " + dtypes[int(example.dtype)] + " " +
           layouts[int(manner.layout)] + " " + strides[int(manner.strides)] + " threads " + std::to_string(manner.threads);
}

std::vector<double> results_of(const Call& call, const Example& example, const Manner& manner) {
    try {
        Run run(example, manner);
        call.run(kernels(), run);
        return run.results();
    } catch (const Damage& damage) {
        throw Damage(std::string(kernels().name) + " " + call.name + ", " + told(example, manner) + ": " + damage.what());
    }
}

// Results of one instruction set are equal whatever the manner; those of two agree to rounding.
void compare(const std::vector<double>& found, const std::vector<double>& expected, double tolerance,
             const std::string& where) {
    if (found.size() != expected.size()) throw Damage(where + ": another number of results");
    double largest = 1;
    for (const double value : expected)
        if (std::isfinite(value)) largest = std::max(largest, std::fabs(value));
    for (size_t i = 0; i < found.size(); ++i)
        if (found[i] != expected[i] && !(std::fabs(found[i] - expected[i]) <= tolerance * largest))
            throw Damage(where + ": result " + std::to_string(i) + " is " + std::to_string(found[i]) + ", expected " +
                         std::to_string(expected[i]));
}

double tolerance_of(DType dtype) {
    return dtype == DType::float64 ? 1e-9 : dtype == DType::float32 ? 1e-4 : 2e-2;
}

// The manners in which a call is made, the first the plainest.
std::vector<Manner> manners_of(const Call& call, bool dense, bool threads) {
    std::vector<Manner> found;
    std::vector<Layout> layouts = {Layout::dense};
    if (!dense) layouts = {Layout::ragged, Layout::padded};
    if (dense && call.on_parts && !call.masked) layouts.push_back(Layout::ragged);
    for (const Layout layout : layouts)
        for (const Strides strides : STRIDES)
            if (!threads || found.empty()) found.push_back({layout, strides, 1});
    found.push_back({layouts.front(), Strides::contiguous, 2});
    found.push_back({layouts.back(), Strides::rows_apart, 3});
    return found;
}

// Every size with every width; where threads are what is checked, each of both with some of the others.
std::vector<Example> examples_of(bool dense, bool threads) {
    std::vector<Example> found;
    size_t number = 0;
    for (const DType dtype : DTYPES)
        for (const auto& sizes : dense ? DENSE : RAGGED)
            for (const int64_t width : WIDTHS)
                if (number++ % (threads ? 5 : 1) == 0) found.push_back({sizes, width, dtype});
    return found;
}

int64_t check(const Call& call, bool dense, bool threads) {
    int64_t calls = 0;
    for (const Example& example : examples_of(dense, threads)) {
        std::vector<double> reference;
        for (const std::string& set : instruction_sets()) {
            use_instruction_set(set);
            std::vector<double> first;
            for (const Manner& manner : manners_of(call, dense, threads)) {
                const std::vector<double> found = results_of(call, example, manner);
                const std::string where = set + " " + call.name + ", " + told(example, manner);
                if (first.empty()) first = found;
                compare(found, first, 0, where);
                ++calls;
            }
            if (reference.empty()) reference = first;
            compare(first, reference, tolerance_of(example.dtype), set + " " + call.name + " beside " +
                    instruction_sets().front() + ", " + told(example, {}));
        }
    }
    return calls;
}

// The noise at any indices.
int64_t check_noise() {
    for (const int64_t count : {0, 1, 5, 4097, 9000}) {
        std::vector<std::vector<char>> reference;
        for (const std::string& set : instruction_sets()) {
            use_instruction_set(set);
            Guarded counters(32 * count), keys(16 * count), words(32 * count), normals(4 * count), uniforms(4 * count);
            Guarded indices(3 * 8 * count);
            for (Guarded* g : {&counters, &keys})
                for (int64_t i = 0; i < g->bytes(); i += 8) {
                    const int64_t word = (i * 2654435761) & 0xffffffff;
                    std::memcpy(g->data() + i, &word, 8);
                }
            int64_t* at = reinterpret_cast<int64_t*>(indices.data());
            for (int64_t i = 0; i < 3 * count; ++i) at[i] = i % 7 * (i % 201);
            const auto integers = [](const Guarded& g) { return reinterpret_cast<int64_t*>(g.data()); };
            const auto floats = [](const Guarded& g) { return reinterpret_cast<float*>(g.data()); };
            kernels().philox(count, integers(counters), integers(keys), integers(words), 2);
            kernels().normal(3, count, at, at + count, at + 2 * count, floats(normals), 2);
            kernels().uniform(3, count, at, at + count, at + 2 * count, floats(uniforms), 2);
            for (const Guarded* g : {&counters, &keys, &words, &normals, &uniforms, &indices}) g->check("noise");
            for (int64_t i = 0; i < count; ++i)
                if (std::isnan(floats(normals)[i]) || std::isnan(floats(uniforms)[i])) throw Damage("the noise is NaN");
            if (reference.empty()) reference.emplace_back(words.data(), words.data() + words.bytes());
            if (!std::equal(reference[0].begin(), reference[0].end(), words.data()))
                throw Damage(set + ": philox gives other words");
        }
    }
    return 5 * int64_t(instruction_sets().size());
}

// Calls from several threads at once, each of two threads of its own, give what they give alone.
void check_at_once(const std::vector<Call>& calls) {
    const Example example = {{16, 3, 40}, 130, DType::float32};
    for (const Call& call : calls) {
        if (!call.on_parts || call.masked) continue;
        const std::vector<double> expected = results_of(call, example, {});
        std::vector<std::string> complaints(3);
        std::vector<std::thread> threads;
        for (std::string& complaint : complaints)
            threads.emplace_back([&] {
                try {
                    compare(results_of(call, example, {Layout::padded, Strides::contiguous, 2}), expected, 0,
                            call.name + " at once");
                } catch (const std::exception& error) {
                    complaint = error.what();
                }
            });
        for (std::thread& thread : threads) thread.join();
        for (const std::string& complaint : complaints)
            if (!complaint.empty()) throw Damage(complaint);
    }
}

void plant(const std::string& fault) {
    const Example example = {{16, 16, 16}, 130, DType::float32};
    const Call call = sum_minus_self(false, false, false);
    if (fault == "write" || fault == "read") {
        Run run(example, {}, fault == "write" ? Run::WRITE : Run::READ);
        call.run(kernels(), run);
        run.results();
    } else if (fault == "align") {
        Run run(example, {});
        Tensor h = run.parts();
        h.data += 1;
        kernels().sum_minus_self_forward(run.sets, h, run.out_parts(), {}, false);
    } else if (fault == "race") {
        Run run(example, {});
        const Tensor h = run.parts(), out = run.out_parts();
        const auto write = [&] { kernels().sum_minus_self_forward(run.sets, h, out, {}, false); };
        std::thread one(write), two(write);
        one.join();
        two.join();
    } else {
        throw std::invalid_argument("--plant: expected write, read, align or race, got " + fault);
    }
}

}  // namespace

int main(int count, char** words) {
    bool threads = false;
    try {
        for (int i = 1; i < count; ++i) {
            const std::string word = words[i];
            if (word == "--threads")
                threads = true;
            else if (word == "--plant" && i + 1 < count)
                return plant(words[i + 1]), 0;
            else
                throw std::invalid_argument("expected [--threads] [--plant FAULT], got " + word);
        }
        int64_t made = check_noise();
        const std::vector<Call> calls = all_calls();
        for (const Call& call : calls) {
            made += check(call, true, threads);
            if (call.on_parts && !call.masked) made += check(call, false, threads);
        }
        for (const std::string& set : instruction_sets()) {
            use_instruction_set(set);
            check_at_once(calls);
        }
        std::cout << made << " calls by";
        for (const std::string& set : instruction_sets()) std::cout << " " << set;
        std::cout << ": nothing found\n";
    } catch (const std::exception& error) {
        std::cerr << "driver: " << error.what() << "\n";
        return 1;
    }
}
