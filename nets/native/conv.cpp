// The weight gradient of a 3 x 3 convolution, stride 1, padding 1:
//
//     dw[o][c][i][j] = sum over n, p, q of dy[n][p][q][o] * x[n][p + i - 1][q + j - 1][c]
//
// For each (i, j) it is a product of two matrices, dy' (O, places) and x (places, C), of the places
// where both lie in the picture: what would be multiplied by padding is left out, row by row.
//
// Such a product runs at the processor's full rate if its operands lie in the order in which they
// are used. So some pictures at a time are laid out anew ("packed"): dy in panels of 32 outputs, x
// in panels of 8 channels, place after place. A tile of 8 x 32 sums then stays in registers while
// all places of these pictures pass by. In bfloat16 one instruction multiplies pairs: two places
// side by side, so that neighbours (q, q + 1) are packed into one 32-bit word. Moved by j - 1 = +-1
// the neighbours are others; therefore dy and x are each packed twice, with pairs that begin at
// even places and with pairs that begin at odd ones:
//
//     j = 1:  dy even * x even      j = 0:  dy odd * x even      j = 2:  dy even * x odd
//
// The missing neighbour at a row's end is 0. In float32 a "pair" is one place, and "odd" the same
// places from the second on. Each thread has tiles of its own, so that the order in which
// anything is added up doesn't depend on their number.
#include "common.h"

#include <omp.h>
#include <vector>

namespace {

constexpr int MR = 8, NR = 2, OB = NR * LANES;  // a tile: channels, vectors of outputs, outputs
constexpr size_t CACHE = 384 * 1024;           // bytes of dy to keep near: 192 to 768 kB do alike

template <class T> struct Pairs;  // what is multiplied at once

template <> struct Pairs<float> {
    static constexpr int P = 1;
    using word = float;
    static word make(float a, float) { return a; }
    static vec dot(vec acc, word a, vec b) { return acc + a * b; }
    static vec load(const word* p) { return load_vec(p); }
};

template <> struct Pairs<bf16> {
    static constexpr int P = 2;
    using word = uint32_t;
    static word make(bf16 a, bf16 b) { return a | (uint32_t)b << 16; }
#ifdef __AVX512BF16__
    static vec dot(vec acc, word a, ivec b) {
        return (vec)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_set1_epi32(a), (__m512bh)b);
    }
#else
    static vec dot(vec acc, word a, ivec b) {  // the same in two multiplications
        ivec av = a + ivec{};
        return acc + (vec)(av << 16) * (vec)(b << 16) + (vec)(av & 0xffff0000u) * (vec)(b & 0xffff0000u);
    }
#endif
    static ivec load(const word* p) { return load_words(p); }
};

// Some pictures laid out anew: words[panel][picture][row][t][WIDTH], a layout for the pairs that begin
// at even places and one for those that begin at odd ones.
template <class T, int WIDTH> struct Packed {
    using word = typename Pairs<T>::word;
    static constexpr int P = Pairs<T>::P;
    int pictures, rows, columns, channels, panels;
    int steps[P];    // pairs in a row
    word* words[P];  // even, odd

    Packed(int pictures, int rows, int columns, int channels)
        : pictures(pictures), rows(rows), columns(columns), channels(channels),
          panels((channels + WIDTH - 1) / WIDTH) {
        for (int odd = 0; odd < P; odd++) steps[odd] = (columns - odd + P - 1) / P;
    }

    size_t row(int odd) const { return (size_t)steps[odd] * WIDTH; }
    size_t panel(int odd) const { return pictures * rows * row(odd); }

    // Use the memory from `at` on; returns its end.
    word* place(word* at) {
        for (int odd = 0; odd < P; odd++) {
            words[odd] = at;
            at += panels * panel(odd);
        }
        return at;
    }

    // Row r of picture n of source (pictures, rows, columns, channels).
    void fill(const T* source, int n, int r) {
        static const T zeros[WIDTH] = {};
        const T* line = source + ((size_t)n * rows + r) * columns * channels;
        for (int q = 0; q < columns; q++, line += channels) {
            const int odd = q % P;
            word* to = words[odd] + ((size_t)n * rows + r) * row(odd) + q / P * WIDTH;
            const bool beside = P == 2 && q + 1 < columns;
            int c = 0;
            for (; c + WIDTH <= channels; c += WIDTH, to += panel(odd)) {
                const T *one = line + c, *other = beside ? one + channels : zeros;
                for (int k = 0; k < WIDTH; k++) to[k] = Pairs<T>::make(one[k], other[k]);
            }
            for (int k = 0; c < channels && k < WIDTH; k++)
                to[k] = c + k < channels ? Pairs<T>::make(line[c + k], beside ? line[c + k + channels] : T{})
                                         : word{};
        }
    }
};

