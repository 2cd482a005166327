// The matrix unit of some processors (Intel's AMX): 32 x 32 sums of products of bfloat16 at once.
//
// It has eight registers of 16 rows of 64 bytes. Four hold the sums, two hold a, two hold b. So each row of
// 16 words that is loaded is multiplied with 32 others. A process must ask the system for permission to use
// the registers. A thread configures them before use and releases them afterwards.
#pragma once
#include "common.h"
#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(HAVE_BF16) && defined(__linux__)
#define HAVE_AMX 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

constexpr int SIDE = 32;  // of a square of sums

#ifdef HAVE_AMX
// Whether this process has permission to use the unit.
static inline bool have_amx() {
    constexpr int ASK = 0x1023, TILES = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool may = syscall(SYS_arch_prctl, ASK, TILES) == 0;
    return may;
}

// Configures the unit's registers for this thread, and releases them when it is destroyed.
struct Unit {
    const bool on;
    explicit Unit(bool on) : on(on) {
        alignas(64) uint8_t setting[64] = {1};
        for (int k = 0; k < 8; k++) setting[16 + 2 * k] = 64, setting[48 + k] = 16;  // bytes a row, rows
        asm volatile("" ::"r"(setting) : "memory");  // some compilers assume that it reads only 8 bytes
        if (on) _tile_loadconfig(setting);
    }
    ~Unit() {
        if (on) _tile_release();
    }
};

// m[r][o] = sum over k of a[r][k] * b[k][o], for r and o up to SIDE and K words, a multiple of 16. SUMS: it is
// added to m. a consists of squares of 16 x 16 words. The rows of a square are `row` words apart, the next
// square along k is `next` words further, and the square of the other 16 rows is `below` words further.
template <bool SUMS>
static inline void square(const uint32_t* a, long row, long next, long below, const uint32_t* b, int K, float* m) {
    constexpr int M = SIDE * sizeof(float), LOWER = LANES * SIDE;
    asm volatile("" ::: "memory");  // the compiler doesn't know that these read and write memory
    if (SUMS) {
        _tile_loadd(0, m, M);
        _tile_loadd(1, m + LANES, M);
        _tile_loadd(2, m + LOWER, M);
        _tile_loadd(3, m + LOWER + LANES, M);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int k = 0; k < K; k += LANES, a += next, b += LANES * SIDE) {
        _tile_loadd(4, a, row * 4);
        _tile_loadd(6, b, M);
        _tile_loadd(7, b + LANES, M);
        _tile_loadd(5, a + below, row * 4);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, m, M);
    _tile_stored(1, m + LANES, M);
    _tile_stored(2, m + LOWER, M);
    _tile_stored(3, m + LOWER + LANES, M);
    asm volatile("" ::: "memory");
}

// Transposes 16 x 16 words: exchanges words, then pairs, then groups of four, then groups of eight.
static inline void turn(uint32_t* p) {
    __m512i a[16], b[16];
    UNROLL for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(p + 16 * i);
    UNROLL for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]), b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4) {
        UNROLL for (int k = 0; k < 2; k++) {
            a[i + 2 * k] = _mm512_unpacklo_epi64(b[i + k], b[i + k + 2]);
            a[i + 2 * k + 1] = _mm512_unpackhi_epi64(b[i + k], b[i + k + 2]);
        }
    }
    UNROLL for (int i = 0; i < 16; i += 8) {
        UNROLL for (int k = 0; k < 4; k++) {
            b[i + k] = _mm512_shuffle_i32x4(a[i + k], a[i + k + 4], 0x88);
            b[i + k + 4] = _mm512_shuffle_i32x4(a[i + k], a[i + k + 4], 0xdd);
        }
    }
    UNROLL for (int k = 0; k < 8; k++) {
        _mm512_storeu_si512(p + 16 * k, _mm512_shuffle_i32x4(b[k], b[k + 8], 0x88));
        _mm512_storeu_si512(p + 16 * (k + 8), _mm512_shuffle_i32x4(b[k], b[k + 8], 0xdd));
    }
}
#else
static inline bool have_amx() { return false; }
struct Unit {
    explicit Unit(bool) {}
};
template <bool SUMS> static inline void square(const uint32_t*, long, long, long, const uint32_t*, int, float*) {}
static inline void turn(uint32_t*) {}
#endif
