// Winograd's minimal algorithm F(2 x 2, 3 x 3): a 3 x 3 convolution and its gradients with 16
// multiplications instead of the definition's 36.
//
// Two neighbors of a one-dimensional convolution, y0 = d0 g0 + d1 g1 + d2 g2 and y1 = d1 g0 + d2 g1
// + d3 g2, need four products instead of six, with D = B'd and U = Gg (' is the transpose):
//
//     D0 = d0 - d2    U0 = g0                     y0 = D0 U0 + D1 U1 + D2 U2
//     D1 = d1 + d2    U1 = (g0 + g1 + g2) / 2     y1 = D1 U1 - D2 U2 + D3 U3
//     D2 = d2 - d1    U2 = (g0 - g1 + g2) / 2
//     D3 = d3 - d1    U3 = g2                     so y = A'(U * D), * elementwise
//
// In two dimensions each transform is applied to columns and to rows. For a 4 x 4 patch d, a 3 x 3 filter g
// and the 2 x 2 results y ("a tile")
//
//     y  = A' [(G g G') * (B' d B)] A          each step is linear, so backward has
//     dg = G' [(A dy A') * (B' d B)] G         the transposes: dL/dU = A dy A' * D, dL/dg = G' dL/dU G
//     dd = B  [(G g G') * (A dy A')] B'        (not used: dx is dy convolved with the filters rotated
//                                              by 180 degrees, so it is computed by y's formula)
//
// With the sum over channels, * becomes 16 matrix products, one for each place of the 4 x 4: (tiles x
// channels) (channels x filters) for y, and (channels x tiles) (tiles x filters) for dg. conv.cpp computes
// them. In bfloat16, D, U and A dy A' are rounded, and sums are float32. The rounding error is about 1.9 times
// that of a plain convolution.
// Source: Winograd 1980; Lavin and Gray 2015, "Fast algorithms for convolutional neural networks".
#pragma once
#include "common.h"

constexpr int MR = 8, OB = 2 * LANES;  // MR x OB sums of a product are in registers
constexpr int XI = 16;                 // places of a 4 x 4

static inline void one_way(vec& a, vec& b, vec& c, vec& d) {  // B'
    vec d0 = a - c, d1 = b + c, d2 = c - b, d3 = d - b;
    a = d0, b = d1, c = d2, d = d3;
}

static inline void patch_transform(vec d[4][4]) {  // B' d B
    UNROLL for (int j = 0; j < 4; j++) one_way(d[0][j], d[1][j], d[2][j], d[3][j]);
    UNROLL for (int i = 0; i < 4; i++) one_way(d[i][0], d[i][1], d[i][2], d[i][3]);
}

static inline void slope_transform(vec d[4][4]) {  // A dy A', dy being the first 2 x 2
    UNROLL for (int j = 0; j < 2; j++) {
        vec a = d[0][j], b = d[1][j];
        d[1][j] = a + b, d[2][j] = a - b, d[3][j] = b;
    }
    UNROLL for (int i = 0; i < 4; i++) {
        vec a = d[i][0], b = d[i][1];
        d[i][1] = a + b, d[i][2] = a - b, d[i][3] = b;
    }
}

static inline void filter_transform(const vec g[3][3], vec u[4][4]) {  // G g G'
    vec t[4][3];
    UNROLL for (int j = 0; j < 3; j++) {
        vec ends = g[0][j] + g[2][j];
        t[0][j] = g[0][j], t[1][j] = (ends + g[1][j]) * 0.5f, t[2][j] = (ends - g[1][j]) * 0.5f, t[3][j] = g[2][j];
    }
    UNROLL for (int i = 0; i < 4; i++) {
        vec ends = t[i][0] + t[i][2];
        u[i][0] = t[i][0], u[i][1] = (ends + t[i][1]) * 0.5f, u[i][2] = (ends - t[i][1]) * 0.5f, u[i][3] = t[i][2];
    }
}

