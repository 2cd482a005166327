// exp and a·b + c as torch computes them on CPUs, bit for bit. At rate constant 50 training is so unstable that the
// last bit of a sigmoid decides after how many passes the net is right; with Math.exp the counts would be others.
//
// e^a = 2^q · e^s with q = round(a / ln 2), and e^s is a polynomial in s. Every product is added by `fma`, which
// rounds once. Source: Shibata and Petrogalli 2020, "SLEEF: a portable vectorized library of C standard
// mathematical functions", exp with 1.0 ULP.

const LN2_HIGH = 0.69314718055966295651160180568695068359375,
  LN2_LOW = 0.28235290563031577122588448175013436025525412068e-12;
const COEFFICIENTS = [
  // of s^3 and the powers above it
  0.1666666666666669072, 0.04166666666666602598, 0.00833333333331493821, 0.001388888888914497797,
  0.000198412698985586585, 2.480158687479686264e-5, 2.755723402025388239e-6, 2.755762628169491192e-7,
  2.511210703042288022e-8, 2.081276378237164457e-9,
];

const number = new Float64Array(1),
  bits = new BigInt64Array(number.buffer);

// [sum, error]: a + b = sum + error exactly. Source: Knuth 1969
function twoSum(a, b) {
  const sum = a + b,
    part = sum - a;
  return [sum, a - (sum - part) + (b - part)];
}

// [high, low]: a = high + low, each with 26 bits. Source: Dekker 1971
function halves(a) {
  const wide = 134217729 * a,
    high = wide - (wide - a);
  return [high, a - high];
}

// a·b + c, rounded once. Source: Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums"
export function fma(a, b, c) {
  const [ah, al] = halves(a),
    [bh, bl] = halves(b),
    product = a * b;
  const error = al * bl - (product - ah * bh - al * bh - ah * bl);
  const [high, low] = twoSum(c, error),
    [sum, rest] = twoSum(product, high);
  const [small, lost] = twoSum(rest, low);
  number[0] = small;
  if (lost !== 0 && (bits[0] & 1n) === 0n) bits[0] += lost > 0 === small > 0 ? 1n : -1n; // to the odd neighbor
  return sum + number[0];
}

export function exp(a) {
  if (!(Math.abs(a) < 700)) return Math.exp(a); // saturated
  let q = a * 1.4426950408889634;
  q = Math.abs(q % 1) === 0.5 ? 2 * Math.round(q / 2) : Math.round(q); // half to even
  const s = fma(q, -LN2_LOW, fma(q, -LN2_HIGH, a)),
    s2 = s * s,
    s4 = s2 * s2;
  const c = COEFFICIENTS,
    pair = (k) => fma(s, c[k + 1], c[k]),
    four = (k) => fma(s2, pair(k + 2), pair(k));
  let u = fma(s4 * s4, pair(8), fma(s4, four(4), four(0)));
  for (const next of [0.5, 1, 1]) u = fma(u, s, next);
  return u * 2 ** q;
}
