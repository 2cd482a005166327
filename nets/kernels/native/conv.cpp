// A 3 x 3 convolution, stride 1, padding 1, and its two gradients, by the formulas of winograd.h. Each also
// exists with a 2 x 2 max pool behind it: then only the pool's results and winners are written to memory.
//
// One block of tiles at a time is transformed, multiplied and transformed back, while it is in the
// cache. A tile of results is a window of the pool, so forward writes the largest of them. A row or column
// in no window isn't computed. In backward, dy belongs to each window's winner and the other places are 0.
// These numbers are expanded when they are loaded.
#include "amx.h"
#include "winograd.h"

#include <omp.h>
#include <vector>

namespace {

// Tiles in a block, multiples of SIDE. Half or twice as many are about as fast. With a matrix unit, blocks are
// larger, because otherwise loading the filters or sums from a slower cache takes longer than the products.
static long forward_tiles(bool amx) { return amx ? 64 : 32; }
static long backward_tiles(bool amx) { return amx ? 256 : 128; }

template <class T> bool use_amx() { return PAIR<T> == 2 && have_amx(); }
static inline long rounded(long n, long to) { return (n + to - 1) / to * to; }

// Images (H, W) in tiles of 2 x 2: only whole tiles, or enough tiles to cover every place.
struct Tiles {
    int H, W, h, w;
    long count;
    Tiles(int N, int H, int W, bool whole)
        : H(H), W(W), h((H + !whole) / 2), w((W + !whole) / 2), count((long)N * h * w) {}

    // Pointers to the 4 x 4 places around tile t, or to its own 2 x 2. `outside` for places outside of the
    // image. x holds the images (SHIFT 0), or one place for every 2 x 2 of them (SHIFT 1).
    template <int SIZE, int SHIFT, class T> void places(T* x, int C, T* outside, long t, T* at[SIZE][SIZE]) const {
        const int before = SIZE == 4, p = t / w % h * 2 - before, q = t % w * 2 - before;
        const int rows = H >> SHIFT, columns = W >> SHIFT;
        T* image = x + t / w / h * rows * columns * C;
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j++) {
                const int r = (p + i) >> SHIFT, s = (q + j) >> SHIFT;
                const bool in = r >= 0 && r < rows && s >= 0 && s < columns;
                at[i][j] = in ? image + ((long)r * columns + s) * C : outside;
            }
    }
};

// The largest of a tile's four results and its index, 0 to 3 in row order. On a tie, that is the first;
// among NaNs, the last.
static inline vec largest(const vec y[2][2], ivec& which) {
    vec best = y[0][0];
    which = ivec{};
    UNROLL for (uint32_t k = 1; k < 4; k++) {
        vec v = y[k / 2][k % 2];
        auto better = (v > best) | (v != v);
        best = better ? v : best;
        which = better ? k + ivec{} : which;
    }
    return best;
}

