// A norm with the activation behind it, in one pass over memory for forward and one for backward, in addition
// to the passes for sums. The layout is one row of C channels per place.
//
// With mu, s and b one number per channel, v = (x - mu) * s + b and y = f(v):
//
//     forward     y
//     backward    g = dy * f'(v), and the sums over rows of g and of g * (x - mu)
//     norm back   dx = a * g + e * (x - mu) + c: the rest of BatchNorm's backward, see norm.py
//
// The rows are divided into pieces of a fixed size. One thread computes the sums of a piece, and the pieces
// are added in order, so that sums don't depend on the number of threads.
#include "common.h"

#include <numeric>
#include <vector>

namespace {

constexpr long PIECE = 1 << 15;  // numbers in a piece at least: 64 kB in bfloat16

static inline vec each(float v) { return v + vec{}; }

// e^x for x <= 0: x = k ln 2 + r with |r| <= ln 2 / 2, the series of e^r, and k in the exponent. The error is
// 1e-7. With ROUGH it is 5e-5, which is below the rounding error of bfloat16, 4e-3.
template <bool ROUGH> static inline vec exp_down(vec x) {
    x = x < -87.f ? each(-87.f) : x;
    const vec magic = each(12582912.f);  // 1.5 * 2^23: adding it rounds to an integer
    vec n = x * 1.44269504f + magic, k = n - magic;
    vec r = x - k * 0.693359375f + k * 2.12194440e-4f;
    vec p = each(1.f / 24);
    if (!ROUGH) p = ((each(1.f / 5040) * r + 1.f / 720) * r + 1.f / 120) * r + 1.f / 24;
    p = p * r + 1.f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.f;
    p = p * r + 1.f;
    return (vec)((ivec)p + ((ivec)n << 23));
}

// f(v) and its derivative. NaN stays NaN.
template <class T> struct Gelu {  // v * Phi(v); Phi by Abramowitz and Stegun 1964
    static void both(vec v, vec& y, vec& slope) {
        constexpr bool ROUGH = PAIR<T> == 2;
        vec size = v < 0.f ? -v : v, bell = exp_down<ROUGH>(v * v * -0.5f), tail;
        if (ROUGH) {  // formula 7.1.25, error 2e-5
            vec t = inverse(size * (0.47047f * 0.70710678f) + 1.f);
            tail = ((each(0.3739278f) * t - 0.0479399f) * t + 0.1740121f) * t * bell;
        } else {  // formula 7.1.26, error 1e-7
            vec t = 1.f / (size * (0.3275911f * 0.70710678f) + 1.f);
            tail = each(1.061405429f) * t - 1.453152027f;
            tail = tail * t + 1.421413741f;
            tail = tail * t - 0.284496736f;
            tail = tail * t + 0.254829592f;
            tail = tail * t * bell * 0.5f;
        }
        vec cdf = v < 0.f ? tail : 1.f - tail;
        y = v * cdf;
        slope = cdf + v * bell * 0.39894228f;
    }
};

struct Relu {
    static void both(vec v, vec& y, vec& slope) {
        y = v <= 0.f ? vec{} : v;
        slope = v <= 0.f ? vec{} : each(1.f);
    }
};

struct Same {
    static void both(vec v, vec& y, vec& slope) {
        y = v;
        slope = each(1.f);
    }
};

// One number per channel, repeated so that it fills a whole number of vectors.
struct Channels {
    std::vector<float> values;
    Channels(const float* p, int C, int period) : values(period) {
        for (int k = 0; k < period; k++) values[k] = p[k % C];
    }
    vec operator[](int k) const { return load_vec(&values[k]); }
};

// Rows in pieces of whole periods. The rest is padded with zeros to one period.
struct Pieces {
    int period;
    long total, whole, piece, count;
    Pieces(long rows, int C) {
        period = C / std::gcd(C, LANES) * LANES;
        total = rows * C;
        whole = total / period * period;
        piece = (PIECE + period - 1) / period * period;
        count = (whole + piece - 1) / piece;
    }
    long left() const { return total - whole; }
    // work(first number, numbers, piece) for every whole piece, in parallel
    template <class F> void run(F work) const {
#pragma omp parallel for schedule(static)
        for (long i = 0; i < count; i++) work(i * piece, std::min(piece, whole - i * piece), i);
    }
};

template <class T> struct Rest {  // the rest, padded
    std::vector<T> v;
    Rest(const T* p, const Pieces& all) : v(all.period) {
        if (p) std::copy(p + all.whole, p + all.total, v.begin());
    }
    void back(T* p, const Pieces& all) { std::copy(v.begin(), v.begin() + all.left(), p + all.whole); }
};

template <class T, class F>
void act_forward(const T* x, T* y, long rows, int C, const float* mean, const float* scale, const float* bias) {
    Pieces all(rows, C);
    const int L = all.period;
    Channels mu(mean, C, L), s(scale, C, L), b(bias, C, L);
    auto part = [&](const T* x, T* y, long n) {
        for (long i = 0; i < n; i += L)
            for (int k = 0; k < L; k += LANES) {
                vec out, slope;
                F::both((load(x + i + k) - mu[k]) * s[k] + b[k], out, slope);
                store(y + i + k, out);
            }
    };
    all.run([&](long at, long n, long) { part(x + at, y + at, n); });
    if (all.left()) {
        Rest<T> rx(x, all), ry(nullptr, all);
        part(rx.v.data(), ry.v.data(), L);
        ry.back(y, all);
    }
}

// sums[0..C) are the sums of g, sums[C..2C) those of g * (x - mu). g may be nullptr, and may be dy.
template <class T, class F>
void act_backward(const T* x, const T* dy, T* g, long rows, int C, const float* mean, const float* scale,
                  const float* bias, float* sums) {
    Pieces all(rows, C);
    const int L = all.period;
    Channels mu(mean, C, L), s(scale, C, L), b(bias, C, L);
    std::vector<float> pieces((all.count + 1) * 2 * L, 0.f);
    auto part = [&](const T* x, const T* dy, T* g, long n, float* sum) {
        for (long i = 0; i < n; i += L)
            for (int k = 0; k < L; k += LANES) {
                vec centered = load(x + i + k) - mu[k], y, slope;
                F::both(centered * s[k] + b[k], y, slope);
                vec back = load(dy + i + k) * slope;
                if (g) store(g + i + k, back);
                store_vec(sum + k, load_vec(sum + k) + back);
                store_vec(sum + L + k, load_vec(sum + L + k) + back * centered);
            }
    };
    all.run([&](long at, long n, long i) { part(x + at, dy + at, g ? g + at : g, n, &pieces[i * 2 * L]); });
    if (all.left()) {
        Rest<T> rx(x, all), rdy(dy, all);
        part(rx.v.data(), rdy.v.data(), rdy.v.data(), L, &pieces[all.count * 2 * L]);
        if (g) rdy.back(g, all);
    }
    for (int c = 0; c < 2 * C; c++) {
        double sum = 0;
        for (long i = 0; i <= all.count; i++)
            for (int k = c % C; k < L; k += C) sum += pieces[i * 2 * L + c / C * L + k];
        sums[c] = sum;
    }
}

template <class T> auto forward_of(int act) {
    return act == 0 ? act_forward<T, Same> : act == 1 ? act_forward<T, Relu> : act_forward<T, Gelu<T>>;
}
template <class T> auto backward_of(int act) {
    return act == 0 ? act_backward<T, Same> : act == 1 ? act_backward<T, Relu> : act_backward<T, Gelu<T>>;
}

template <class T>
void norm_backward(const T* x, const T* g, T* dx, long rows, int C, const float* mean, const float* of_g,
                   const float* of_x, const float* constant) {
    Pieces all(rows, C);
    const int L = all.period;
    Channels mu(mean, C, L), a(of_g, C, L), e(of_x, C, L), c(constant, C, L);
    auto part = [&](const T* x, const T* g, T* dx, long n) {
        for (long i = 0; i < n; i += L)
            for (int k = 0; k < L; k += LANES)
                store(dx + i + k, load(g + i + k) * a[k] + (load(x + i + k) - mu[k]) * e[k] + c[k]);
    };
    all.run([&](long at, long n, long) { part(x + at, g + at, dx + at, n); });
    if (all.left()) {
        Rest<T> rx(x, all), rg(g, all);
        part(rx.v.data(), rg.v.data(), rg.v.data(), L);
        rg.back(dx, all);
    }
}

// Each channel's mean and variance over its rows. The first row is subtracted before squaring, so that a
// common offset doesn't cost accuracy.
template <class T> void moments(const T* x, long rows, int C, float* mean, float* var) {
    Pieces all(rows, C);
    const int L = all.period;
    std::vector<float> first(C);
    for (int c = 0; c < C; c++) {
        std::vector<T> one(LANES, x[c]);
        first[c] = load(one.data())[0];
    }
    Channels base(first.data(), C, L);
    std::vector<float> pieces((all.count + 1) * 2 * L, 0.f);
    auto part = [&](const T* x, long n, float* sum) {
        for (long i = 0; i < n; i += L)
            for (int k = 0; k < L; k += LANES) {
                vec v = load(x + i + k) - base[k];
                store_vec(sum + k, load_vec(sum + k) + v);
                store_vec(sum + L + k, load_vec(sum + L + k) + v * v);
            }
    };
    all.run([&](long at, long n, long i) { part(x + at, n, &pieces[i * 2 * L]); });
    if (all.left()) {
        Rest<T> rx(x, all);
        for (long i = all.left(); i < L; i++) rx.v[i] = x[i % C];  // adds nothing
        part(rx.v.data(), L, &pieces[all.count * 2 * L]);
    }
    for (int c = 0; c < C; c++) {
        double sum = 0, squares = 0;
        for (long i = 0; i <= all.count; i++)
            for (int k = c; k < L; k += C) {
                sum += pieces[i * 2 * L + k];
                squares += pieces[i * 2 * L + L + k];
            }
        mean[c] = first[c] + sum / rows;
        var[c] = std::max(0.0, squares / rows - sum / rows * (sum / rows));
        if (sum != sum) var[c] = sum;
    }
}

// The backward of f(BatchNorm(x)). dx holds g temporarily. sums as in act_backward.
template <class T>
void norm_act_backward(const T* x, const T* dy, T* dx, long rows, int C, const float* mean, const float* rstd,
                       const float* scale, const float* bias, float* sums, int act, bool training) {
    backward_of<T>(act)(x, dy, dx, rows, C, mean, scale, bias, sums);
    std::vector<float> a(scale, scale + C), e(C), c(C);
    for (int k = 0; training && k < C; k++) {  // norm.py has the derivation
        c[k] = -scale[k] * sums[k] / rows;
        e[k] = -scale[k] * rstd[k] * rstd[k] * sums[C + k] / rows;
    }
    norm_backward(x, dx, dx, rows, C, mean, a.data(), e.data(), c.data());
}

}  // namespace