// tile[MR][OB] += over pictures and rows: sum over t of x[t][0..MR) * dy[t][0..OB)
template <class T>
__attribute__((noinline)) void tile(float* sums, const typename Pairs<T>::word* x, const typename Pairs<T>::word* dy,
          int pictures, int rows, int steps, size_t x_row, size_t dy_row, size_t x_picture, size_t dy_picture) {
    vec acc[MR][NR];
    for (int m = 0; m < MR; m++)
        for (int v = 0; v < NR; v++) acc[m][v] = load_vec(sums + m * OB + v * LANES);
    for (int n = 0; n < pictures; n++) {
        for (int r = 0; r < rows; r++) {
            const auto* a = x + n * x_picture + r * x_row;
            const auto* b = dy + n * dy_picture + r * dy_row;
            for (int t = 0; t < steps; t++, a += MR, b += OB) {
                auto b0 = Pairs<T>::load(b), b1 = Pairs<T>::load(b + LANES);
#pragma GCC unroll 8
                for (int m = 0; m < MR; m++) {
                    acc[m][0] = Pairs<T>::dot(acc[m][0], a[m], b0);
                    acc[m][1] = Pairs<T>::dot(acc[m][1], a[m], b1);
                }
            }
        }
    }
    for (int m = 0; m < MR; m++)
        for (int v = 0; v < NR; v++) store_vec(sums + m * OB + v * LANES, acc[m][v]);
}

// sums[panel of dy][panel of x][i][j][MR][OB] += what N pictures give.
template <class T> void add_up(const T* x, const T* dy, float* sums, int N, int H, int W, int C, int O) {
    constexpr int P = Pairs<T>::P;
    using word = typename Pairs<T>::word;
    // as many pictures at a time as let one panel of dy stay in the second-level cache
    const size_t each = (size_t)H * (W + 1) * OB * sizeof(word);
    const int block = std::max<size_t>(1, std::min<size_t>(N, CACHE / each));
    Packed<T, MR> xs(block, H, W, C);
    Packed<T, OB> dys(block, H, W, O);
    static thread_local Room room;
    dys.place(xs.place(room.of<word>((size_t)block * H * (W + 1) * (xs.panels * MR + dys.panels * OB))));
    for (int from = 0; from < N; from += block) {
        const int n = std::min(block, N - from);
        for (int k = 0; k < n; k++)
            for (int r = 0; r < H; r++) {
                xs.fill(x + (size_t)from * H * W * C, k, r);
                dys.fill(dy + (size_t)from * H * W * O, k, r);
            }
        for (int o = 0; o < dys.panels; o++)
            for (int c = 0; c < xs.panels; c++)
                for (int i = 0; i < 3; i++)
                    for (int j = 0; j < 3; j++) {
                        const int a = j == 2 ? P - 1 : 0, b = j == 0 ? P - 1 : 0;  // even or odd
                        // where there are no pairs, "odd" is from the second place on
                        const int skip_a = P == 1 && j == 2, skip_b = P == 1 && j == 0;
                        const int rows = H - (i != 1);
                        const int steps = std::min(xs.steps[a] - skip_a, dys.steps[b] - skip_b);
                        if (rows < 1 || steps < 1) continue;
                        tile<T>(sums + (((size_t)o * xs.panels + c) * 9 + i * 3 + j) * MR * OB,
                                xs.words[a] + c * xs.panel(a) + (i == 2) * xs.row(a) + skip_a * MR,
                                dys.words[b] + o * dys.panel(b) + (i == 0) * dys.row(b) + skip_b * OB,
                                n, rows, steps, xs.row(a), dys.row(b), H * xs.row(a), H * dys.row(b));
                    }
    }
}

template <class T>
void weight_gradient(const T* x, const T* dy, float* dw, int N, int H, int W, int C, int O) {
    const int xp = (C + MR - 1) / MR, dyp = (O + OB - 1) / OB;
    const size_t size = (size_t)xp * dyp * 9 * MR * OB;
    const int threads = std::max(1, std::min(omp_get_max_threads(), N / 4));  // fewer aren't worth the sums
    std::vector<std::vector<float>> sums(threads);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++) {
        const long from = (long)N * t / threads, to = (long)N * (t + 1) / threads;
        sums[t].assign(size, 0.f);
        add_up(x + from * H * W * C, dy + from * H * W * O, sums[t].data(), to - from, H, W, C, O);
    }
#pragma omp parallel for schedule(static)
    for (size_t k = 0; k < size; k++)
        for (int t = 1; t < threads; t++) sums[0][k] += sums[t][k];
    for (int o = 0; o < O; o++)  // dw (O, 3, 3, C)
        for (int ij = 0; ij < 9; ij++)
            for (int c = 0; c < C; c++)
                dw[((size_t)o * 9 + ij) * C + c] =
                    sums[0][(((size_t)(o / OB) * xp + c / MR) * 9 + ij) * MR * OB + (c % MR) * OB + o % OB];
}

}  // namespace

extern "C" {
void conv_weight_gradient_f32(const float* x, const float* dy, float* dw, int n, int h, int w, int c, int o) {
    weight_gradient(x, dy, dw, n, h, w, c, o);
}
void conv_weight_gradient_bf16(const bf16* x, const bf16* dy, float* dw, int n, int h, int w, int c, int o) {
    weight_gradient(x, dy, dw, n, h, w, c, o);
}
}
