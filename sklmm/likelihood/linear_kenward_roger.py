"""What Kenward and Roger's method needs of the rows: an adjusted covariance of the coefficients, and its parts.

The rows' covariance is linear in V itself and in the entries of G = Lambda Lambda'. In units of sigma^2 and with the
names of `linear_crossproducts`, for E_r the matrix of an entry of G,

    V^-1 dV V^-1, between columns of X:   X'V^-1 X for V,   b'E_r b for an entry
    V^-1 dV V^-1 dV V^-1, likewise:       X'V^-1 X,  b'E_r b,  b'E_r R E_s b
    tr(V^-1 dV V^-1 dV):                  n,  tr(R E_r),  tr(R E_r R E_s)

Kenward MG, Roger JH (1997). Small sample inference for fixed effects from restricted maximum likelihood. Biometrics 53,
983-997: P, Q and the expected information W^-1 of their section 2.
"""

import numpy as np

from sklmm.likelihood.linear_crossproducts import ClusterProducts

MOST_EFFECTS = 3000  # of several factors: their covariance is written out
CLUSTERS_AT_ONCE = 4096


def kenward_roger(products, theta, sigma):
    """The covariance of the coefficients allowing for the variances' errors, its plain form, and derivatives.

    Parameters
    ----------
    products : ClusterProducts or SeveralProducts
    theta : ndarray
        At the REML optimum.
    sigma : float

    Returns
    -------
    covariance, plain : ndarray of shape (f, f)
        Of the estimated coefficients, of standardised columns.
    gradient : ndarray of shape (m + 1, f, f)
    variance_vcov : ndarray of shape (m + 1, m + 1)

    Raises
    ------
    ValueError
        Where there are too many random effects of several factors.
    """
    f, m = products.f, products.covariance.m
    if isinstance(products, ClusterProducts):
        parts = _of_clusters(products, theta)
    else:
        parts = _of_several(products, theta)
    first, second, traces, pairs = parts
    Q = products.evaluate(theta)[1][:f, :f]
    Phi = np.linalg.inv(Q)
    P = np.concatenate([first, Q[None]])
    middle, T = np.empty((m + 1, m + 1, f, f)), np.empty((m + 1, m + 1))
    middle[:m, :m], T[:m, :m] = second, pairs
    middle[:m, m] = middle[m, :m] = first
    T[:m, m] = T[m, :m] = traces
    middle[m, m], T[m, m] = Q, products.n_counted
    PhiP = Phi @ P
    information = T - 2.0 * np.einsum("ab,rsba->rs", Phi, middle) + np.einsum("rab,sba->rs", PhiP, PhiP)
    W = 2.0 * np.linalg.pinv(information, rcond=1e-12, hermitian=True)
    between = middle - np.einsum("rab,sbc->rsac", P, PhiP)
    added = 2.0 * Phi @ np.einsum("rs,rsab->ab", W, between) @ Phi
    plain = sigma**2 * Phi
    return plain + 0.5 * sigma**2 * (added + added.T), plain, sigma**2 * (PhiP @ Phi), W


def _units(covariance):
    """The matrix of each entry of G, (m, q, q)."""
    E = np.zeros((covariance.m, covariance.q, covariance.q))
    entries = np.arange(covariance.m)
    E[entries, covariance.row, covariance.col] = E[entries, covariance.col, covariance.row] = 1.0
    return E


def _of_clusters(products, theta):
    f, q, E = products.f, products.covariance.q, _units(products.covariance)
    m, Lambda = len(E), products.covariance.lambda_(theta)
    first, second = np.zeros((m, f, f)), np.zeros((m, m, f, f))
    traces, pairs = np.zeros(m), np.zeros((m, m))
    for begin in range(0, len(products.A), CLUSTERS_AT_ONCE):
        part = slice(begin, begin + CLUSTERS_AT_ONCE)
        A, B = products.A[part], products.B[part, :, :f]
        both = np.linalg.solve(np.eye(q) + A @ (Lambda @ Lambda.T), np.concatenate([A, B], axis=2))
        R, b = both[:, :, :q], both[:, :, q:]
        RE = np.einsum("nab,rbc->rnac", R, E)
        traces += np.einsum("rnaa->r", RE)
        pairs += np.einsum("rnab,snba->rs", RE, RE)
        Eb = np.einsum("rab,nbx->rnax", E, b)
        first += np.einsum("nax,rnay->rxy", b, Eb)
        second += np.einsum("rnax,nab,snby->rsxy", Eb, R, Eb, optimize=True)
    return first, second, traces, pairs


def _of_several(products, theta):
    """With R of all random effects written out."""
    b, R, where = products.written_out(theta, MOST_EFFECTS)
    m, f = len(where), products.f
    Eb = []
    for rows, cols in where:
        each = np.zeros((len(R), f))
        each[rows] = b[cols]
        if not np.array_equal(rows, cols):
            each[cols] += b[rows]
        Eb.append(each)
    first = np.array([b.T @ each for each in Eb])
    second, traces, pairs = np.zeros((m, m, f, f)), np.zeros(m), np.zeros((m, m))
    RE = []
    for rows, cols in where:
        each = np.zeros_like(R)
        each[:, cols] = R[:, rows]
        if not np.array_equal(rows, cols):
            each[:, rows] += R[:, cols]
        RE.append(each)
    for r in range(m):
        REb = R @ Eb[r]
        traces[r] = np.trace(RE[r])
        for s in range(m):
            second[s, r] = Eb[s].T @ REb
            pairs[s, r] = np.sum(RE[s] * RE[r].T)
    return first, second, traces, pairs