// y (N, H, W, O) = x (N, H, W, C) convolved with w, + bias (O). The layout of w is described at `filters`.
// POOLED: y (N, H / 2, W / 2, O) is the largest of each 2 x 2, and y_winner (bytes) its index.
// UNPOOLED: x (N, H / 2, W / 2, C) holds the numbers at the winners' places; all others are 0.
template <class T, bool POOLED, bool UNPOOLED>
void convolve(const T* x, const uint8_t* x_winner, const float* w, const float* bias, T* y, uint8_t* y_winner,
              int N, int H, int W, int C, int O, long of_o, long of_c, bool turned) {
    constexpr int P = PAIR<T>, UNIT = P * LANES;  // channels that are transformed together
    const Tiles tiles(N, H, W, POOLED);
    const bool amx = use_amx<T>();
    const long words = (C + P - 1) / P, row = rounded(words, LANES), tall = forward_tiles(amx);
    const int K = amx ? row : words, panels = (O + OB - 1) / OB;
    // LANES more, so that the 16 places don't map to the same cache set
    const long d_apart = tall * row + LANES, m_apart = tall * OB + LANES;
    static thread_local Room filter_room;
    Word<T>* u = filter_room.of<Word<T>>((size_t)XI * panels * K * OB);
    filters<T>(w, u, C, K, O, of_o, of_c, turned);
    const std::vector<T> zeros(C);
    const std::vector<uint8_t> none(C);
    std::atomic<size_t> missing{0};
#pragma omp parallel
    {
        static thread_local Room room;
        Word<T>* d = room.of<Word<T>>(XI * (d_apart + m_apart) + O, missing);  // [xi][tile][word of channels]
        float* m = (float*)(d + XI * d_apart);                                 // [xi][tile][OB]
        T* nowhere = (T*)(m + XI * m_apart);                                   // [O]
        const Unit unit(amx);
#pragma omp barrier
        const long count = missing ? 0 : tiles.count;
#pragma omp for schedule(static)
        for (long first = 0; first < count; first += tall) {
            const int n = std::min(tall, tiles.count - first);
            for (int t = 0; t < n; t++) {
                const T* from[4][4];
                const uint8_t* winner[4][4];
                tiles.places<4, UNPOOLED>(x, C, zeros.data(), first + t, from);
                if (UNPOOLED) tiles.places<4, 1>(x_winner, C, none.data(), first + t, winner);
                for (int c = 0; c < C; c += UNIT) {
                    vec part[P][4][4];
                    UNROLL for (int e = 0; e < XI; e++) {
                        const int i = e / 4, j = e % 4, k = (i + 1) % 2 * 2 + (j + 1) % 2;  // its index in its window
                        auto words = load_some(from[i][j] + c, C - c);
                        if (UNPOOLED) words = where(words, winner[i][j] + c, C - c, k);
                        split<T>(words, part[0][i][j], part[P - 1][i][j]);
                    }
                    UNROLL for (int s = 0; s < P; s++) patch_transform(part[s]);
                    put<T>(part, d + t * row + c / P, d_apart);
                }
            }
            for (int o = 0; o < O; o += OB) {
                for (int e = 0; e < XI; e++)
                    for (int t = 0; t < n; t += amx ? SIDE : MR) {
                        const Word<T>*a = d + e * d_apart + t * row, *b = u + ((long)e * panels * OB + o) * K;
                        float* to = m + e * m_apart + t * OB;
                        if (amx) square<false>((const uint32_t*)a, row, LANES, LANES * row, (const uint32_t*)b, K, to);
                        else product<T, false>(a, row, b, K, to);
                    }
                for (int t = 0; t < n; t++) {
                    T* to[2][2];
                    if (!POOLED) tiles.places<2, 0>(y, O, nowhere, first + t, to);
                    for (int l = o; l < std::min(O, o + OB); l += LANES) {
                        vec out[2][2], b = load(bias + l, O - l);
                        result(m + t * OB + l % OB, m_apart, out);
                        if (POOLED) {
                            ivec which;
                            store(y + (first + t) * O + l, largest(out, which) + b, O - l);
                            store_bytes(y_winner + (first + t) * O + l, which, O - l);
                        } else
                            UNROLL for (int e = 0; e < 4; e++) store(to[e / 2][e % 2] + l, out[e / 2][e % 2] + b, O - l);
                    }
                }
            }
        }
    }
    if (missing) throw NoMemory{missing};
}

