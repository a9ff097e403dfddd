// The term of discretized_logistic_nll, for vectors and for single numbers: exp, log, select and the like of the
// including namespace must be declared before.
#pragma once
#include "scalar_of.h"

namespace compvae {
namespace COMPVAE_ISA {

// -log P(x), with a = (x - mu + 1/510)/s, b = (x - mu - 1/510)/s and y = a - b = 1/(255 s):
//     log P = log S(a) + log S(-b) + log(1 - exp(-y)),
// its first term alone at x = 0, its second alone at x = 1. Inputs x, mu, log s. x - mu is taken first: where a or b
// is small, so is its rounding.
template <class V>
struct DiscretizedLogisticNll {
    using T = ScalarOf<V>;
    static constexpr int INPUTS = 3;
    static constexpr double HALF_BIN = 1.0 / 510, LOG_BIN = -5.541263545158426;  // log(1/255)

    static COMPVAE_INLINE V value(const V (&in)[INPUTS]) {
        const Bin bin(in);
        const V y = T(2 * HALF_BIN) * bin.rate;
        const V near = in[2] - T(LOG_BIN) - log(1 - y * exp_tail(-y)), far = -log(1 - exp(-y));
        const V width = select<V>(y < T(0.5), near, far);
        const V below = select<V>(bin.highest, V{}, softplus(-bin.a)), above = select<V>(bin.lowest, V{}, softplus(bin.b));
        return below + above + select<V>(bin.lowest | bin.highest, V{}, width);
    }
    static COMPVAE_INLINE void gradient(const V (&in)[INPUTS], V (&out)[INPUTS]) {
        const Bin bin(in);
        const V y = T(2 * HALF_BIN) * bin.rate;
        // d log S(a) / da and d log S(-b) / d(-b)
        const V below = sigmoid(-bin.a), above = sigmoid(bin.b);
        const V inside = bin.inside(y), middle = select<V>(bin.difference < 0, inside, -inside);
        const V to_x = product(bin.rate, select<V>(bin.lowest, below, select<V>(bin.highest, -above, middle)));
        const V a_term = product(bin.a, below), b_term = product(bin.b, above);
        const V width = select<V>(y < T(1e-30), splat<V>(T(1)), product(y, 1 / expm1(y)));
        out[0] = -to_x;
        out[1] = to_x;
        out[2] = select<V>(bin.lowest, a_term, select<V>(bin.highest, -b_term, a_term - b_term + width));
    }

  private:
    struct Bin {
        V difference, rate, a, b;
        decltype(V{} < V{}) lowest, highest;

        explicit COMPVAE_INLINE Bin(const V (&in)[INPUTS]) {
            difference = in[0] - in[1];
            rate = exp(-in[2]);
            a = (difference + T(HALF_BIN)) * rate;
            b = (difference - T(HALF_BIN)) * rate;
            lowest = in[0] < T(HALF_BIN);
            highest = in[0] > T(1 - HALF_BIN);
        }
        // |S(-a) - S(b)| = sinh u / (cosh u + cosh(y/2)), u = |x - mu| / s: nothing cancels
        COMPVAE_INLINE V inside(V y) const {
            const V away = abs(difference), beyond = (away - T(HALF_BIN)) * rate, one = splat<V>(T(1));
            const V e = exp(-abs(beyond)), grown = -expm1(-2 * away * rate);
            const V of_u = select<V>(beyond < 0, e, one), of_y = select<V>(beyond > 0, e, one);
            return grown * of_u / (of_u * (2 - grown) + of_y * (1 + exp(-y)));
        }
    };
    // x times a density that has vanished is 0, be x infinite.
    static COMPVAE_INLINE V product(V x, V density) { return select<V>(density == 0, V{}, x * density); }
};

}  // namespace COMPVAE_ISA
}  // namespace compvae
