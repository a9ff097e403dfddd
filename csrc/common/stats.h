// What the forward pass of the correlated Gaussian leaves for the backward pass.
#pragma once

namespace compvae {

enum class Coupling { unit = 0, scaled = 1 };

// Rows of stats [COUNT][B][D]; m is the part with the largest logit.
template <Coupling C, bool KL, bool DRAW>
struct Stats {
    static constexpr bool unit = C == Coupling::unit;
    enum {
        LARGEST_LOGIT,
        INVERSE_Z,        // rho_i = exp(nu_i - max(0, nu_m)) * this
        ONE_MINUS_RHO_M,  // from the other logits
        // posterior sum and KL: unit E, E - eps_m, sigma_m - sum rho sigma, log sigma_m^2; scaled T, 1 - sum rho
        // parts:                unit E, E - eps_m, 1 - sum rho;                      scaled T, T - sigma_m eps_m, 1 - sum rho
        NOISE,
        NOISE_OTHERS = NOISE + (DRAW && (unit || !KL)),
        NOISE_FACTOR = NOISE_OTHERS + DRAW,
        LOGVAR_M = NOISE_FACTOR + (DRAW && KL && unit),
        // sum_j rho_j y_j, y_j = R_j (K rho_j - 1) (unit) or rho_j V / s_j^2 - R_j (scaled), with and without m
        H = (DRAW ? int(LOGVAR_M) + 1 : int(NOISE)),
        H_OTHERS = H + KL,
        FACTOR_M = H_OTHERS + (KL && unit),  // unit: (1 - rho_m)^2 + (K - 1) rho_m^2
        V = H_OTHERS + (KL && !unit),        // scaled: sum sigma^2 and sum rho^2 / s^2, with and without m
        V_OTHERS = V + (KL && !unit),
        Q = V_OTHERS + (KL && !unit),
        Q_OTHERS = Q + (KL && !unit),
        COUNT = KL ? (unit ? int(FACTOR_M) : int(Q_OTHERS)) + 1 : int(H)
    };
};

}  // namespace compvae