// dw (O, 3, 3, C) of x (N, H, W, C) and dy (N, H, W, O).
// UNPOOLED: dy (N, H / 2, W / 2, O) holds the numbers at the winners' places; all others are 0.
template <class T, bool UNPOOLED>
void weight_gradient(const T* x, const T* dy, const uint8_t* winner, float* dw, int N, int H, int W, int C, int O) {
    constexpr int P = PAIR<T>;
    const Tiles tiles(N, H, W, UNPOOLED);
    const bool amx = use_amx<T>();
    const long tall = backward_tiles(amx), room_steps = tall / P, blocks = (tiles.count + tall - 1) / tall;
    const int os = rounded(O, OB), cs = rounded(C, amx ? SIDE : LANES);
    const long d_apart = cs * room_steps + LANES, z_apart = os * room_steps + LANES;
    const long size = (long)XI * os * cs;
    const std::vector<T> zeros(std::max(cs, os));
    std::vector<float*> sums(std::max(1l, std::min<long>(omp_get_max_threads(), blocks)));
    std::atomic<size_t> missing{0};
#pragma omp parallel num_threads(sums.size())
    {
        static thread_local Room room;
        float* sum = room.of<float>(size + XI * (d_apart + z_apart), missing);  // [xi][panel of o][c][OB]
        Word<T>*d = (Word<T>*)(sum + size), *z = d + XI * d_apart;              // [xi][panel][step][LANES or OB]
        sums[omp_get_thread_num()] = sum;
        if (sum) std::memset(sum, 0, size * sizeof(float));
        const Unit unit(amx);
#pragma omp barrier
        const long count = missing ? 0 : tiles.count, numbers = missing ? 0 : size, filters = missing ? 0 : os;
#pragma omp for schedule(static)
        for (long first = 0; first < count; first += tall) {
            const long last = std::min(tiles.count, first + tall);
            const int steps = rounded(rounded(last - first, P) / P, amx ? LANES : 1);
            for (int k = 0; k < steps; k++) {
                const T *patch[P][4][4], *slope[P][2][2];
                vec part[P][4][4];
                for (int s = 0; s < P; s++) {
                    const long t = first + k * P + s;
                    tiles.places<4, 0>(x, C, zeros.data(), std::min(t, last - 1), patch[s]);
                    if (t < last) tiles.places<2, UNPOOLED>(dy, O, zeros.data(), t, slope[s]);
                    else  // a last word can have only one tile
                        for (auto& line : slope[s]) line[0] = line[1] = zeros.data();
                }
                for (int c = 0; c < cs; c += LANES) {
                    UNROLL for (int s = 0; s < P; s++) {
                        UNROLL for (int e = 0; e < XI; e++)
                            part[s][e / 4][e % 4] = load(patch[s][e / 4][e % 4] + c, C - c);
                        patch_transform(part[s]);
                    }
                    put<T>(part, d + c * room_steps + k * LANES, d_apart);
                }
                for (int o = 0; o < os; o += LANES) {
                    UNROLL for (int s = 0; s < P; s++) {
                        const long t = std::min(first + k * P + s, last - 1);
                        ivec which{};
                        if (UNPOOLED) which = load_bytes(winner + t * O + o, O - o);
                        UNROLL for (int e = 0; e < 4; e++) {
                            vec v = load(slope[s][e / 2][e % 2] + o, O - o);
                            part[s][e / 2][e % 2] = !UNPOOLED || which == (uint32_t)e ? v : vec{};
                        }
                        slope_transform(part[s]);
                    }
                    put<T>(part, z + o / OB * OB * room_steps + k * OB + o % OB, z_apart);
                }
                if (amx && k % LANES == LANES - 1)  // the unit needs the tiles of a channel to be contiguous
                    for (int e = 0; e < XI; e++)
                        for (int c = 0; c < cs; c += LANES)
                            turn((uint32_t*)d + e * d_apart + c * room_steps + (k - k % LANES) * LANES);
            }
            for (int e = 0; e < XI; e++)
                for (int o = 0; o < os; o += OB)
                    for (int c = 0; c < C; c += amx ? SIDE : MR) {
                        const Word<T>* a = d + e * d_apart + c / LANES * LANES * room_steps + c % LANES;
                        const Word<T>* b = z + e * z_apart + o * room_steps;
                        float* to = sum + ((long)e * os + o) * cs + c * OB;
                        if (amx) square<true>((const uint32_t*)a, LANES, LANES * LANES, LANES * room_steps,
                                              (const uint32_t*)b, steps, to);
                        else product<T, true>(a, 0, b, steps, to);
                    }
        }
        const int threads = omp_get_num_threads();
#pragma omp for schedule(static)
        for (long k = 0; k < numbers; k += LANES)
            for (int t = 1; t < threads; t++) store(sums[0] + k, load(sums[0] + k) + load(sums[t] + k));
#pragma omp for schedule(static)
        for (long o = 0; o < filters; o += LANES)
            for (int c = 0; c < C; c++) {
                vec m[4][4], dg[3][3];
                for (int e = 0; e < XI; e++)
                    m[e / 4][e % 4] = load(sums[0] + ((long)e * os + o / OB * OB) * cs + c * OB + o % OB);
                filter_back(m, dg);
                for (int l = 0; l < LANES && o + l < O; l++)
                    for (int e = 0; e < 9; e++) dw[((o + l) * 9 + e) * C + c] = dg[e / 3][e % 3][l];
            }
    }
    if (missing) throw NoMemory{missing};
}

}  // namespace

#define EXPORT(T, suffix)                                                                                       \
    long convolve_##suffix(const T* x, const float* w, const float* bias, T* y, int n, int h, int width,        \
                           int c, int o, long of_o, long of_c, int turned) {                                    \
        return bytes_missing([&] {                                                                              \
            convolve<T, false, false>(x, nullptr, w, bias, y, nullptr, n, h, width, c, o, of_o, of_c, turned);  \
        });                                                                                                     \
    }                                                                                                           \
    long convolve_pool_##suffix(const T* x, const float* w, const float* bias, T* y, uint8_t* winner,           \
                                int n, int h, int width, int c, int o, long of_o, long of_c) {                  \
        return bytes_missing([&] {                                                                              \
            convolve<T, true, false>(x, nullptr, w, bias, y, winner, n, h, width, c, o, of_o, of_c, false);     \
        });                                                                                                     \
    }                                                                                                           \
    long unpool_convolve_##suffix(const T* x, const uint8_t* winner, const float* w, const float* bias,         \
                                  T* y, int n, int h, int width, int c, int o, long of_o, long of_c) {          \
        return bytes_missing([&] {                                                                              \
            convolve<T, false, true>(x, winner, w, bias, y, nullptr, n, h, width, c, o, of_o, of_c, true);      \
        });                                                                                                     \
    }                                                                                                           \
    long weight_gradient_##suffix(const T* x, const T* dy, float* dw, int n, int h, int width, int c,           \
                                  int o) {                                                                      \
        return bytes_missing([&] {                                                                              \
            weight_gradient<T, false>(x, dy, nullptr, dw, n, h, width, c, o);                                   \
        });                                                                                                     \
    }                                                                                                           \
    long unpool_weight_gradient_##suffix(const T* x, const T* dy, const uint8_t* winner, float* dw, int n,      \
                                         int h, int width, int c, int o) {                                      \
        return bytes_missing([&] {                                                                              \
            weight_gradient<T, true>(x, dy, winner, dw, n, h, width, c, o);                                     \
        });                                                                                                     \
    }

extern "C" {
EXPORT(float, f32)
EXPORT(bf16, bf16)
}
