// Vectors of 16 numbers, by the compiler's own vector types, so that the same lines serve any
// processor; bfloat16 as the upper half of a float32.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#ifdef __linux__
#include <sys/mman.h>
#endif
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

constexpr int LANES = 16;
typedef float vec __attribute__((vector_size(64)));
typedef uint32_t ivec __attribute__((vector_size(64)));
typedef uint16_t hvec __attribute__((vector_size(32)));
typedef uint16_t bf16;

static inline vec load_vec(const float* p) {
    vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
static inline void store_vec(float* p, vec v) { std::memcpy(p, &v, sizeof v); }
static inline ivec load_words(const uint32_t* p) {
    ivec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

static inline vec load(const float* p) { return load_vec(p); }
static inline void store(float* p, vec v) { store_vec(p, v); }
static inline vec load(const bf16* p) {
    hvec h;
    std::memcpy(&h, p, sizeof h);
    return (vec)(__builtin_convertvector(h, ivec) << 16);
}
static inline void store(bf16* p, vec v) {  // rounded to nearest, to even between two; NaN stays NaN
#ifdef __AVX512BF16__
    __m256bh h = _mm512_cvtneps_pbh((__m512)v);
    std::memcpy(p, &h, sizeof h);
#else
    ivec u = (ivec)v;
    ivec rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    ivec nan = (ivec)(v != v);
    hvec h = __builtin_convertvector((rounded & ~nan) | (nan & 0x7fc0), hvec);
    std::memcpy(p, &h, sizeof h);
#endif
}

// Memory that is kept from call to call. In huge pages where there are such: what is to stay in a
// cache then lies in it evenly, wherever the system has put the pages.
struct Room {
    void* memory = nullptr;
    size_t size = 0;
    template <class T> T* of(size_t count) {
        const size_t page = 2 << 20, wanted = (count * sizeof(T) + page - 1) / page * page;
        if (wanted > size) {
            std::free(memory);
            memory = std::aligned_alloc(page, wanted);
            size = memory ? wanted : 0;
#ifdef __linux__
            if (memory) madvise(memory, wanted, MADV_HUGEPAGE);
#endif
        }
        return static_cast<T*>(memory);
    }
    ~Room() { std::free(memory); }
};
