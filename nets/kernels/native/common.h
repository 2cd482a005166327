// Vectors of 16 numbers. They use the compiler's vector types, so the code is the same for all processors.
// A bfloat16 is the upper half of a float32.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#ifdef __linux__
#include <sys/mman.h>
#endif
#include <type_traits>
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define HAVE_BF16 1  // the processor has instructions for bfloat16
#include <immintrin.h>
#endif

#define UNROLL _Pragma("GCC unroll 16")

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
static inline void store(bf16* p, vec v) {  // rounded to nearest, ties to even; NaN stays NaN
#ifdef HAVE_BF16
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

// The first n numbers at p, then zeros; n may be 0 or less.
#ifdef HAVE_BF16
static inline uint32_t first(int n) { return n <= 0 ? 0 : n >= 32 ? ~0u : (1u << n) - 1; }
static inline vec some(const float* p, int n) { return (vec)_mm512_maskz_loadu_ps(first(n), p); }
static inline vec some(const bf16* p, int n) {
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), p)), 16);
}
#else
template <class T> static inline vec some(const T* p, int n) {
    T numbers[LANES] = {};
    std::memcpy(numbers, p, std::max(0, n) * sizeof(T));
    return load(numbers);
}
#endif
template <class T> static inline vec load(const T* p, int n) { return n >= LANES ? load(p) : some(p, n); }
template <class T> static inline void store(T* p, vec v, int n) {
    if (n >= LANES) return store(p, v);
    T numbers[LANES];
    store(numbers, v);
    std::memcpy(p, numbers, std::max(0, n) * sizeof(T));
}

// A word is what a product multiplies at once: a float32, or two bfloat16 in 32 bits.
template <class T> constexpr int PAIR = std::is_same<T, bf16>::value ? 2 : 1;
template <class T> using Word = std::conditional_t<std::is_same<T, bf16>::value, uint32_t, float>;

static inline vec load_words(const float* p) { return load_vec(p); }
static inline void store_words(float* p, vec a, vec) { store_vec(p, a); }
static inline void store_words(uint32_t* p, vec a, vec b) {  // a and b rounded, interleaved
#ifdef HAVE_BF16
    static const uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi16(_mm512_loadu_si512(order), both));
#else
    bf16 x[LANES], y[LANES];
    store(x, a), store(y, b);
    for (int k = 0; k < LANES; k++) p[k] = x[k] | (uint32_t)y[k] << 16;
#endif
}

// The words that hold the first n numbers at p, 16 words at most, then zeros.
static inline vec load_some(const float* p, int n) { return load(p, n); }
static inline ivec load_some(const bf16* p, int n) {
#ifdef HAVE_BF16
    return (ivec)_mm512_maskz_loadu_epi16(first(n), p);
#else
    bf16 numbers[2 * LANES] = {};
    std::memcpy(numbers, p, std::min(2 * LANES, n) * sizeof(bf16));
    return load_words((const uint32_t*)numbers);
#endif
}

// Splits words: even numbers to a, odd ones to b. float32 numbers all go to a.
template <class T> static inline void split(vec words, vec& a, vec&) { a = words; }
template <class T> static inline void split(ivec words, vec& a, vec& b) {
    a = (vec)(words << 16), b = (vec)(words & 0xffff0000u);
}

// The first n of 16 bytes as integers, then zeros.
typedef uint8_t bytes __attribute__((vector_size(16)));
static inline ivec load_bytes(const uint8_t* p, int n) {
    bytes b = {};
    n >= LANES ? std::memcpy(&b, p, sizeof b) : std::memcpy(&b, p, std::max(0, n));
    return __builtin_convertvector(b, ivec);
}
static inline void store_bytes(uint8_t* p, ivec v, int n) {
    bytes b = __builtin_convertvector(v, bytes);
    n >= LANES ? std::memcpy(p, &b, sizeof b) : std::memcpy(p, &b, std::max(0, n));
}

// The words whose byte, of the first n at p, is k. The others become 0.
static inline vec where(vec words, const uint8_t* p, int n, uint32_t k) {
    return load_bytes(p, n) == k ? words : vec{};
}
static inline ivec where(ivec words, const uint8_t* p, int n, uint16_t k) {
    typedef uint16_t halves __attribute__((vector_size(64)));
    typedef uint8_t half_bytes __attribute__((vector_size(32)));
    half_bytes b = {};
    n >= 2 * LANES ? std::memcpy(&b, p, sizeof b) : std::memcpy(&b, p, n);
    return (ivec)((halves)words & (halves)(__builtin_convertvector(b, halves) == k));
}

static inline vec inverse(vec x) {  // 1 / x with a relative error of at most 6e-5
#ifdef HAVE_BF16
    return (vec)_mm512_rcp14_ps((__m512)x);
#else
    return 1.f / x;
#endif
}

// acc + a * b, where a is one word and b is 16.
static inline vec dot(vec acc, float a, vec b) { return acc + a * b; }
static inline vec dot(vec acc, uint32_t a, ivec b) {
#ifdef HAVE_BF16
    return (vec)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_set1_epi32(a), (__m512bh)b);
#else
    ivec av = a + ivec{};
    return acc + (vec)(av << 16) * (vec)(b << 16) + (vec)(av & 0xffff0000u) * (vec)(b & 0xffff0000u);
#endif
}

// Memory that couldn't be allocated. It is thrown outside of parallel regions only, which it can't leave.
struct NoMemory {
    size_t bytes;
};

// What a function of the library returns: 0, the bytes that couldn't be allocated, or -1 if they aren't known.
template <class F> static inline long bytes_missing(F work) {
    try {
        work();
        return 0;
    } catch (const NoMemory& missing) {
        return missing.bytes;
    } catch (const std::bad_alloc&) {
        return -1;
    }
}

// Memory that is kept between calls, in huge pages if the system has them: these are contiguous in physical
// memory, so that the data is distributed evenly over a cache.
struct Room {
    void* memory = nullptr;
    size_t size = 0;
    template <class T> T* of(size_t count) {
        const size_t page = 2 << 20, wanted = (count * sizeof(T) + page - 1) / page * page;
        if (wanted > size) {
            std::free(memory);
            memory = std::aligned_alloc(page, wanted);
            size = memory ? wanted : 0;
            if (!memory) throw NoMemory{wanted};
#ifdef __linux__
            madvise(memory, wanted, MADV_HUGEPAGE);
#endif
        }
        return static_cast<T*>(memory);
    }
    // For a thread of a parallel region: if there is no memory, `missing` is set.
    template <class T> T* of(size_t count, std::atomic<size_t>& missing) {
        try {
            return of<T>(count);
        } catch (const NoMemory& e) {
            missing = e.bytes;
            return nullptr;
        }
    }
    ~Room() { std::free(memory); }
};