static inline void filter_back(const vec m[4][4], vec dg[3][3]) {  // G' m G
    vec t[3][4];
    UNROLL for (int j = 0; j < 4; j++) {
        vec both = (m[1][j] + m[2][j]) * 0.5f;
        t[0][j] = m[0][j] + both, t[1][j] = (m[1][j] - m[2][j]) * 0.5f, t[2][j] = both + m[3][j];
    }
    UNROLL for (int i = 0; i < 3; i++) {
        vec both = (t[i][1] + t[i][2]) * 0.5f;
        dg[i][0] = t[i][0] + both, dg[i][1] = (t[i][1] - t[i][2]) * 0.5f, dg[i][2] = both + t[i][3];
    }
}

// A' m A of one tile's products, for 16 channels. The 16 places of m are `apart` numbers apart.
static inline void result(const float* m, long apart, vec y[2][2]) {
    vec t[2][4];
    UNROLL for (int j = 0; j < 4; j++) {
        vec b = load(m + (4 + j) * apart), c = load(m + (8 + j) * apart);
        t[0][j] = load(m + j * apart) + b + c, t[1][j] = b - c + load(m + (12 + j) * apart);
    }
    UNROLL for (int i = 0; i < 2; i++) {
        y[i][0] = t[i][0] + t[i][1] + t[i][2];
        y[i][1] = t[i][1] - t[i][2] + t[i][3];
    }
}

// m[r][o] = sum over k of a[r][k] * b[k][o], in words, with the sums in registers. SUMS: they are added to m,
// and the layout of a is [k][16]. Otherwise the rows of a are `a_row` words apart.
template <class T, bool SUMS>
__attribute__((noinline)) void product(const Word<T>* a, long a_row, const Word<T>* b, int K, float* m) {
    const long row = SUMS ? 1 : a_row, step = SUMS ? LANES : 1;
    vec acc[MR][2];
    UNROLL for (int r = 0; r < MR; r++)
        UNROLL for (int v = 0; v < 2; v++) acc[r][v] = SUMS ? load(m + r * OB + v * LANES) : vec{};
    for (int k = 0; k < K; k++, a += step, b += OB) {
        auto b0 = load_words(b), b1 = load_words(b + LANES);
        UNROLL for (int r = 0; r < MR; r++) {
            acc[r][0] = dot(acc[r][0], a[r * row], b0);
            acc[r][1] = dot(acc[r][1], a[r * row], b1);
        }
    }
    UNROLL for (int r = 0; r < MR; r++)
        UNROLL for (int v = 0; v < 2; v++) store(m + r * OB + v * LANES, acc[r][v]);
}

// Stores the numbers of 16 places as words, at to[16][apart]: two sets for bfloat16, one for float32.
template <class T> static inline void put(const vec part[][4][4], Word<T>* to, long apart) {
    UNROLL for (int e = 0; e < XI; e++)
        store_words(to + e * apart, part[0][e / 4][e % 4], part[PAIR<T> - 1][e / 4][e % 4]);
}

// u[xi][panel of OB filters][K words of channels][OB] = G g G' of the filters w[o * of_o + c * of_c + 0..8].
// turned: the filters are rotated by 180 degrees.
template <class T>
void filters(const float* w, Word<T>* u, int C, int K, int O, long of_o, long of_c, bool turned) {
    constexpr int P = PAIR<T>;
    const int panels = (O + OB - 1) / OB;
#pragma omp parallel for collapse(2) schedule(static)
    for (int o = 0; o < panels * 2; o++)
        for (int k = 0; k < K; k++) {
            vec out[P][4][4];
            for (int s = 0; s < P; s++) {
                vec g[3][3] = {};
                for (int l = 0; l < LANES && o * LANES + l < O && k * P + s < C; l++)
                    for (int e = 0; e < 9; e++)
                        g[e / 3][e % 3][l] = w[(o * LANES + l) * of_o + (k * P + s) * of_c + (turned ? 8 - e : e)];
                filter_transform(g, out[s]);
            }
            put<T>(out, u + ((long)o / 2 * K + k) * OB + o % 2 * LANES, (long)panels * K * OB);
        }
}