#define EXPORT(T, suffix)                                                                                       \
    long act_forward_##suffix(const T* x, T* y, long rows, int c, const float* mean, const float* scale,        \
                              const float* bias, int act) {                                                     \
        return bytes_missing([&] { forward_of<T>(act)(x, y, rows, c, mean, scale, bias); });                    \
    }                                                                                                           \
    long act_backward_##suffix(const T* x, const T* dy, T* g, long rows, int c, const float* mean,              \
                               const float* scale, const float* bias, float* sums, int act) {                   \
        return bytes_missing([&] { backward_of<T>(act)(x, dy, g, rows, c, mean, scale, bias, sums); });         \
    }                                                                                                           \
    long norm_act_backward_##suffix(const T* x, const T* dy, T* dx, long rows, int c, const float* mean,        \
                                    const float* rstd, const float* scale, const float* bias, float* sums,      \
                                    int act, int training) {                                                    \
        return bytes_missing([&] {                                                                              \
            norm_act_backward(x, dy, dx, rows, c, mean, rstd, scale, bias, sums, act, training);                \
        });                                                                                                     \
    }                                                                                                           \
    long moments_##suffix(const T* x, long rows, int c, float* mean, float* var) {                              \
        return bytes_missing([&] { moments(x, rows, c, mean, var); });                                          \
    }

extern "C" {
EXPORT(float, f32)
EXPORT(bf16, bf16)
}
